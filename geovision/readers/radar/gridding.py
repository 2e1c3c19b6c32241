"""Gridding of radar sweeps to levels of constant height."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geovision.errors import MissingExtraError, OptionError
from geovision.readers.radar.volume import RadarVolume, Sweep

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["DEFAULT_LEVELS", "RadarGrid", "beam_height", "grid_volume", "slant_range"]

EFFECTIVE_RADIUS = 4 / 3 * 6_371_000.0
"""Earth radius in m over which beams in the standard atmosphere are straight (Doviak and Zrnic 1993)."""

DEFAULT_LEVELS = tuple(500.0 * step for step in range(1, 41))
"""Default levels in m above mean sea level, to 20 km.

The spacing, chosen here, is about the width of a one-degree beam at 30 km.
"""


@dataclass(frozen=True)
class RadarGrid:
    """Square grid centered on a radar.

    The projection is azimuthal equidistant.

    Args:
        resolution: Distance between points, in m. Default: 1000.0.
        half_width: Distance from the radar to the outermost points, eastward and northward, in m. Default:
            150000.0.
        levels: Heights in m above mean sea level, ascending. Default: 500 m to 20 km in steps of 500 m.

    Raises:
        OptionError: The numbers do not define a grid, or it has more than 4000 points per side.
    """

    resolution: float = 1000.0
    half_width: float = 150_000.0
    levels: tuple[float, ...] = DEFAULT_LEVELS

    def __post_init__(self) -> None:
        if not 0 < self.resolution <= self.half_width:
            raise OptionError(
                f"a resolution of {self.resolution:g} m for a range of {self.half_width:g} m; expected "
                "0 < resolution <= half_width"
            )
        if self.half_width / self.resolution > 2000:
            raise OptionError(
                f"a resolution of {self.resolution:g} m over {self.half_width:g} m makes more than 4000 "
                "points per side; choose a coarser resolution"
            )
        if len(self.levels) < 2 or not (np.diff(self.levels) > 0).all():
            raise OptionError("levels: expected two or more heights in m, ascending")
        if self.levels[-1] < 100:
            raise OptionError(f"levels to {self.levels[-1]:g} m; expected m, and these may be km")

    @property
    def axis(self) -> NDArray[np.float64]:
        """Ascending coordinates of x and y in m, 0 at the radar."""
        steps = int(self.half_width // self.resolution)
        return self.resolution * np.arange(-steps, steps + 1, dtype=np.float64)


def beam_height(distance: NDArray[np.floating], elevation: float, altitude: float) -> NDArray[np.floating]:
    """Return the height of the beam axis by the 4/3 earth model.

    The height is in m above mean sea level.

    Args:
        distance: Distance from the radar along the ground, in m.
        elevation: Elevation angle of the beam, in degrees.
        altitude: Altitude of the antenna, in m above mean sea level.
    """
    angle, tilt = distance / EFFECTIVE_RADIUS, np.radians(elevation)
    return (EFFECTIVE_RADIUS + altitude) * np.cos(tilt) / np.cos(tilt + angle) - EFFECTIVE_RADIUS


def slant_range(distance: NDArray[np.floating], elevation: float, altitude: float) -> NDArray[np.floating]:
    """Return the distance along the beam, in m.

    Args:
        distance: Distance from the radar along the ground, in m.
        elevation: Elevation angle of the beam, in degrees.
        altitude: Altitude of the antenna, in m above mean sea level.
    """
    angle, tilt = distance / EFFECTIVE_RADIUS, np.radians(elevation)
    return (EFFECTIVE_RADIUS + altitude) * np.sin(angle) / np.cos(tilt + angle)


def grid_volume(volume: RadarVolume, grid: RadarGrid | None = None, *, beam_width: float = 1.0) -> DataArray:
    """Grid reflectivity to levels of constant height.

    Each sweep contributes its nearest gate to every point. Between two sweeps, dBZ is interpolated linearly
    in height. If one of the two has no echo, the nearer one is used, so that echoes are not stretched. A
    level is covered between the lowest and the highest beam, and half a beam width beyond. It is NaN
    elsewhere, and where one of the two sweeps has no data.

    Args:
        volume: Volume of sweeps.
        grid: Grid around the radar. Default: None, 1 km to 150 km on 40 levels to 20 km.
        beam_width: Beam width in degrees. Default: 1.0.

    Returns:
        Reflectivity in dBZ, float32, dimensions ``(level, y, x)``; ``-inf`` is no echo, NaN not covered.
        Coordinates: level (m above mean sea level), y and x (m), latitude and longitude ``(y, x)``, time,
        radar_altitude (m), crs.

    Raises:
        MissingExtraError: xarray and pyproj, which are installed with xradar, are missing.
    """
    grid = grid or RadarGrid()
    x, y = np.meshgrid(grid.axis, grid.axis)
    distance, azimuth = np.hypot(x, y), np.degrees(np.arctan2(x, y)) % 360
    planes = np.stack([_nearest(sweep, distance, azimuth, volume.altitude) for sweep in volume.sweeps])
    heights = np.stack([beam_height(distance, sweep.elevation, volume.altitude) for sweep in volume.sweeps])
    margin = np.radians(beam_width / 2) * distance
    levels = np.stack([_at_height(level, planes, heights, margin) for level in grid.levels])
    return _to_dataset(levels, volume, grid)


def _nearest(
    sweep: Sweep, distance: NDArray[np.floating], azimuth: NDArray[np.floating], altitude: float
) -> NDArray[np.float32]:
    """Return the nearest gate of a sweep at each point.

    Points beyond its rays and gates are NaN.
    """
    step = sweep.range[1] - sweep.range[0]
    gate = np.rint((slant_range(distance, sweep.elevation, altitude) - sweep.range[0]) / step).astype(int)
    ray, apart = _nearest_ray(sweep.azimuth, azimuth)
    spacing = float(np.median(np.diff(sweep.azimuth)))
    outside = (gate < 0) | (gate >= len(sweep.range)) | (apart > max(spacing, 1.0))
    values = sweep.reflectivity[ray, np.clip(gate, 0, len(sweep.range) - 1)]
    return np.where(outside, np.float32(np.nan), values)


def _nearest_ray(
    rays: NDArray[np.floating], azimuth: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Return the index of the nearest ray, and its angular distance.

    The angle is in degrees, and periodic at north.
    """
    circle = np.concatenate([rays[-1:] - 360, rays, rays[:1] + 360])
    after = np.clip(np.searchsorted(circle, azimuth), 1, len(circle) - 1)
    nearer = np.where(azimuth - circle[after - 1] < circle[after] - azimuth, after - 1, after)
    return (nearer - 1) % len(rays), np.abs(circle[nearer] - azimuth)


