"""Grids on a map: projection, origin, cell size and shape."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, MissingExtraError, OptionError

__all__ = [
    "ANTARCTIC",
    "ARCTIC",
    "POLEWARD",
    "MapGrid",
    "model_grid",
    "rasterio_module",
    "suppress_georeference_warning",
    "swath_grid",
    "transform_points",
]

ARCTIC, ANTARCTIC = "EPSG:3995", "EPSG:3031"
"""Polar stereographic projections with true scale at 71 degrees, for the regions of polar lows.

In the northern one, the meridian of Greenwich points down, so the Nordic Seas are upright.
"""

POLEWARD = 60.0
"""Latitude in degrees from which a scene is projected to polar stereographic."""

_SCALE_ERROR = 0.05
_MAX_CELLS = 2**32
_EARTH = 6_371_000.0  # mean radius, m


def rasterio_module() -> Any:
    """Import rasterio with its submodules used here.

    Returns:
        Module.

    Raises:
        MissingExtraError: rasterio is not installed.
    """
    try:
        import rasterio
        import rasterio.shutil
        import rasterio.vrt
        import rasterio.warp
        import rasterio.windows
    except ImportError as error:
        raise MissingExtraError("rasterio", "geo") from error
    return rasterio


@contextmanager
def suppress_georeference_warning() -> Iterator[None]:
    """Suppress rasterio's warning about rasters that are not georeferenced.

    A scene without georeference raises an error in this package. rasterio also creates such rasters in
    memory and disables the warning itself, which fails with several threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio_module().errors.NotGeoreferencedWarning)
        yield


@dataclass(frozen=True)
class MapGrid:
    """Grid of cells on a map.

    Row 0 and column 0 are the first of the file.

    Args:
        crs: Coordinate reference system, as WKT or ``"EPSG:3995"``.
        transform: Coefficients ``(a, b, c, d, e, f)``: the corner of cell (row, column) is at
            ``x = a column + b row + c``, ``y = d column + e row + f``, in the unit of `crs`.
        shape: Number of rows and columns.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @property
    def affine(self) -> Any:
        """Transform of the grid as an affine object of rasterio."""
        return rasterio_module().Affine(*self.transform)

    @property
    def rasterio_crs(self) -> Any:
        """Coordinate reference system as an object of rasterio."""
        return rasterio_module().crs.CRS.from_user_input(self.crs)

    @property
    def cell_size(self) -> tuple[float, float]:
        """Height and width of a cell, in the unit of `crs`."""
        a, b, _, d, e, _ = self.transform
        return math.hypot(b, e), math.hypot(a, d)

    def window(self, row: int, column: int, shape: tuple[int, int]) -> MapGrid:
        """Return a grid of the same cells with another origin.

        The first cell may be outside of this grid.

        Args:
            row: First row.
            column: First column.
            shape: Number of rows and columns.
        """
        a, b, c, d, e, f = self.transform
        corner = (a * column + b * row + c, d * column + e * row + f)
        return MapGrid(self.crs, (a, b, corner[0], d, e, corner[1]), shape)

    def refine(self, factor: int) -> MapGrid:
        """Return a grid over the same area with smaller cells.

        Args:
            factor: Number of new cells along each side of a cell.
        """
        a, b, c, d, e, f = self.transform
        transform = (a / factor, b / factor, c, d / factor, e / factor, f)
        return MapGrid(self.crs, transform, (self.shape[0] * factor, self.shape[1] * factor))

    def rowcol(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return fractional rows and columns of points.

        They are counted from the outer corner of the first cell.

        Args:
            x: First coordinates in `crs`, a number or an array.
            y: Second coordinates in `crs`, a number or an array.
        """
        a, b, c, d, e, f = self.transform
        determinant = a * e - b * d
        return (a * (y - f) - d * (x - c)) / determinant, (e * (x - c) - b * (y - f)) / determinant

    def points(self, rows: NDArray[np.floating], columns: NDArray[np.floating], crs: str) -> tuple[Any, Any]:
        """Transform points of the grid to another coordinate reference system.

        Args:
            rows: Fractional rows from the outer corner of the first cell; the center of a cell is at 0.5.
            columns: Fractional columns, likewise.
            crs: Target coordinate reference system.

        Returns:
            Two arrays, x and y or longitude and latitude; infinite where the transformation is undefined.
        """
        a, b, c, d, e, f = self.transform
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        return transform_points(self.crs, crs, x, y)

    def lonlat(self, row: float, column: float) -> tuple[float, float]:
        """Return longitude and latitude of a point, in degrees (WGS84).

        The longitude is between -180 and 180.

        Args:
            row: Fractional row, as in `points`.
            column: Fractional column, as in `points`.
        """
        x, y = self.points(np.array([row]), np.array([column]), "EPSG:4326")
        return (float(x[0]) + 180) % 360 - 180, float(y[0])

    def ground_cell_size(self) -> tuple[float, float]:
        """Return height and width of the central cell, in m.

        They are sizes on the ground, accurate to about 0.5 %.
        """
        center = (self.shape[0] / 2, self.shape[1] / 2)
        longitude, latitude = self.points(
            np.array([center[0] - 0.5, center[0] + 0.5, center[0], center[0]]),
            np.array([center[1], center[1], center[1] - 0.5, center[1] + 0.5]),
            "EPSG:4326",
        )
        return _haversine(longitude[:2], latitude[:2]), _haversine(longitude[2:], latitude[2:])


