"""Warping of scenes to the grid of a model, as counts.

The counts have 8 bits. Area averages are computed in linear power, and each pixel is weighted by its area in
the cell. A cell has data if at least half of it has. The scene is read once, tile by tile, whatever its size.
Its counts are written to a raster, from which windows are read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, OptionError
from geovision.physics.backscatter import NO_DATA, DecibelRange, db_to_counts, to_db
from geovision.readers.sar.geotiff import RadarScene, SceneReader
from geovision.readers.sar.map_grid import (
    MapGrid,
    rasterio_module,
    sample_points,
    suppress_georeference_warning,
)
from geovision.readers.sar.quantities import to_averageable

__all__ = ["CountsRaster", "average_to_grid", "check_db_range", "check_pixels", "write_counts"]

MAX_BLOCK_PIXELS = 1_500_000
"""Number of scene pixels in memory for one tile: about 100 MB with all derived arrays."""

_TILE = 1024
_MAX_SOURCE_PIXELS = 40 * MAX_BLOCK_PIXELS
_SCALE_TOLERANCE = 1.2  # the largest scale error of a projection
_EDGE_MARGIN = 1 / 32  # fraction of a window of the scene, read beyond the edges of a tile


# --- averages -----------------------------------------------------------------------------------


def check_pixels(scene: RadarScene, pixel_size: float) -> None:
    """Raise if the pixels of a scene are too coarse.

    Args:
        scene: Scene on disk.
        pixel_size: Pixel size of the model, in m.

    Raises:
        InputError: The pixels are larger; the message has both sizes.
    """
    coarse = max(scene.grid.ground_cell_size())
    if not math.isfinite(coarse):
        raise InputError(f"{scene.path}: its center has no position on the globe; check its coordinates")
    if coarse > _SCALE_TOLERANCE * pixel_size:
        raise InputError(
            f"{scene.path}: pixels of {coarse:.4g} m; the model expects at most {pixel_size:g} m. Choose a "
            "finer scene, or a model with coarser pixels"
        )


def average_to_grid(
    reader: SceneReader, grid: MapGrid, row: int, column: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average a scene over the cells of a window of a grid.

    Args:
        reader: Reader of the scene.
        grid: Grid in any projection, with cells about as large as the scene's pixels, or larger.
        row: First row of the window.
        column: First column of the window.
        shape: Number of rows and columns of the window.

    Returns:
        Mean linear power (or mean counts) of the pixels with data, float32, shape ``(channel, y, x)``; and
        the fraction of each cell with data, float32, shape ``(y, x)``.

    Raises:
        InputError: One cell covers too many pixels of the scene.
        UnreadableFileError: The file is damaged.
    """
    part = grid.window(row, column, shape)
    top, left, size = _source_window(reader.scene, part)
    mean = np.zeros((len(reader.scene.bands), *shape), np.float32)
    if size[0] * size[1] == 0:
        return mean, np.zeros(shape, np.float32)
    if size[0] * size[1] > 4 * MAX_BLOCK_PIXELS and min(shape) > 1:
        return _average_quadrants(reader, grid, row, column, shape)
    if size[0] * size[1] > _MAX_SOURCE_PIXELS:
        raise InputError(
            f"{reader.scene.path}: one cell of the map covers {size[0]} x {size[1]} pixels; make its pixels "
            "coarser first, for instance gdalwarp -t_srs EPSG:3995 -tr 40 40 -r average"
        )
    values, valid = reader.read(top, left, size)
    if not valid.any():
        return mean, np.zeros(shape, np.float32)
    power = np.where(valid, to_averageable(reader.scene.quantity, values), np.float32(0))
    if _aligned_origin(reader.scene.grid, part) is not None:
        return power, valid.astype(np.float32)
    summed = _warp(
        np.concatenate([power, valid[None].astype(np.float32)]),
        reader.scene.grid.window(top, left, size),
        part,
    )
    fraction = summed[-1]
    # Divide by 1 where there are no data.
    summed[:-1] /= np.where(fraction > 0, fraction, 1)
    return summed[:-1], fraction


