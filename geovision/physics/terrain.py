"""Terrain attributes: slope, aspect, curvature and flow direction.

All functions take an elevation of shape (y, x) in m, and the signed steps between cells in m: `dx` eastward
along x, `dy` northward along y. A grid whose first row is the northernmost therefore has a negative `dy`.
Each step is a number, or has one value for each row, shape (y, 1), as `grid_spacing` returns it for degrees.
At its edges, a grid is extrapolated linearly, so that a plane remains a plane. Results are NaN if a required
elevation is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision.errors import InputError

__all__ = ["aspect", "curvature", "flow_direction", "gradient", "grid_spacing", "slope"]

Field = NDArray[np.floating]
Step = ArrayLike

# Semi-major axis, m, and squared eccentricity of the ellipsoid of WGS 84.
_AXIS, _ECCENTRICITY = 6_378_137.0, 6.694379990141e-3

# Row and column step of each neighbor, and its direction in degrees clockwise from north for ascending y.
_NEIGHBORS = (
    (1, 0, 0.0),
    (1, 1, 45.0),
    (0, 1, 90.0),
    (-1, 1, 135.0),
    (-1, 0, 180.0),
    (-1, -1, 225.0),
    (0, -1, 270.0),
    (1, -1, 315.0),
)


def grid_spacing(latitude: ArrayLike, longitude: ArrayLike) -> tuple[Field, Field]:
    """Compute the steps of a latitude-longitude grid on the WGS 84 ellipsoid.

    Args:
        latitude: Latitudes, shape (y,), in degrees north, evenly spaced, ascending or descending.
        longitude: Longitudes, shape (x,), in degrees east, evenly spaced, ascending or descending.

    Returns:
        `dx` along the parallel of each row, and `dy` along the meridian, in m, shape (y, 1) each.

    Raises:
        InputError: There are fewer than two latitudes or longitudes, or the steps are uneven.

    >>> dx, dy = grid_spacing([0.0, 0.01], [10.0, 10.01])
    >>> float(dx[0, 0].round()), float(dy[0, 0].round())
    (1113.0, 1106.0)
    """
    step_north, step_east = (
        _check_even_spacing(axis, name) for axis, name in ((latitude, "latitude"), (longitude, "longitude"))
    )
    angle = np.radians(np.asarray(latitude, np.float64))[:, None]
    curved = 1 - _ECCENTRICITY * np.sin(angle) ** 2
    along_parallel = _AXIS / np.sqrt(curved) * np.cos(angle)
    along_meridian = _AXIS * (1 - _ECCENTRICITY) / curved**1.5
    return along_parallel * np.radians(step_east), along_meridian * np.radians(step_north)


def gradient(elevation: Field, dx: Step, dy: Step) -> tuple[Field, Field]:
    """Compute the eastward and northward gradient of the elevation, in m/m.

    Finite differences of the eight neighbors of a cell: rows and columns on both sides, with double weight
    for the middle ones (Horn 1981, doi:10.1109/PROC.1981.11918).

    Args:
        elevation: Elevation, shape (y, x), in m; NaN where missing.
        dx: Signed step along x, positive eastward, in m; a number or shape (y, 1).
        dy: Signed step along y, positive northward, in m; a number or shape (y, 1).
    """
    z = _neighbor_getter(elevation, dx, dy)
    east = (z(1, 1) + 2 * z(0, 1) + z(-1, 1)) - (z(1, -1) + 2 * z(0, -1) + z(-1, -1))
    north = (z(1, 1) + 2 * z(1, 0) + z(1, -1)) - (z(-1, 1) + 2 * z(-1, 0) + z(-1, -1))
    return east / (8 * np.asarray(dx)), north / (8 * np.asarray(dy))


def slope(elevation: Field, dx: Step, dy: Step) -> Field:
    """Compute the slope angle, in degrees, 0 to 90 (Horn 1981).

    Args:
        elevation: Elevation, shape (y, x), in m; NaN where missing.
        dx: Signed step along x, positive eastward, in m; a number or shape (y, 1).
        dy: Signed step along y, positive northward, in m; a number or shape (y, 1).

    >>> plane = np.tile(np.arange(4.0), (3, 1))
    >>> slope(plane, dx=1.0, dy=1.0)[1].round(6).tolist()
    [45.0, 45.0, 45.0, 45.0]
    """
    return np.degrees(np.arctan(np.hypot(*gradient(elevation, dx, dy))))


def aspect(elevation: Field, dx: Step, dy: Step) -> Field:
    """Compute the downhill direction (aspect), in degrees (Horn 1981).

    Clockwise from north, 0 to 360; NaN on level ground.

    Args:
        elevation: Elevation, shape (y, x), in m; NaN where missing.
        dx: Signed step along x, positive eastward, in m; a number or shape (y, 1).
        dy: Signed step along y, positive northward, in m; a number or shape (y, 1).

    >>> plane = np.tile(np.arange(4.0), (3, 1))  # rises to the east, faces west
    >>> aspect(plane, dx=1.0, dy=1.0)[1].tolist()
    [270.0, 270.0, 270.0, 270.0]
    """
    east, north = gradient(elevation, dx, dy)
    angle = np.degrees(np.arctan2(-east, -north)) % 360
    return np.where((east == 0) & (north == 0), np.nan, angle)


def curvature(
    elevation: Field, dx: Step, dy: Step, kind: Literal["total", "profile", "plan"] = "total"
) -> Field:
    """Compute the curvature of the terrain, in 1/m.

    Curvature of the surface through a cell and its eight neighbors (Zevenbergen and Thorne 1987,
    doi:10.1002/esp.3290120107); positive for convex and negative for concave terrain.

    Args:
        elevation: Elevation, shape (y, x), in m; NaN where missing.
        dx: Signed step along x, positive eastward, in m; a number or shape (y, 1).
        dy: Signed step along y, positive northward, in m; a number or shape (y, 1).
        kind: Kind of curvature. ``"total"``: ``-2 (D + E)``, the negative Laplacian. ``"profile"``: along the
            flow line, downhill. ``"plan"``: across it, along the contour. Total is the sum of the other two,
            which are 0 on level ground. Default: ``"total"``.
    """
    z, dx, dy = _neighbor_getter(elevation, dx, dy), np.asarray(dx), np.asarray(dy)
    d = ((z(0, -1) + z(0, 1)) / 2 - z(0, 0)) / dx**2
    e = ((z(1, 0) + z(-1, 0)) / 2 - z(0, 0)) / dy**2
    if kind == "total":
        return -2 * (d + e)
    f = (z(1, 1) - z(1, -1) - z(-1, 1) + z(-1, -1)) / (4 * dx * dy)
    g, h = (z(0, 1) - z(0, -1)) / (2 * dx), (z(1, 0) - z(-1, 0)) / (2 * dy)
    steep = g**2 + h**2
    curved = d * g**2 + e * h**2 + f * g * h if kind == "profile" else d * h**2 + e * g**2 - f * g * h
    return np.divide(-2 * curved, steep, out=np.where(np.isnan(curved), np.nan, 0.0), where=steep > 0)


def flow_direction(elevation: Field, dx: Step, dy: Step) -> Field:
    """Compute the D8 flow direction, in degrees clockwise from north.

    Water flows to the neighbor, of eight, with the steepest descent (O'Callaghan and Mark 1984,
    doi:10.1016/S0734-189X(84)80011-0).

    Args:
        elevation: Elevation, shape (y, x), in m; NaN where missing.
        dx: Signed step along x, positive eastward, in m; a number or shape (y, 1).
        dy: Signed step along y, positive northward, in m; a number or shape (y, 1).

    Returns:
        Direction, shape (y, x), in steps of 45 degrees; the first of equal descents. NaN in pits, on level
        ground, and where the elevation is missing. No cell flows off the grid or to a missing cell.
    """
    heights = np.asarray(elevation, np.float64)
    padded = np.pad(heights, 1, constant_values=np.nan)
    dx, dy = (np.broadcast_to(step, (len(heights), 1)) for step in (dx, dy))
    steepest, direction = np.zeros(heights.shape), np.full(heights.shape, np.nan)
    for row, column, angle in _NEIGHBORS:
        neighbor = _shifted(padded, row, column)
        fall = (heights - neighbor) / np.hypot(row * dy, column * dx)
        steeper = fall > steepest  # False for missing cells
        steepest[steeper] = fall[steeper]
        direction[steeper] = np.broadcast_to(_bearing(angle, dx, dy), heights.shape)[steeper]
    return direction


def _bearing(angle: float, dx: Field, dy: Field) -> Field:
    """Return the direction of a neighbor on the ground, for any orientation of the axes."""
    mirrored = np.where(dx < 0, -angle, angle)
    return np.where(dy < 0, 180 - mirrored, mirrored) % 360


def _check_even_spacing(axis: ArrayLike, name: str) -> float:
    """Return the mean step of an axis, in its unit."""
    values = np.asarray(axis, np.float64)
    steps = np.diff(values)
    if values.ndim != 1 or not len(steps) or not np.allclose(steps, steps.mean(), rtol=1e-2):
        raise InputError(
            f"{name}: expected two or more values in even steps, to compute the distance between cells"
        )
    return float(steps.mean())


def _neighbor_getter(elevation: Field, dx: Step, dy: Step) -> Callable[[int, int], Field]:
    """Return a function of (row step, column step) that returns the shifted elevation."""
    heights = np.asarray(elevation, np.float64)
    if heights.ndim != 2 or min(heights.shape) < 2:
        raise InputError(
            f"elevation has shape {heights.shape}; expected (y, x) with two or more cells along each axis"
        )
    for step, name in ((dx, "dx"), (dy, "dy")):
        if not np.all(np.isfinite(step)) or np.any(np.asarray(step) == 0):
            raise InputError(f"{name}={step!r}; expected the signed step between cells in m, not 0")
    padded = np.pad(heights, 1, mode="reflect", reflect_type="odd")
    return lambda row, column: _shifted(padded, row, column)


def _shifted(padded: Field, row: int, column: int) -> Field:
    height, width = padded.shape
    return padded[1 + row : height - 1 + row, 1 + column : width - 1 + column]
