"""Projection of Sentinel-1 GRD in SAFE folders to a map.

satpy calibrates the data and subtracts the noise. A GRD image has no map projection: its lines follow the
track of the satellite. satpy computes the longitude and latitude of each pixel by splines through the tie
points. The splines are in three dimensions, so they are continuous at the pole and at the antimeridian.
Linear power is summed over small blocks of pixels, and the blocks over the cells that contain their centers.
"""

from __future__ import annotations

import datetime
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision._logging import suppress_logging
from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.readers.sar.geotiff import POLARIZATIONS, acquisition_time
from geovision.readers.sar.map_grid import MapGrid, rasterio_module, swath_grid, transform_points

__all__ = ["is_safe", "write_map"]

# Size of the digital numbers in a strip of lines: a million pixels, about 100 MB with all derived arrays.
_STRIP = "2MiB"
_BLOCKS = 4  # minimum number of blocks along the side of a cell
_MIN_VALID_FRACTION = 0.5  # minimum fraction of a cell with data
_MARGIN = 2.0  # cells; splines may extend beyond the tie points
_REQUIRED_FILES = (
    "measurement/{}.tiff",
    "annotation/{}.xml",
    "annotation/calibration/calibration-{}.xml",
    "annotation/calibration/noise-{}.xml",
)
# Exceptions of satpy and its libraries for damaged or unexpected files; SyntaxError is from XML.
_READ_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, SyntaxError)


def is_safe(path: str | Path) -> bool:
    """Return whether a path is a SAFE folder or its manifest.

    Args:
        path: Path.
    """
    path = Path(path)
    return path.suffix.upper() == ".SAFE" or (path / "manifest.safe").is_file()