def _average_quadrants(
    reader: SceneReader, grid: MapGrid, row: int, column: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = np.zeros((len(reader.scene.bands), *shape), np.float32)
    fraction = np.zeros(shape, np.float32)
    for r, height in _split_half(shape[0]):
        for c, width in _split_half(shape[1]):
            found = average_to_grid(reader, grid, row + r, column + c, (height, width))
            mean[:, r : r + height, c : c + width], fraction[r : r + height, c : c + width] = found
    return mean, fraction


def _split_half(side: int) -> list[tuple[int, int]]:
    half = side // 2
    return [(0, half), (half, side - half)] if half else [(0, side)]


def _source_window(scene: RadarScene, part: MapGrid) -> tuple[int, int, tuple[int, int]]:
    """Return the window of the scene that covers another grid.

    It is given as first row, first column and shape.
    """
    own = scene.grid
    if (aligned := _aligned_origin(own, part)) is not None:
        return (*aligned, part.shape) if _intersects(aligned, part.shape, own.shape) else (0, 0, (0, 0))
    x, y = part.points(*sample_points(part.shape), own.crs)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        x, y = x[np.isfinite(x) & np.isfinite(y)], y[np.isfinite(x) & np.isfinite(y)]
        if not x.size:
            return 0, 0, (0, 0)
    if own.rasterio_crs.is_geographic:
        center = own.transform[2] + own.transform[0] * own.shape[1] / 2 + own.transform[1] * own.shape[0] / 2
        x = (x - center + 180) % 360 - 180 + center
    rows, columns = own.rowcol(x, y)
    begin, end = [], []
    for positions, length in ((rows, own.shape[0]), (columns, own.shape[1])):
        low, high = float(positions.min()), float(positions.max())
        margin = 2 + _EDGE_MARGIN * (high - low)
        begin.append(math.floor(max(low - margin, -margin - 2)))
        end.append(math.ceil(min(high + margin, length + margin + 2)))
    size = (end[0] - begin[0], end[1] - begin[1])
    return (
        (begin[0], begin[1], size) if _intersects((begin[0], begin[1]), size, own.shape) else (0, 0, (0, 0))
    )


def _intersects(corner: tuple[int, int], size: tuple[int, int], shape: tuple[int, int]) -> bool:
    return all(c < length and c + n > 0 for c, n, length in zip(corner, size, shape, strict=True))


def _aligned_origin(own: MapGrid, part: MapGrid) -> tuple[int, int] | None:
    """Return the offset of an aligned window in the scene, or None.

    The cells of an aligned window are pixels of the scene.
    """
    if own.crs != part.crs or not np.allclose(
        np.delete(own.transform, [2, 5]), np.delete(part.transform, [2, 5]), rtol=1e-9, atol=0
    ):
        return None
    row, column = own.rowcol(part.transform[2], part.transform[5])
    near = round(row), round(column)
    return near if max(abs(row - near[0]), abs(column - near[1])) < 1e-3 else None


def _warp(values: NDArray[np.float32], own: MapGrid, part: MapGrid) -> NDArray[np.float32]:
    """Average values over the cells of another grid."""
    rasterio = rasterio_module()
    found = np.zeros((len(values), *part.shape), np.float32)
    rasterio.warp.reproject(
        values,
        found,
        src_transform=own.affine,
        src_crs=own.rasterio_crs,
        dst_transform=part.affine,
        dst_crs=part.rasterio_crs,
        resampling=rasterio.enums.Resampling.average,
    )
    return found


# --- counts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountsRaster:
    """Counts of a scene on a model's grid, on disk.

    Args:
        path: Path of a file from `write_counts`.
        grid: Grid of the model.
        channels: Channels in the order of the bands.
    """

    path: str
    grid: MapGrid
    channels: tuple[str, ...]

    def read(
        self, row: int, column: int, shape: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a window within the grid.

        Args:
            row: First row of the window.
            column: First column of the window.
            shape: Number of rows and columns of the window.

        Returns:
            Counts, uint8, shape ``(channel, y, x)``, 0 where there are no data; and the valid mask, bool,
            shape ``(y, x)``.
        """
        rasterio = rasterio_module()
        with rasterio.open(self.path) as dataset:
            counts = dataset.read(window=rasterio.windows.Window(column, row, shape[1], shape[0]))
        return counts, counts[0] != NO_DATA

    def overview(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the whole raster at a lower resolution.

        Values are means of the cells with data.

        Args:
            shape: Number of rows and columns.

        Returns:
            Counts, uint8, shape ``(channel, y, x)``.
        """
        rasterio = rasterio_module()
        with rasterio.open(self.path) as dataset:
            return dataset.read(
                out_shape=(len(self.channels), *shape), resampling=rasterio.enums.Resampling.average
            )


def write_counts(
    scene: RadarScene,
    grid: MapGrid,
    db_range: Mapping[str, DecibelRange] | None,
    path: Path,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CountsRaster:
    """Average a scene to a grid and write its counts.

    Args:
        scene: Scene in any quantity.
        grid: Grid of the model, see `geovision.readers.sar.map_grid.model_grid`.
        db_range: Decibels of the counts 1 and 255 by channel; None for a scene in counts.
        path: Path of an uncompressed GeoTIFF; an existing file is replaced.
        threads: Number of threads that read and average tiles. Default: 1.
        progress: Function called with the number of finished tiles and of all tiles. Default: no report.

    Returns:
        Counts on disk.

    Raises:
        OptionError: `db_range` is missing, or given for counts.
        UnreadableFileError: The scene is damaged.
    """
    check_db_range(scene.path, scene.channels, scene.quantity, db_range)
    rasterio = rasterio_module()
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": len(scene.channels),
        "height": grid.shape[0],
        "width": grid.shape[1],
        "crs": grid.rasterio_crs,
        "transform": grid.affine,
        "nodata": NO_DATA,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "interleave": "band",
        "SPARSE_OK": True,
        "BIGTIFF": "IF_SAFER",
    }
    windows = list(iter_tiles(scene, grid))
    with (
        suppress_georeference_warning(),
        rasterio.open(path, "w", **profile) as raster,
        ThreadPoolExecutor(threads) as pool,
    ):
        found = _map_ordered(
            pool, partial(_tile_counts, scene, grid, db_range), windows, max_pending=threads + 2
        )
        for number, ((row, column, shape), counts) in enumerate(found, 1):
            if counts is not None:
                raster.write(counts, window=rasterio.windows.Window(column, row, shape[1], shape[0]))
            progress(number, len(windows))
    return CountsRaster(str(path), grid, scene.channels)


def _map_ordered(
    pool: ThreadPoolExecutor,
    work: Callable[..., Any],
    windows: list[tuple[int, int, tuple[int, int]]],
    *,
    max_pending: int,
) -> Iterator[tuple[tuple[int, int, tuple[int, int]], Any]]:
    """Yield each window with its result, in order.

    The number of pending windows is limited.
    """
    pending: deque[tuple[tuple[int, int, tuple[int, int]], Future[Any]]] = deque()
    for window in windows:
        pending.append((window, pool.submit(work, *window)))
        if len(pending) >= max_pending:
            done, future = pending.popleft()
            yield done, future.result()
    for done, future in pending:
        yield done, future.result()


def check_db_range(
    where: str, channels: Sequence[str], quantity: str, db_range: Mapping[str, DecibelRange] | None
) -> None:
    """Raise if the decibel range is missing, or given for counts.

    Args:
        where: Name of the scene in error messages.
        channels: Channels of the scene.
        quantity: Quantity of the scene.
        db_range: Decibels of the counts 1 and 255 by channel.

    Raises:
        OptionError: Decibels are missing or not applicable; the message has the option.
    """
    if quantity == "counts":
        if db_range:
            raise OptionError(f"{where}: is in counts, which have no decibel range; remove --db-range")
        return
    lacking = [channel for channel in channels if channel not in (db_range or {})]
    if lacking:
        example = ",".join(f"{channel}=LOW:HIGH" for channel in channels)
        raise OptionError(
            f"{where}: in {quantity}, but the model expects counts of 0 to 255, whose decibels are not "
            f"declared for {lacking[0]}. Declare the decibels of 1 and 255 with --db-range {example}"
        )


def iter_tiles(scene: RadarScene, grid: MapGrid) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield row, column and shape of the tiles of a grid.

    Their size is limited by the scene pixels in memory.

    Args:
        scene: Scene on disk.
        grid: Grid of the model.
    """
    finer = [
        cell / own for cell, own in zip(grid.ground_cell_size(), scene.grid.ground_cell_size(), strict=True)
    ]
    side = math.isqrt(int(MAX_BLOCK_PIXELS / max(finer[0] * finer[1], 1.0)))
    side = max(min(side, _TILE) // 8 * 8, 8)
    for row in range(0, grid.shape[0], side):
        for column in range(0, grid.shape[1], side):
            yield row, column, (min(side, grid.shape[0] - row), min(side, grid.shape[1] - column))


def _tile_counts(
    scene: RadarScene,
    grid: MapGrid,
    db_range: Mapping[str, DecibelRange] | None,
    row: int,
    column: int,
    shape: tuple[int, int],
) -> NDArray[np.uint8] | None:
    """Return the counts of one tile; None if it has no data."""
    with scene.open_reader() as reader:
        mean, fraction = average_to_grid(reader, grid, row, column, shape)
    valid = fraction >= 0.5
    if not valid.any():
        return None
    if db_range is None or scene.quantity == "counts":
        return np.where(valid, np.maximum(np.rint(mean), 1), NO_DATA).astype(np.uint8)
    scaled = [
        db_to_counts(to_db(own), db_range[name], valid=valid)
        for name, own in zip(scene.channels, mean, strict=True)
    ]
    return np.stack(scaled)
