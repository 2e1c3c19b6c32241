"""Small computed scenes on disk for tests of readers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform

CHANNELS = ("cross_pol", "co_pol")
UTM = "EPSG:32633"
CORNER = Affine(40.0, 0, 400_000.0, 0, -40.0, 8_000_000.0)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warning of rasterio about scenes without georeferencing, which some tests need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def save(
    path: Path,
    values: np.ndarray,
    *,
    crs: str | None = UTM,
    place: Affine = CORNER,
    names: tuple[str, ...] = ("VH", "VV"),
    nodata: float | None = None,
    **profile: object,
) -> Path:
    """Write bands ``(band, y, x)`` as a tiled GeoTIFF."""
    settings = {"tiled": True, "blockxsize": 64, "blockysize": 64} | profile
    with (
        quiet(),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype=values.dtype.name,
            count=len(values),
            height=values.shape[1],
            width=values.shape[2],
            crs=crs,
            transform=place,
            nodata=nodata,
            **settings,
        ) as dataset,
    ):
        dataset.write(values)
        dataset.descriptions = names
    return path


def places(crs: str, place: Affine, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of all cell centers."""
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = place.a * columns + place.b * rows + place.c, place.d * columns + place.e * rows + place.f
    if crs == "EPSG:4326":
        return x, y
    longitude, latitude = transform(crs, "EPSG:4326", x.ravel(), y.ravel())
    return np.reshape(longitude, shape), np.reshape(latitude, shape)


def sphere(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Return a smooth power on the globe, continuous and independent of the projection."""
    east, north = np.radians(longitude), np.radians(latitude)
    x, y = np.cos(north) * np.cos(east), np.cos(north) * np.sin(east)
    return 0.05 * (1.2 + np.sin(20 * x) * np.cos(20 * y))


def save_sphere(path: Path, crs: str, place: Affine, shape: tuple[int, int]) -> Path:
    """Write the power of `sphere` as co-polarized band, and a tenth of it as cross-polarized band."""
    power = sphere(*places(crs, place, shape))
    return save(path, np.stack([power / 10, power]).astype(np.float32), crs=crs, place=place)


def disc(
    shape: tuple[int, int],
    row: float,
    column: float,
    radius: float,
    *,
    low: float = -25.0,
    high: float = -8.0,
) -> np.ndarray:
    """Return decibels ``(2, y, x)`` of a bright disc on a dark sea."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = np.hypot(rows + 0.5 - row, columns + 0.5 - column) <= radius
    one = np.where(inside, np.float32(high), np.float32(low))
    return np.stack([one - 6, one]).astype(np.float32)


Change = Callable[[np.ndarray], np.ndarray]