def write_map(
    source: str | Path,
    path: Path,
    channels: Sequence[str],
    pixel_size: float,
    *,
    crs: str | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Project a SAFE folder to a GeoTIFF of sigma0.

    The values are linear power on a map. Each polarization is one named float32 band, NaN where less than
    half of a cell has data. The time is that of the manifest.

    satpy calibrates a pixel as ``(DN^2 - noise + 1) / sigmaNought^2``, and sets negative results to 0. The 1
    is the calibration constant of the files, about -50 dB.

    Args:
        source: SAFE folder, or its ``manifest.safe``.
        path: Path of the GeoTIFF; an existing file is replaced.
        channels: Channels in the order of the bands, ``"co_pol"`` and ``"cross_pol"``.
        pixel_size: Cell size in m, in the projection.
        crs: Projection, in m. Default: None, see `geovision.readers.sar.map_grid.swath_grid`.
        threads: Number of threads for calibration. Default: 1.
        progress: Function called with the number of finished strips and of all strips. Default: no report.

    Raises:
        MissingExtraError: satpy or a requirement of its reader is not installed.
        UnreadableFileError: A file of the folder is missing or damaged.
        InputError: A polarization is missing, or the pixels are too coarse.
        OptionError: `crs` is unknown, or not in meters.
    """
    satpy = _satpy_module()
    source = Path(source)
    folder = source.parent if source.name == "manifest.safe" else source
    acquired = _time(folder)
    stems = [_stem(folder, channel) for channel in channels]
    grid, side = _grid(folder, folder / _REQUIRED_FILES[0].format(stems[0]), pixel_size, crs)
    names = [_polarization(stem) for stem in stems]
    with _convert_errors(folder):
        power, longitude, latitude = _load_power(satpy, folder, stems, names)
    # The factor is odd, so that the center of a block is a pixel.
    factor = max(int(pixel_size / side / _BLOCKS - 1) // 2 * 2 + 1, 1)
    total = np.zeros((len(names), *grid.shape))
    count = np.zeros(grid.shape)
    for number, number_of_strips, strip in _strips(folder, power, longitude, latitude, factor, threads):
        _add(total, count, grid, *strip)
        progress(number, number_of_strips)
    count[count * side**2 < _MIN_VALID_FRACTION * pixel_size**2] = 0
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    _write(path, mean.astype(np.float32), grid, names, acquired)


def _satpy_module() -> Any:
    try:
        import satpy
        import satpy.readers.sar_c_safe  # raises if rioxarray or python-geotiepoints is missing
    except ImportError as error:
        raise MissingExtraError(error.name or "satpy", "satellite") from error
    return satpy


# --- files of the folder --------------------------------------------------------------------------


def _time(folder: Path) -> datetime.datetime:
    """Return the acquisition time of the first line."""
    from defusedxml import ElementTree

    manifest = folder / "manifest.safe"
    if not manifest.is_file():
        raise UnreadableFileError(f"{folder}: not a SAFE folder with a manifest.safe; check the path")
    with _convert_errors(manifest):
        text = ElementTree.parse(manifest).findtext(".//{*}startTime", "")
    acquired = acquisition_time({"start_time": text}, "")
    if acquired is None:
        raise UnreadableFileError(f"{manifest}: no startTime; copy the folder again from its source")
    return acquired


def _stem(folder: Path, channel: str) -> str:
    """Return the common part of the file names of a channel."""
    images = sorted((folder / "measurement").glob("*.tiff"))
    if not images:
        raise UnreadableFileError(f"{folder}: no measurement/*.tiff; copy it again from its source")
    kind = images[0].stem.split("-")[2:3]
    if kind != ["grd"]:
        raise InputError(
            f"{folder.name}: {' '.join(kind).upper() or images[0].name} instead of GRD; choose a ground "
            "range detected product"
        )
    if images[0].stem.endswith("-cog"):
        raise InputError(
            f"{folder.name}: a SAFE folder of COGs, which satpy does not read; "
            "use the same pass as plain SAFE"
        )
    stems = [image.stem for image in images if _polarization(image.stem) in POLARIZATIONS[channel]]
    if len(stems) != 1:
        found = ", ".join(_polarization(image.stem).upper() for image in images)
        expected = " or ".join(each.upper() for each in POLARIZATIONS[channel])
        raise InputError(
            f"{folder.name}: expected one measurement of {channel} ({expected}), found {found}; choose a "
            "pass with two polarizations (1SDH, 1SDV)"
        )
    for part in _REQUIRED_FILES:
        if not (folder / part.format(stems[0])).is_file():
            raise UnreadableFileError(
                f"{folder}: no {part.format(stems[0])}; copy the folder again from its source"
            )
    return stems[0]


def _polarization(stem: str) -> str:
    """Return the polarization in a file name, ``"hv"`` of ``s1a-ew-grd-hv-20200110t050607-…``."""
    return "".join(stem.split("-")[3:4])


def _grid(folder: Path, image: Path, pixel_size: float, crs: str | None) -> tuple[MapGrid, float]:
    """Return a grid over the image, and its pixel side.

    The side is in m, in the projection of the grid.
    """
    with _convert_errors(folder), rasterio_module().open(image) as dataset:
        points = sorted((point.row, point.col, point.x, point.y) for point in dataset.gcps[0])
    rows, columns = ({point[axis] for point in points} for axis in (0, 1))
    if min(len(rows), len(columns)) < 3 or len(points) != len(rows) * len(columns):
        raise UnreadableFileError(
            f"{image}: {len(points)} tie points; expected a lattice of at least 3 x 3. Copy it again "
            "from its source"
        )
    lattice = np.reshape(points, (len(rows), len(columns), 4))
    longitude, latitude = lattice[..., 2], lattice[..., 3]
    grid = swath_grid(longitude, latitude, pixel_size, crs, margin=_MARGIN, where=folder.name)
    x, y = transform_points("EPSG:4326", grid.crs, _outline(longitude), _outline(latitude))
    area = abs(np.dot(x - x[0], np.roll(y, -1) - np.roll(y, 1))) / 2
    side = math.sqrt(area / ((max(rows) - min(rows)) * (max(columns) - min(columns))))
    if side > pixel_size / 2:
        raise InputError(
            f"{folder.name}: pixels of {side:.4g} m are too coarse for cells of {pixel_size:g} m; expected "
            "at most half of it. Choose a finer product, or a model with coarser pixels"
        )
    return grid, side


def _outline(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the outline of a lattice as a closed sequence of points."""
    return np.concatenate([values[0, :-1], values[:-1, -1], values[-1, :0:-1], values[:0:-1, 0]])


# --- data from satpy ------------------------------------------------------------------------------


def _load_power(satpy: Any, folder: Path, stems: Sequence[str], names: Sequence[str]) -> tuple[Any, Any, Any]:
    """Load power, longitude and latitude as dask arrays.

    The chunks are whole lines.
    """
    import dask

    files = [str(folder.absolute() / part.format(stem)) for stem in stems for part in _REQUIRED_FILES]
    queries = [
        satpy.DataQuery(name="measurement", polarization=name, calibration="sigma_nought", quantity="natural")
        for name in names
    ]
    with dask.config.set({"array.chunk-size": _STRIP}):
        scene = satpy.Scene(reader="sar-c_safe", filenames=files)
        scene.load(queries)
        area = scene[queries[0]].attrs["area"]
        return [scene[each].data for each in queries], area.lons.data, area.lats.data


def _strips(
    folder: Path, power: Sequence[Any], longitude: Any, latitude: Any, factor: int, threads: int
) -> Iterator[tuple[int, int, tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]]]:
    """Yield the number of each strip, the total, and its blocks.

    The blocks are sums of power ``(band, y, x)``, numbers of pixels ``(y, x)``, and the longitude and
    latitude of the block centers.
    """
    import dask

    heights = power[0].chunks[0]
    columns = np.arange(0, power[0].shape[1], factor)
    column_centers = _block_centers(columns, power[0].shape[1])
    first = 0
    for number, height in enumerate(heights, 1):
        lines = slice(first, first + height)
        rows = np.arange(0, height, factor)
        with _convert_errors(folder):
            *bands, east, north = dask.compute(
                *(band[lines] for band in power),
                longitude[lines],
                latitude[lines],
                scheduler="threads",
                num_workers=threads,
            )
        values = np.stack(bands)
        valid = np.isfinite(values).all(axis=0)
        summed = _blocks(np.where(valid, values, 0), rows, columns)
        centers = np.ix_(_block_centers(rows, height), column_centers)
        yield number, len(heights), (summed, _blocks(valid, rows, columns), east[centers], north[centers])
        first += height


