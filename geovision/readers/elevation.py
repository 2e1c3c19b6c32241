"""Terrain heights from GeoTIFF and from SRTM tiles (``.hgt``, plain or zipped)."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.readers.sar.map_grid import rasterio_module, suppress_georeference_warning

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["elevation_on_grid", "read_elevation"]

_RANGE = (-500.0, 9000.0)  # m; values outside are not terrain heights


def read_elevation(path: str | Path) -> DataArray:
    """Read the terrain heights of one file in geographic coordinates.

    Args:
        path: GeoTIFF, SRTM tile (``.hgt``), or zip archive with one of them.

    Returns:
        Height above mean sea level in m, float32, dimensions ``(latitude, longitude)``, both ascending;
        NaN where missing.

    Raises:
        UnreadableFileError: The file cannot be read.
        InputError: The grid is projected (use `elevation_on_grid`), or values are outside the range of
            heights.
        MissingExtraError: rasterio or xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    with suppress_georeference_warning(), _opened(Path(path)) as tile:
        if tile.crs is None or not tile.crs.is_geographic:
            raise InputError(f"{path}: not in degrees but in {tile.crs}; reproject it to degrees")
        heights = _heights(tile, Path(path))
        step = tile.transform
        longitude = step.c + step.a * (np.arange(tile.width) + 0.5)
        latitude = step.f + step.e * (np.arange(tile.height) + 0.5)
    found = xarray.DataArray(
        heights,
        {"latitude": latitude, "longitude": longitude},
        ("latitude", "longitude"),
        name="elevation",
        attrs={"units": "m", "long_name": "height above mean sea level"},
    )
    return found.sortby("latitude")


def elevation_on_grid(
    paths: str | Path | Sequence[str | Path],
    latitude: ArrayLike,
    longitude: ArrayLike,
    *,
    method: Literal["average", "nearest"] = "average",
) -> NDArray[np.float32]:
    """Resample terrain heights of files to a grid in degrees.

    The files may have any projection.

    Args:
        paths: One or several files. In overlaps, the first file with a height is used.
        latitude: Latitudes of the cell centers in degrees north, shape ``(y,)``, evenly spaced, ascending.
        longitude: Longitudes of the cell centers in degrees east, shape ``(x,)``, evenly spaced, ascending.
        method: ``"average"`` for the mean of each cell; ``"nearest"`` for the nearest published height.
            Default: ``"average"``.

    Returns:
        Height in m, shape ``(y, x)``; NaN where no file has a height.

    Raises:
        UnreadableFileError: A file cannot be read.
        InputError: Values are outside the range of heights, a file has no projection, or no file covers
            the grid.
        MissingExtraError: rasterio is not installed.
    """
    rasterio = rasterio_module()
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    y, x = np.asarray(latitude, float), np.asarray(longitude, float)
    dy, dx = (float(np.diff(axis).mean()) for axis in (y, x))
    transform = rasterio.Affine(dx, 0, x[0] - dx / 2, 0, -dy, y[-1] + dy / 2)
    found = np.full((len(y), len(x)), np.nan, np.float32)
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    for path in map(Path, several):
        with suppress_georeference_warning(), _opened(path) as tile:
            if tile.crs is None:
                raise InputError(
                    f"{path}: no coordinate reference system; assign one to the GeoTIFF of heights"
                )
            part = np.full_like(found, np.nan)
            reproject(
                _heights(tile, path),
                part,
                src_transform=tile.transform,
                src_crs=tile.crs,
                src_nodata=np.nan,
                dst_transform=transform,
                dst_crs=rasterio.CRS.from_epsg(4326),
                dst_nodata=np.nan,
                resampling=Resampling.average if method == "average" else Resampling.nearest,
            )
        found = np.where(np.isnan(found), part[::-1], found)
    if np.isnan(found).all():
        raise InputError(
            f"{', '.join(map(str, several))}: no height within {y[0]:.2f} to {y[-1]:.2f} N, {x[0]:.2f} to "
            f"{x[-1]:.2f} E; give files that cover this region"
        )
    return found


def _opened(path: Path) -> Any:
    rasterio = rasterio_module()
    if not path.is_file():
        raise UnreadableFileError(f"{path}: no such file")
    try:
        return rasterio.open(_gdal_path(path))
    except (rasterio.errors.RasterioIOError, zipfile.BadZipFile) as error:
        raise UnreadableFileError(f"{path}: cannot be read as GeoTIFF or SRTM tile ({error})") from error


def _gdal_path(path: Path) -> str:
    """Return the path for GDAL of a file or zipped tile."""
    if path.suffix.lower() != ".zip":
        return str(path)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith((".hgt", ".tif", ".tiff"))]
    if len(names) != 1:
        raise UnreadableFileError(f"{path}: contains {len(names)} tiles; expected one .hgt or .tif")
    return f"/vsizip/{path.absolute()}/{names[0]}"


def _heights(tile: Any, path: Path) -> NDArray[np.float32]:
    masked = tile.read(1, masked=True)
    heights = masked.astype(np.float32).filled(np.nan)
    valid = heights[np.isfinite(heights)]
    if valid.size and not (_RANGE[0] <= valid.min() and valid.max() <= _RANGE[1]):
        raise InputError(
            f"{path}: heights from {valid.min():g} to {valid.max():g}; expected m above mean sea level, with "
            "missing values declared as no data"
        )
    return heights
