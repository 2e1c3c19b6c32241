"""A scene as a model sees it: averaged to the model's pixels, warped to its map, in 8-bit counts.

Averages over areas are taken of linear power, each pixel counting by how much of it lies in the cell;
a cell has data where half or more of it have. The scene is read once, a tile at a time, whatever its
size, and its counts are kept in a raster from which windows are cut.
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
"""Of the scene, that are in memory for one tile: about 100 MB with all that is made of them."""

_TILE = 1024
_MAX_SOURCE_PIXELS = 40 * MAX_BLOCK_PIXELS
_SCALE_TOLERANCE = 1.2  # a projection's scale, and no more
_EDGE_MARGIN = 1 / 32  # of a part of the scene, read beyond what the edges of a tile show


# --- averages -----------------------------------------------------------------------------------


def check_pixels(scene: RadarScene, pixel_size: float) -> None:
    """Raise where the scene's own pixels are larger than those that a model wants.

    Raises:
        InputError: With both sizes.
    """
    coarse = max(scene.grid.ground_cell_size())
    if not math.isfinite(coarse):
        raise InputError(f"{scene.path}: its middle is nowhere on the globe; check its coordinates")
    if coarse > _SCALE_TOLERANCE * pixel_size:
        raise InputError(
            f"{scene.path}: pixels of {coarse:.4g} m are coarser than the {pixel_size:g} m that the model "
            "takes; take a finer scene, or a model of coarser pixels"
        )


def average_to_grid(
    reader: SceneReader, grid: MapGrid, row: int, column: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Averages of a scene over the cells of a part of a grid.

    Args:
        reader: Of the scene.
        grid: In any projection, of cells about as large as the scene's pixels, or larger.
        row, column, shape: Of the part.

    Returns:
        float32 ``(channel, y, x)``: mean linear power (or mean counts) of what has data, and float32
        ``(y, x)``: the fraction of each cell that has.
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
    # Where there is nothing, nothing is divided.
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
    """First row, first column and shape of the pixels that lie in a part of another grid."""
    own = scene.grid
    if (aligned := _aligned_origin(own, part)) is not None:
        return (*aligned, part.shape) if _intersects(aligned, part.shape, own.shape) else (0, 0, (0, 0))
    x, y = part.points(*sample_points(part.shape), own.crs)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        x, y = x[np.isfinite(x) & np.isfinite(y)], y[np.isfinite(x) & np.isfinite(y)]
        if not x.size:
            return 0, 0, (0, 0)
    if own.rasterio_crs.is_geographic:
        middle = own.transform[2] + own.transform[0] * own.shape[1] / 2 + own.transform[1] * own.shape[0] / 2
        x = (x - middle + 180) % 360 - 180 + middle
    rows, columns = own.rowcol(x, y)
    begin, end = [], []
    for places, most in ((rows, own.shape[0]), (columns, own.shape[1])):
        low, high = float(places.min()), float(places.max())
        spare = 2 + _EDGE_MARGIN * (high - low)
        begin.append(math.floor(max(low - spare, -spare - 2)))
        end.append(math.ceil(min(high + spare, most + spare + 2)))
    size = (end[0] - begin[0], end[1] - begin[1])
    return (
        (begin[0], begin[1], size) if _intersects((begin[0], begin[1]), size, own.shape) else (0, 0, (0, 0))
    )


def _intersects(corner: tuple[int, int], size: tuple[int, int], shape: tuple[int, int]) -> bool:
    return all(c < whole and c + n > 0 for c, n, whole in zip(corner, size, shape, strict=True))


def _aligned_origin(own: MapGrid, part: MapGrid) -> tuple[int, int] | None:
    """Row and column of the scene at which a part begins whose cells are the scene's own pixels."""
    if own.crs != part.crs or not np.allclose(
        np.delete(own.transform, [2, 5]), np.delete(part.transform, [2, 5]), rtol=1e-9, atol=0
    ):
        return None
    row, column = own.rowcol(part.transform[2], part.transform[5])
    near = round(row), round(column)
    return near if max(abs(row - near[0]), abs(column - near[1])) < 1e-3 else None


def _warp(values: NDArray[np.float32], own: MapGrid, part: MapGrid) -> NDArray[np.float32]:
    """Means over the cells of a part of another grid, what lies beyond the pixels left out."""
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
    """The counts of a scene on a model's grid, on disk.

    Args:
        path: As `write_counts` wrote it.
        grid: Of the model.
        channels: In the order of the bands.
    """

    path: str
    grid: MapGrid
    channels: tuple[str, ...]

    def read(
        self, row: int, column: int, shape: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A part that lies within the grid: counts ``(channel, y, x)``, 0 being no data, and bool
        ``(y, x)``: where there are data."""
        rasterio = rasterio_module()
        with rasterio.open(self.path) as dataset:
            counts = dataset.read(window=rasterio.windows.Window(column, row, shape[1], shape[0]))
        return counts, counts[0] != NO_DATA

    def overview(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 ``(channel, y, x)``: all of it in fewer cells, means of those that have data."""
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
    progress: Callable[[int, int], None] = lambda done, whole: None,
) -> CountsRaster:
    """Average a scene to a grid and write its counts.

    Args:
        scene: In any quantity.
        grid: See `geovision.readers.sar.map_grid.model_grid`.
        db_range: Decibels of the counts 1 and 255 by channel; None for a scene in counts.
        path: Of a GeoTIFF that is not compressed; replaced.
        threads: That read and average tiles at the same time.
        progress: Is told tiles done and tiles in all.

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
    places = list(iter_tiles(scene, grid))
    with (
        suppress_georeference_warning(),
        rasterio.open(path, "w", **profile) as raster,
        ThreadPoolExecutor(threads) as pool,
    ):
        found = _map_ordered(
            pool, partial(_tile_counts, scene, grid, db_range), places, max_pending=threads + 2
        )
        for number, ((row, column, shape), counts) in enumerate(found, 1):
            if counts is not None:
                raster.write(counts, window=rasterio.windows.Window(column, row, shape[1], shape[0]))
            progress(number, len(places))
    return CountsRaster(str(path), grid, scene.channels)


def _map_ordered(
    pool: ThreadPoolExecutor,
    work: Callable[..., Any],
    windows: list[tuple[int, int, tuple[int, int]]],
    *,
    max_pending: int,
) -> Iterator[tuple[tuple[int, int, tuple[int, int]], Any]]:
    """Each place with what came of it, a few of them under way."""
    waiting: deque[tuple[tuple[int, int, tuple[int, int]], Future[Any]]] = deque()
    for place in windows:
        waiting.append((place, pool.submit(work, *place)))
        if len(waiting) >= max_pending:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


def check_db_range(
    where: str, channels: Sequence[str], quantity: str, db_range: Mapping[str, DecibelRange] | None
) -> None:
    """Raise where decibels of counts are needed and not told, or told and not needed.

    Raises:
        OptionError: With the option that is missing.
    """
    if quantity == "counts":
        if db_range:
            raise OptionError(f"{where}: is in counts, and takes no limits in decibels")
        return
    lacking = [channel for channel in channels if channel not in (db_range or {})]
    if lacking:
        example = ",".join(f"{channel}=LOW:HIGH" for channel in channels)
        raise OptionError(
            f"{where}: in {quantity}, and the model takes counts of 0 to 255 whose decibels are "
            f"not declared for {lacking[0]}; say what 1 and 255 are with --db-range {example}"
        )


def iter_tiles(scene: RadarScene, grid: MapGrid) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Row, column and shape of parts of a grid, each of about as many pixels as may be in memory."""
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
    """Counts of one tile; None where there is no data."""
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