def _block_centers(starts: NDArray[np.integer], end: int) -> NDArray[np.integer]:
    return (starts + np.append(starts[1:], end) - 1) // 2


def _blocks(values: NDArray[Any], rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[Any]:
    lines = np.add.reduceat(values, rows, axis=-2, dtype=np.float64)
    return np.add.reduceat(lines, columns, axis=-1)


@contextmanager
def _convert_errors(where: Path) -> Iterator[None]:
    """Convert file errors to one line, and suppress logs of satpy."""
    try:
        with suppress_logging("satpy", below=logging.ERROR), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _READ_ERRORS as error:
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".") or type(error).__name__
        raise UnreadableFileError(
            f"{where}: cannot be read as Sentinel-1 GRD ({reason}); copy it again from its source"
        ) from error


# --- projection -----------------------------------------------------------------------------------


def _add(
    total: NDArray[np.float64],
    count: NDArray[np.float64],
    grid: MapGrid,
    power: NDArray[np.float64],
    pixels: NDArray[np.float64],
    longitude: NDArray[Any],
    latitude: NDArray[Any],
) -> None:
    """Add blocks to the cells that contain their centers."""
    x, y = transform_points("EPSG:4326", grid.crs, longitude, latitude)
    rows, columns = (np.floor(place).astype(np.int64) for place in grid.rowcol(x, y))
    inside = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
    cells = rows[inside] * grid.shape[1] + columns[inside]
    for layer, values in zip((*total, count), (*power, pixels), strict=True):
        layer += np.bincount(cells, values[inside], layer.size).reshape(layer.shape)


def _write(
    path: Path, values: NDArray[np.float32], grid: MapGrid, names: Sequence[str], acquired: datetime.datetime
) -> None:
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": len(values),
        "height": grid.shape[0],
        "width": grid.shape[1],
        "crs": grid.rasterio_crs,
        "transform": grid.affine,
        "nodata": math.nan,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    with rasterio_module().open(path, "w", **profile) as raster:
        raster.write(values)
        raster.descriptions = [name.upper() for name in names]
        raster.update_tags(datetime=acquired.isoformat())
