"""Grids on a map: which projection, which corner, how large a cell, how many of them."""

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
"""Polar stereographic, of true scale at 71 degrees: where polar lows are. The northern one has the
meridian of Greenwich, and the Nordic Seas, upright."""

POLEWARD = 60.0
"""Degrees of latitude from which a scene is brought to a polar stereographic projection."""

_SCALE_ERROR = 0.05
_MAX_CELLS = 2**32
_EARTH = 6_371_000.0  # mean radius, metres


def rasterio_module() -> Any:
    """rasterio with the parts that are used here.

    Raises:
        MissingExtraError: It is not installed.
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
    """Without rasterio's warning of a raster that has no place on a map.

    A scene without one is an error here. And rasterio makes such rasters itself, in memory, with the
    warning switched off, which does not hold where several threads do so.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio_module().errors.NotGeoreferencedWarning)
        yield


@dataclass(frozen=True)
class MapGrid:
    """Cells on a map. Row 0 is the first one of the file, column 0 its first.

    Args:
        crs: Coordinate reference system, as WKT or ``"EPSG:3995"``.
        transform: ``(a, b, c, d, e, f)``: the corner of cell (row, column) is at
            ``x = a column + b row + c``, ``y = d column + e row + f``, in the unit of `crs`.
        shape: (rows, columns).
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @property
    def affine(self) -> Any:
        return rasterio_module().Affine(*self.transform)

    @property
    def rasterio_crs(self) -> Any:
        """The coordinate reference system as rasterio's object."""
        return rasterio_module().crs.CRS.from_user_input(self.crs)

    @property
    def cell_size(self) -> tuple[float, float]:
        """(height, width) of a cell in the unit of `crs`."""
        a, b, _, d, e, _ = self.transform
        return math.hypot(b, e), math.hypot(a, d)

    def window(self, row: int, column: int, shape: tuple[int, int]) -> MapGrid:
        """A grid of the same cells that begins at a cell of this one, or outside of it."""
        a, b, c, d, e, f = self.transform
        corner = (a * column + b * row + c, d * column + e * row + f)
        return MapGrid(self.crs, (a, b, corner[0], d, e, corner[1]), shape)

    def refine(self, factor: int) -> MapGrid:
        """The same ground in cells of which so many lie along the side of one."""
        a, b, c, d, e, f = self.transform
        transform = (a / factor, b / factor, c, d / factor, e / factor, f)
        return MapGrid(self.crs, transform, (self.shape[0] * factor, self.shape[1] * factor))

    def rowcol(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Rows and columns of places in `crs`, numbers or arrays, from the outer corner of the first cell."""
        a, b, c, d, e, f = self.transform
        determinant = a * e - b * d
        return (a * (y - f) - d * (x - c)) / determinant, (e * (x - c) - b * (y - f)) / determinant

    def points(self, rows: NDArray[np.floating], columns: NDArray[np.floating], crs: str) -> tuple[Any, Any]:
        """Places in another coordinate reference system: x and y, or longitude and latitude.

        Args:
            rows, columns: From the outer corner of the first cell; the middle of a cell is at one half.

        Returns:
            Two arrays, infinite where a place has no image in `crs`.
        """
        a, b, c, d, e, f = self.transform
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        return transform_points(self.crs, crs, x, y)

    def lonlat(self, row: float, column: float) -> tuple[float, float]:
        """Longitude (-180 to 180) and latitude (WGS84) of a place, degrees; rows as for `points`."""
        x, y = self.points(np.array([row]), np.array([column]), "EPSG:4326")
        return (float(x[0]) + 180) % 360 - 180, float(y[0])

    def ground_cell_size(self) -> tuple[float, float]:
        """Metres on the ground that a cell in the middle is high and wide, to about half a percent."""
        middle = (self.shape[0] / 2, self.shape[1] / 2)
        longitude, latitude = self.points(
            np.array([middle[0] - 0.5, middle[0] + 0.5, middle[0], middle[0]]),
            np.array([middle[1], middle[1], middle[1] - 0.5, middle[1] + 0.5]),
            "EPSG:4326",
        )
        return _haversine(longitude[:2], latitude[:2]), _haversine(longitude[2:], latitude[2:])


def transform_points(source: str, target: str, x: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places of one coordinate reference system in another; infinite where they have no image."""
    warp = rasterio_module().warp
    shape = np.shape(x)
    found = warp.transform(source, target, np.ravel(x), np.ravel(y))
    return np.asarray(found[0]).reshape(shape), np.asarray(found[1]).reshape(shape)


def _haversine(longitude: NDArray[Any], latitude: NDArray[Any]) -> float:
    """Metres between two places, by the haversine formula."""
    (east, west), (north, south) = np.radians(longitude), np.radians(latitude)
    half = math.sin((north - south) / 2) ** 2
    half += math.cos(north) * math.cos(south) * math.sin((east - west) / 2) ** 2
    return 2 * _EARTH * math.asin(math.sqrt(half))


# --- the grid of a model ------------------------------------------------------------------------


def model_grid(
    source: MapGrid, pixel_size: float, crs: str | None = None, *, where: str = "scene"
) -> MapGrid:
    """A grid of square cells over all of another one.

    It is polar stereographic from 60 degrees on, `ARCTIC` or `ANTARCTIC`; a scene that is in any
    polar stereographic projection already keeps its own. Nearer to the equator a scene keeps its own
    projection if that is true to scale to 5 %, or goes to the UTM zone of its middle.

    Args:
        source: Of the scene.
        pixel_size: Metres, in the projection.
        crs: Another projection, in metres; ``"scene"``: the scene's own.
        where: Names the scene in errors.

    Raises:
        OptionError: `crs` is not known, or not in metres.
        InputError: The scene has no place in this projection, or is larger than any real one.
    """
    chosen = _choose_crs(source, crs, where)
    # On whole multiples of the cell, so that scenes of one region share their cells.
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
    """A grid of square cells over a swath, which lies on no map yet: polar stereographic from 60 degrees
    on, `ARCTIC` or `ANTARCTIC`, or the UTM zone of its middle.

    Args:
        longitude, latitude: ``(y, x)``, degrees: places in order all over the swath, its edges with them.
        pixel_size: Metres, in the projection.
        crs: Another projection, in metres.
        margin: Cells around all places.
        where: Names the swath in errors.

    Raises:
        OptionError: `crs` is not known, not in metres, or ``"scene"``: a swath has no projection.
        InputError: The swath has no place in this projection, or is larger than any real one.
    """
    if crs == "scene":
        raise OptionError(f"{where}: has no projection of its own; name one, such as {ARCTIC}")
    middle = (longitude.shape[0] // 2, longitude.shape[1] // 2)
    chosen = _default_crs(longitude[middle], latitude[middle]) if crs is None else _parse_crs(crs)
    x, y = transform_points("EPSG:4326", chosen, longitude, latitude)
    left, bottom, right, top = _extent(x, y, chosen, where)
    spare = margin * pixel_size
    bounds = (left - spare, bottom - spare, right + spare, top + spare)
    return _covering_grid(bounds, chosen, pixel_size, snap=True, where=where)


def _covering_grid(
    bounds: tuple[float, float, float, float], crs: str, pixel_size: float, *, snap: bool, where: str
) -> MapGrid:
    left, bottom, right, top = bounds
    if snap:
        left, top = math.floor(left / pixel_size) * pixel_size, math.ceil(top / pixel_size) * pixel_size
    # A rounding error is not worth another row.
    rows, columns = (math.ceil(round(side / pixel_size, 6)) for side in (top - bottom, right - left))
    if rows * columns > _MAX_CELLS:
        raise InputError(
            f"{where}: {rows} x {columns} cells of {pixel_size:g} m would cover it; check its coordinates, "
            "or cut out a part"
        )
    return MapGrid(crs, (pixel_size, 0.0, left, 0.0, -pixel_size, top), (max(rows, 1), max(columns, 1)))


def _choose_crs(own: MapGrid, crs: str | None, where: str) -> str:
    if crs == "scene":
        if not _is_metric(own.rasterio_crs):
            raise OptionError(f"{where}: its own projection is not in metres; name one, such as {ARCTIC}")
        return own.crs
    if crs is not None:
        return _parse_crs(crs)
    longitude, latitude = own.lonlat(own.shape[0] / 2, own.shape[1] / 2)
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise InputError(f"{where}: its middle is nowhere on the globe; check its coordinates")
    poleward = abs(latitude) >= POLEWARD
    if (
        _is_polar_stereographic(own.rasterio_crs)
        if poleward
        else _is_metric(own.rasterio_crs) and _preserves_scale(own)
    ):
        return own.crs
    return _default_crs(longitude, latitude)


def _default_crs(longitude: float, latitude: float) -> str:
    """The projection of a place that has none of its own."""
    if abs(latitude) >= POLEWARD:
        return (ARCTIC, ANTARCTIC)[bool(latitude < 0)]
    zone = int((longitude + 180) // 6) % 60 + 1
    return f"EPSG:{(32600, 32700)[bool(latitude < 0)] + zone}"


def _parse_crs(crs: str) -> str:
    rasterio = rasterio_module()
    try:
        reference = rasterio.crs.CRS.from_user_input(crs)
    except rasterio.errors.CRSError as error:
        raise OptionError(f"{crs!r} is no coordinate reference system; write it as {ARCTIC}") from error
    if not _is_metric(reference):
        raise OptionError(f"{crs} is not in metres; take a projection that is, such as {ARCTIC}")
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
    """(left, bottom, right, top) of a grid in another projection."""
    rows, columns = sample_points(own.shape)
    return _extent(*own.points(rows, columns, crs), crs, where)


def _extent(x: NDArray[Any], y: NDArray[Any], crs: str, where: str) -> tuple[float, float, float, float]:
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(f"{where}: a part of it has no place in {crs}; name another projection with --crs")
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def sample_points(shape: tuple[int, int]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Places all over a grid and all along its edges, as rows and columns."""
    rows, columns = (np.linspace(0, side, 33) for side in shape)
    inner = np.meshgrid(rows, columns, indexing="ij")
    long, wide = (np.linspace(0, side, 257) for side in shape)
    edges = [(long, 0 * long), (long, 0 * long + shape[1]), (0 * wide, wide), (0 * wide + shape[0], wide)]
    return (
        np.concatenate([inner[0].ravel(), *(edge[0] for edge in edges)]),
        np.concatenate([inner[1].ravel(), *(edge[1] for edge in edges)]),
    )
