"""What the shape of the ground is: slope, aspect, curvature and the way that water takes.

All functions take heights ``(y, x)`` in m, and the signed steps from a cell to the next, m: `dx` eastward
along x, `dy` northward along y, so that a grid whose first row is the northernmost has a negative `dy`.
Each is a number, or one for each row ``(y, 1)``, as `grid_spacing` gives it for degrees. Along its edges a
grid
is continued in a straight line, so that a plane is one up to its edge. Where a height is missing, NaN, so
is what needs it.
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

# Row and column of each neighbour and where it lies, degrees clockwise from north where y goes north.
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
    """The steps of a grid of degrees on the ellipsoid of WGS 84, m.

    Args:
        latitude: ``(y,)``, degrees north, evenly spaced, in either order.
        longitude: ``(x,)``, degrees east, evenly spaced, in either order.

    Returns:
        `dx` and `dy`, each ``(y, 1)``: along the parallel of each row, and along the meridian there.

    Raises:
        InputError: Fewer than two of either, or uneven steps.

    >>> dx, dy = spacing([0.0, 0.01], [10.0, 10.01])
    >>> float(dx[0, 0].round()), float(dy[0, 0].round())
    (1113.0, 1106.0)
    """
    step_north, step_east = (
        _check_even_spacing(axis, name) for axis, name in ((latitude, "latitude"), (longitude, "longitude"))
    )
    angle = np.radians(np.asarray(latitude, np.float64))[:, None]
    bent = 1 - _ECCENTRICITY * np.sin(angle) ** 2
    across = _AXIS / np.sqrt(bent) * np.cos(angle)
    along = _AXIS * (1 - _ECCENTRICITY) / bent**1.5
    return across * np.radians(step_east), along * np.radians(step_north)


def gradient(elevation: Field, dx: Step, dy: Step) -> tuple[Field, Field]:
    """How much the ground rises eastward and northward, m per m, by the eight neighbours of a cell: the
    rows and columns on both sides, the middle one twice (Horn 1981, doi:10.1109/PROC.1981.11918)."""
    z = _neighbor_getter(elevation, dx, dy)
    east = (z(1, 1) + 2 * z(0, 1) + z(-1, 1)) - (z(1, -1) + 2 * z(0, -1) + z(-1, -1))
    north = (z(1, 1) + 2 * z(1, 0) + z(1, -1)) - (z(-1, 1) + 2 * z(-1, 0) + z(-1, -1))
    return east / (8 * np.asarray(dx)), north / (8 * np.asarray(dy))


def slope(elevation: Field, dx: Step, dy: Step) -> Field:
    """Angle of the ground with the horizontal, degrees, 0-90, after Horn 1981.

    >>> plane = np.tile(np.arange(4.0), (3, 1))
    >>> slope(plane, dx=1.0, dy=1.0)[1].round(6).tolist()
    [45.0, 45.0, 45.0, 45.0]
    """
    return np.degrees(np.arctan(np.hypot(*gradient(elevation, dx, dy))))


def aspect(elevation: Field, dx: Step, dy: Step) -> Field:
    """Where the ground faces, downhill: degrees clockwise from north, 0-360, after Horn 1981; NaN where it
    is level.

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
    """Curvature of the ground, m-1, of the surface through a cell and its eight neighbours (Zevenbergen and
    Thorne 1987, doi:10.1002/esp.3290120107); positive where it bulges, negative in hollows.

    Args:
        kind: ``"total"``: ``-2 (D + E)``, the negative Laplacian. ``"profile"``: downhill, of the line that
            water follows. ``"plan"``: across it, of the contour. Total is their sum. The last two are 0
            where it is level.
    """
    z, dx, dy = _neighbor_getter(elevation, dx, dy), np.asarray(dx), np.asarray(dy)
    d = ((z(0, -1) + z(0, 1)) / 2 - z(0, 0)) / dx**2
    e = ((z(1, 0) + z(-1, 0)) / 2 - z(0, 0)) / dy**2
    if kind == "total":
        return -2 * (d + e)
    f = (z(1, 1) - z(1, -1) - z(-1, 1) + z(-1, -1)) / (4 * dx * dy)
    g, h = (z(0, 1) - z(0, -1)) / (2 * dx), (z(1, 0) - z(-1, 0)) / (2 * dy)
    steep = g**2 + h**2
    bent = d * g**2 + e * h**2 + f * g * h if kind == "profile" else d * h**2 + e * g**2 - f * g * h
    return np.divide(-2 * bent, steep, out=np.where(np.isnan(bent), np.nan, 0.0), where=steep > 0)


def flow_direction(elevation: Field, dx: Step, dy: Step) -> Field:
    """Where water runs to, of the eight neighbours the one to which the ground falls most steeply (D8,
    O'Callaghan and Mark 1984, doi:10.1016/S0734-189X(84)80011-0).

    Returns:
        ``(y, x)``, degrees clockwise from north in steps of 45, of equal ones the first; NaN in a pit, on
        the level, and where the height is missing. Cells are as many as there are: none flows off the
        grid, and none to where the height is missing.
    """
    heights = np.asarray(elevation, np.float64)
    padded = np.pad(heights, 1, constant_values=np.nan)
    dx, dy = (np.broadcast_to(step, (len(heights), 1)) for step in (dx, dy))
    steepest, towards = np.zeros(heights.shape), np.full(heights.shape, np.nan)
    for row, column, angle in _NEIGHBORS:
        neighbour = _shifted(padded, row, column)
        fall = (heights - neighbour) / np.hypot(row * dy, column * dx)
        steeper = fall > steepest  # False for what is missing
        steepest[steeper] = fall[steeper]
        towards[steeper] = np.broadcast_to(_bearing(angle, dx, dy), heights.shape)[steeper]
    return towards


def _bearing(angle: float, dx: Field, dy: Field) -> Field:
    """The direction of a neighbour on the ground, for grids that begin in the north or in the east."""
    turned = np.where(dx < 0, -angle, angle)
    return np.where(dy < 0, 180 - turned, turned) % 360


def _check_even_spacing(axis: ArrayLike, name: str) -> float:
    values = np.asarray(axis, np.float64)
    steps = np.diff(values)
    if values.ndim != 1 or not len(steps) or not np.allclose(steps, steps.mean(), rtol=1e-2):
        raise InputError(
            f"{name}: expected two or more values in even steps, to know how far cells are apart"
        )
    return float(steps.mean())


def _neighbor_getter(elevation: Field, dx: Step, dy: Step) -> Callable[[int, int], Field]:
    """A function that gives the neighbour of every cell, so many steps along y and along x."""
    heights = np.asarray(elevation, np.float64)
    if heights.ndim != 2 or min(heights.shape) < 2:
        raise InputError(f"heights of shape {heights.shape}; expected (y, x), two or more of each")
    for step, name in ((dx, "dx"), (dy, "dy")):
        if not np.all(np.isfinite(step)) or np.any(np.asarray(step) == 0):
            raise InputError(f"{name}={step!r}: expected the signed step from a cell to the next, m, not 0")
    padded = np.pad(heights, 1, mode="reflect", reflect_type="odd")
    return lambda row, column: _shifted(padded, row, column)


def _shifted(padded: Field, row: int, column: int) -> Field:
    height, width = padded.shape
    return padded[1 + row : height - 1 + row, 1 + column : width - 1 + column]
