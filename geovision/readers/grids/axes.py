"""Standard names and order for the axes of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["rotated_to_geographic", "standardize_axes"]

_NAMES = {
    "time": ("time", "t", "valid_time", "date", "Time"),
    "lat": ("lat", "latitude", "nav_lat", "XLAT", "Latitude"),
    "lon": ("lon", "longitude", "nav_lon", "XLONG", "Longitude"),
    "member": ("member", "realization", "ensemble", "ens", "number", "realisation"),
    "y": ("y", "rlat", "south_north", "yc", "j", "nj", "projection_y_coordinate"),
    "x": ("x", "rlon", "west_east", "xc", "i", "ni", "projection_x_coordinate"),
}
_STANDARD = {
    "time": "time",
    "latitude": "lat",
    "longitude": "lon",
    "realization": "member",
    "grid_latitude": "y",
    "grid_longitude": "x",
}


def standardize_axes(
    dataset: xr.Dataset,
    field: xr.DataArray,
    select: Mapping[str, float],
    pole: tuple[float, float] | None,
    *,
    static: bool = False,
    where: str,
) -> xr.DataArray:
    """Rename and order the axes of a field, south and west first.

    The result has dimensions ``(time, [member,] lat, lon)`` or ``(time, [member,] y, x)``.

    Args:
        dataset: Dataset of the file, with the grid mapping.
        field: Field of the dataset.
        select: Value of each further axis; the nearest value is selected.
        pole: Latitude and longitude of the north pole of a rotated grid, in degrees; None uses the grid
            mapping of the file.
        static: Whether the field is constant in time. Its time axis is removed. Default: False.
        where: Name of the file in error messages.

    Returns:
        Field with standard axes.

    Raises:
        InputError: An axis is missing, unknown, or without values, or a static field changes in time.
    """
    for axis, value in select.items():
        if axis not in field.dims:
            raise InputError(
                f"{where}: {field.name!r} has no axis {axis!r}; it has {', '.join(map(str, field.dims))}"
            )
        field = field.sel({axis: value}, method="nearest")
    field = field.rename(_renamed(field))
    field = _squeeze_extra_axes(field)
    if static:
        field = _drop_time(field, where)
    elif "time" not in field.dims:
        raise InputError(
            f"{where}: {field.name!r} has no time axis; expected the dates of a field that changes in "
            "time. Add a time coordinate to the file"
        )
    pole = pole or _find_pole(dataset, field)
    if pole and {"lat", "lon"} <= set(field.dims):
        field = field.rename(lat="y", lon="x")
    horizontal = ("lat", "lon") if {"lat", "lon"} <= set(field.dims) else ("y", "x")
    leading = [axis for axis in ("time", "member") if axis in field.dims]
    if set(field.dims) != {*leading, *horizontal}:
        raise InputError(
            f"{where}: {field.name!r} has axes {', '.join(map(str, field.dims))}; expected time, "
            "member, latitude and longitude. Select one value of any other axis with select="
        )
    field = field.transpose(*leading, *horizontal)
    if horizontal == ("y", "x"):
        field = _add_geographic_coordinates(field, pole, where)
    keep = {*leading, "lat", "lon", "y", "x"}
    field = field.drop_vars([name for name in field.coords if name not in keep])
    return _ascending(field, where)


def _renamed(field: xr.DataArray) -> dict[Any, str]:
    """Map the names of axes and coordinates to standard names."""
    standard: dict[Any, str] = {}
    for name in dict.fromkeys([*field.dims, *field.coords]):
        attributes = field[name].attrs if name in field.coords else {}
        match = _STANDARD.get(str(attributes.get("standard_name", "")))
        match = match or next((own for own, names in _NAMES.items() if name in names), None)
        if match and match not in standard.values():
            standard[name] = match
    return {name: match for name, match in standard.items() if name != match}


def _squeeze_extra_axes(field: xr.DataArray) -> xr.DataArray:
    """Remove further axes of length 1, such as a 2 m height."""
    single = [axis for axis in field.dims if axis not in _NAMES and field.sizes[axis] == 1]
    return field.squeeze(single, drop=True)


def _drop_time(field: xr.DataArray, where: str) -> xr.DataArray:
    """Remove the time axis of a field that is constant in time."""
    if "time" not in field.dims:
        return field
    first = field.isel(time=0, drop=True)
    if field.sizes["time"] > 1 and not bool(((field == first) | field.isnull()).all()):
        raise InputError(
            f"{where}: {field.name!r} changes in time; expected a constant field. Choose one time of the file"
        )
    return first


def _ascending(field: xr.DataArray, where: str) -> xr.DataArray:
    if field.dims[-1] == "lon":
        field = _unwrap_longitudes(field)
    for axis in field.dims[-2:]:
        if axis in ("lat", "lon"):
            values = np.asarray(field[axis].values, dtype=float)
            limit = 90 if axis == "lat" else 540
            if not np.isfinite(values).all() or np.abs(values).max() > limit + 1e-6:
                raise InputError(
                    f"{where}: {axis} from {values.min():g} to {values.max():g}; expected degrees"
                )
            steps = np.diff(values)
            if len(values) > 1 and not (steps > 0).all() and not (steps < 0).all():
                raise InputError(f"{where}: {axis} is not monotonic; sort the file along it")
            if len(values) > 1 and steps[0] < 0:
                field = field.isel({axis: slice(None, None, -1)})
    return field


def _unwrap_longitudes(field: xr.DataArray) -> xr.DataArray:
    """Join the halves of a region that crosses the first meridian."""
    lon = np.asarray(field["lon"].values, dtype=float)
    if len(lon) < 3 or not np.isfinite(lon).all() or np.abs(lon).max() > 540:
        return field
    steps = np.diff(lon)
    between, beyond = np.abs(steps), 360 - (lon.max() - lon.min())
    in_order = bool((steps > 0).all() or (steps < 0).all())
    if in_order and between.max() <= max(beyond, 1.5 * np.median(between)):
        return field
    around = lon % 360
    order = np.argsort(around)
    gaps = np.diff(around[order], append=around[order[0]] + 360)
    cut = int(gaps.argmax()) if gaps.max() > 1.5 * np.median(gaps) else len(lon) - 1
    order = np.roll(order, -(cut + 1))
    turned = around[order] - np.where(np.arange(len(lon)) < len(lon) - 1 - cut, 360, 0)
    return field.isel(lon=order).assign_coords(lon=("lon", turned, field["lon"].attrs))


# --- rotated grids ------------------------------------------------------------------------------


def _find_pole(dataset: xr.Dataset, field: xr.DataArray) -> tuple[float, float] | None:
    """Return the pole of the grid mapping in the file, or None."""
    mapping = field.attrs.get("grid_mapping", field.encoding.get("grid_mapping", ""))
    attributes = dataset[mapping].attrs if mapping in dataset.variables else {}
    if "grid_north_pole_latitude" not in attributes:
        return None
    return float(attributes["grid_north_pole_latitude"]), float(attributes["grid_north_pole_longitude"])


def _add_geographic_coordinates(
    field: xr.DataArray, pole: tuple[float, float] | None, where: str
) -> xr.DataArray:
    """Add two-dimensional latitude and longitude on ``(y, x)``."""
    if {"lat", "lon"} <= set(field.coords) and field["lat"].ndim == 2 and pole is None:
        return field
    if pole is None or not {"y", "x"} <= set(field.coords):
        raise InputError(
            f"{where}: {field.name!r} is on axes y and x without latitudes and longitudes; for a rotated "
            "grid give pole=(latitude, longitude) of its north pole"
        )
    y, x = np.meshgrid(field["y"].values, field["x"].values, indexing="ij")
    lat, lon = rotated_to_geographic(y, x, pole)
    return field.assign_coords(lat=(("y", "x"), lat), lon=(("y", "x"), lon))


def rotated_to_geographic(
    lat: NDArray[np.floating], lon: NDArray[np.floating], pole: tuple[float, float]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the geographic coordinates of points of a rotated grid.

    A point of the sphere is rotated about the y axis by the tilt of the pole, and then about the axis of
    the earth. The definition is that of the CF conventions, appendix F, rotated pole.

    >>> lat, lon = rotated_to_geographic(np.array(0.0), np.array(0.0), (39.25, -162.0))
    >>> float(lat), float(lon)
    (50.75, 18.0)

    Args:
        lat: Latitudes on the rotated grid, in degrees.
        lon: Longitudes on the rotated grid, in degrees.
        pole: Latitude and longitude of the north pole of the grid, in degrees.

    Returns:
        Geographic latitudes and longitudes, in degrees.
    """
    y, x = np.radians(lat), np.radians(lon)
    tilt = np.radians(90 - pole[0])
    up, ahead, aside = np.sin(y), np.cos(y) * np.cos(x), np.cos(y) * np.sin(x)
    height = np.cos(tilt) * up + np.sin(tilt) * ahead
    forward = np.cos(tilt) * ahead - np.sin(tilt) * up
    found = np.degrees(np.arctan2(aside, forward)) + pole[1] + 180
    return np.degrees(np.arcsin(np.clip(height, -1, 1))).round(10), ((found + 180) % 360 - 180).round(10)