def _at_height(
    level: float, planes: NDArray[np.float32], heights: NDArray[np.floating], margin: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Interpolate to one level; heights ascend from sweep to sweep."""
    found = np.full(planes.shape[1:], np.nan, np.float32)
    for lower, upper, low, high in zip(planes, planes[1:], heights, heights[1:], strict=False):
        inside = np.nonzero((low <= level) & (level < high))
        fraction = (level - low[inside]) / (high[inside] - low[inside])
        found[inside] = _interpolate(lower[inside], upper[inside], fraction)
    for plane, height, sign in ((planes[0], heights[0], 1), (planes[-1], heights[-1], -1)):
        beyond = sign * (height - level)
        near = (beyond >= 0) & (beyond <= margin) & np.isnan(found)
        found[near] = plane[near]
    return found


def _interpolate(
    lower: NDArray[np.float32], upper: NDArray[np.float32], fraction: NDArray[np.floating]
) -> NDArray[np.floating]:
    with np.errstate(invalid="ignore"):  # -inf minus -inf is NaN, which is replaced below
        mixed = lower + fraction * (upper - lower)
    nearer = np.where(fraction < 0.5, lower, upper)
    no_echo = np.isneginf(lower) | np.isneginf(upper)
    missing = np.isnan(lower) | np.isnan(upper)
    return np.where(missing, np.nan, np.where(no_echo, nearer, mixed))


def _to_dataset(levels: NDArray[np.float32], volume: RadarVolume, grid: RadarGrid) -> DataArray:
    try:
        import pyproj
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "radar") from error
    crs = pyproj.CRS.from_dict(
        {"proj": "aeqd", "lat_0": volume.latitude, "lon_0": volume.longitude, "datum": "WGS84"}
    )
    x, y = np.meshgrid(grid.axis, grid.axis)
    degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    longitude, latitude = degrees.transform(x, y)
    named = {axis["axis"].lower(): axis for axis in crs.cs_to_cf()}
    return xarray.DataArray(
        levels,
        dims=("level", "y", "x"),
        name="reflectivity",
        coords={
            "level": ("level", np.array(grid.levels), _HEIGHT),
            "y": ("y", grid.axis, named["y"]),
            "x": ("x", grid.axis, named["x"]),
            "latitude": (("y", "x"), latitude, _degrees("latitude", "degrees_north")),
            "longitude": (("y", "x"), longitude, _degrees("longitude", "degrees_east")),
            "time": ((), volume.time, {"standard_name": "time", "long_name": "start of the volume"}),
            "radar_altitude": (
                (),
                volume.altitude,
                {"long_name": "antenna above mean sea level", "units": "m"},
            ),
            "crs": ((), 0, crs.to_cf()),
        },
        attrs={
            "standard_name": "equivalent_reflectivity_factor",
            "long_name": "radar reflectivity",
            "units": "dBZ",
            "grid_mapping": "crs",
            "comment": "-inf: no echo; NaN: not covered",
        },
    )


_HEIGHT = {
    "standard_name": "altitude",
    "long_name": "height above mean sea level",
    "units": "m",
    "axis": "Z",
    "positive": "up",
}


def _degrees(name: str, units: str) -> dict[str, str]:
    return {"standard_name": name, "long_name": name, "units": units}