def transform_points(source: str, target: str, x: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Transform points between coordinate reference systems.

    Args:
        source: Coordinate reference system of the points.
        target: Target coordinate reference system.
        x: First coordinates, any shape.
        y: Second coordinates, same shape.

    Returns:
        Two arrays of the same shape; infinite where the transformation is undefined.
    """
    warp = rasterio_module().warp
    shape = np.shape(x)
    found = warp.transform(source, target, np.ravel(x), np.ravel(y))
    return np.asarray(found[0]).reshape(shape), np.asarray(found[1]).reshape(shape)


def _haversine(longitude: NDArray[Any], latitude: NDArray[Any]) -> float:
    """Return the distance between two points in m, by the haversine formula."""
    (east, west), (north, south) = np.radians(longitude), np.radians(latitude)
    half = math.sin((north - south) / 2) ** 2
    half += math.cos(north) * math.cos(south) * math.sin((east - west) / 2) ** 2
    return 2 * _EARTH * math.asin(math.sqrt(half))


# --- the grid of a model ------------------------------------------------------------------------


def model_grid(
    source: MapGrid, pixel_size: float, crs: str | None = None, *, where: str = "scene"
) -> MapGrid:
    """Return a grid of square cells that covers another grid.

    From 60 degrees of latitude on, the projection is polar stereographic, `ARCTIC` or `ANTARCTIC`. A scene
    that is already in a polar stereographic projection keeps it. Closer to the equator, a scene keeps its
    projection if its scale error is below 5 %; otherwise the UTM zone of its center is used.

    Args:
        source: Grid of the scene.
        pixel_size: Cell size in m, in the projection.
        crs: Another projection, in m; ``"scene"`` is that of the scene. Default: None, as above.
        where: Name of the scene in error messages. Default: ``"scene"``.

    Returns:
        Grid of the model.

    Raises:
        OptionError: `crs` is unknown, or not in meters.
        InputError: The scene cannot be transformed to this projection, or has too many cells.
    """
    chosen = _choose_crs(source, crs, where)
    # The origin is a multiple of the cell size, so that scenes of one region share their cells.
    return _covering_grid(
        _bounds(source, chosen, where), chosen, pixel_size, snap=chosen != source.crs, where=where
    )


def swath_grid(
    longitude: NDArray[np.floating],
    latitude: NDArray[np.floating],
    pixel_size: float,
    crs: str | None = None,
    *,
    margin: float = 0.0,
    where: str = "scene",
) -> MapGrid:
    """Return a grid of square cells that covers a swath without projection.

    The projection is polar stereographic from 60 degrees of latitude on, `ARCTIC` or `ANTARCTIC`; otherwise
    it is the UTM zone of the center.

    Args:
        longitude: Longitudes in degrees east, shape ``(y, x)``, of ordered points over the whole swath,
            including its edges.
        latitude: Latitudes in degrees north, shape ``(y, x)``, of the same points.
        pixel_size: Cell size in m, in the projection.
        crs: Another projection, in m. Default: None, as above.
        margin: Number of cells around all points. Default: 0.0.
        where: Name of the swath in error messages. Default: ``"scene"``.

    Returns:
        Grid of the model.

    Raises:
        OptionError: `crs` is unknown, not in meters, or ``"scene"``: a swath has no projection.
        InputError: The swath cannot be transformed to this projection, or has too many cells.
    """
    if crs == "scene":
        raise OptionError(f"{where}: has no projection of its own; choose one, such as {ARCTIC}")
    center = (longitude.shape[0] // 2, longitude.shape[1] // 2)
    chosen = _default_crs(longitude[center], latitude[center]) if crs is None else _parse_crs(crs)
    x, y = transform_points("EPSG:4326", chosen, longitude, latitude)
    left, bottom, right, top = _extent(x, y, chosen, where)
    border = margin * pixel_size
    bounds = (left - border, bottom - border, right + border, top + border)
    return _covering_grid(bounds, chosen, pixel_size, snap=True, where=where)


def _covering_grid(
    bounds: tuple[float, float, float, float], crs: str, pixel_size: float, *, snap: bool, where: str
) -> MapGrid:
    left, bottom, right, top = bounds
    if snap:
        left, top = math.floor(left / pixel_size) * pixel_size, math.ceil(top / pixel_size) * pixel_size
    # Rounding, so that a numerical error does not add a row.
    rows, columns = (math.ceil(round(side / pixel_size, 6)) for side in (top - bottom, right - left))
    if rows * columns > _MAX_CELLS:
        raise InputError(
            f"{where}: {rows} x {columns} cells of {pixel_size:g} m would cover it; check its coordinates, "
            "or extract a part"
        )
    return MapGrid(crs, (pixel_size, 0.0, left, 0.0, -pixel_size, top), (max(rows, 1), max(columns, 1)))


def _choose_crs(own: MapGrid, crs: str | None, where: str) -> str:
    if crs == "scene":
        if not _is_metric(own.rasterio_crs):
            raise OptionError(f"{where}: its projection is not in meters; choose one, such as {ARCTIC}")
        return own.crs
    if crs is not None:
        return _parse_crs(crs)
    longitude, latitude = own.lonlat(own.shape[0] / 2, own.shape[1] / 2)
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise InputError(f"{where}: its center has no position on the globe; check its coordinates")
    poleward = abs(latitude) >= POLEWARD
    if (
        _is_polar_stereographic(own.rasterio_crs)
        if poleward
        else _is_metric(own.rasterio_crs) and _preserves_scale(own)
    ):
        return own.crs
    return _default_crs(longitude, latitude)


def _default_crs(longitude: float, latitude: float) -> str:
    """Return the default projection at a position."""
    if abs(latitude) >= POLEWARD:
        return (ARCTIC, ANTARCTIC)[bool(latitude < 0)]
    zone = int((longitude + 180) // 6) % 60 + 1
    return f"EPSG:{(32600, 32700)[bool(latitude < 0)] + zone}"


def _parse_crs(crs: str) -> str:
    rasterio = rasterio_module()
    try:
        reference = rasterio.crs.CRS.from_user_input(crs)
    except rasterio.errors.CRSError as error:
        raise OptionError(
            f"{crs!r} is not a coordinate reference system; expected a form such as {ARCTIC}"
        ) from error
    if not _is_metric(reference):
        raise OptionError(f"{crs} is not in meters; choose a projection in meters, such as {ARCTIC}")
    return crs


def _is_metric(reference: Any) -> bool:
    return bool(reference.is_projected) and abs(reference.linear_units_factor[1] - 1) < 1e-9


def _is_polar_stereographic(reference: Any) -> bool:
    parts = reference.to_dict()
    return _is_metric(reference) and parts.get("proj") == "stere" and abs(parts.get("lat_0", 0)) == 90


def _preserves_scale(own: MapGrid) -> bool:
    return all(
        abs(on_ground / side - 1) < _SCALE_ERROR
        for on_ground, side in zip(own.ground_cell_size(), own.cell_size, strict=True)
    )


def _bounds(own: MapGrid, crs: str, where: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a grid in another projection."""
    rows, columns = sample_points(own.shape)
    return _extent(*own.points(rows, columns, crs), crs, where)


def _extent(x: NDArray[Any], y: NDArray[Any], crs: str, where: str) -> tuple[float, float, float, float]:
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(
            f"{where}: a part of it cannot be transformed to {crs}; choose another projection with --crs"
        )
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def sample_points(shape: tuple[int, int]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return points over a grid and along its edges.

    Args:
        shape: Number of rows and columns of the grid.
    """
    rows, columns = (np.linspace(0, side, 33) for side in shape)
    inner = np.meshgrid(rows, columns, indexing="ij")
    long, wide = (np.linspace(0, side, 257) for side in shape)
    edges = [(long, 0 * long), (long, 0 * long + shape[1]), (0 * wide, wide), (0 * wide + shape[0], wide)]
    return (
        np.concatenate([inner[0].ravel(), *(edge[0] for edge in edges)]),
        np.concatenate([inner[1].ravel(), *(edge[1] for edge in edges)]),
    )
