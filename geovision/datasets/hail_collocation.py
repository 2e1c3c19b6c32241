"""Collocation of radar, satellite, reanalysis and elevation to hail samples on one grid.

In space, the nearest neighbor is used, as published. In time, there are two methods. ``"nearest"``, as
published, also uses later values. ``"backward"`` uses what is available to a forecaster: the last value that
began by then. A value that is older than the maximum age of its source is missing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision.errors import InputError, OptionError
from geovision.physics import terrain
from geovision.readers.elevation import elevation_on_grid
from geovision.readers.era5 import open_era5
from geovision.readers.fy4_agri import read_agri, scan_time
from geovision.readers.hail_samples import CHANNELS, LEVELS, HailSample, TimedSource
from geovision.readers.nearest_neighbor import NearestNeighborIndex
from geovision.readers.radar.reflectivity import list_volumes, read_reflectivity

__all__ = ["MAXIMUM_AGE", "HailSources", "SampleGrid", "build_sample", "match_times", "terrain_channels"]

MatchMethod = Literal["backward", "nearest"]

MAXIMUM_AGE: Mapping[str, float] = {"radar": 6.0, "fy4b": 30.0, "era5": 120.0}
"""Largest time difference between a window and the value used for it, in minutes, by source.

With the method "nearest", it also applies to later values. The numbers were chosen for this library; they are
not published.
"""

_CACHE_SIZE = 64  # fields of each source in memory, because adjacent samples share most of them


def match_times(
    windows: NDArray[np.datetime64],
    times: NDArray[np.datetime64],
    *,
    method: MatchMethod = "backward",
    maximum_age: float,
) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Match the times of a source to windows.

    Args:
        windows: Times of the windows, shape ``(window,)``.
        times: Times of the source, shape ``(time,)``, ascending.
        method: Match to the last time that is not later ("backward"), or to the nearest time ("nearest").
            Default: "backward".
        maximum_age: Largest time difference, in minutes.

    Returns:
        Index of the matched time, -1 if there is none, and the age of the value in minutes, NaN if there is
        none. The age is negative for a later time.

    Raises:
        OptionError: There is no such method, or the maximum age is below 0.

    >>> clock = np.datetime64("2023-06-17T08:00") + np.array([0, 6, 12]).astype("timedelta64[m]")
    >>> match_times(clock, clock[1:], method="nearest", maximum_age=6)
    (array([0, 0, 1]), array([-6.,  0.,  0.]))
    >>> match_times(clock, clock[1:], maximum_age=6)
    (array([-1,  0,  1]), array([nan,  0.,  0.]))
    """
    if method not in ("backward", "nearest"):
        raise OptionError(f"matching {method!r} is not known; choose backward or nearest")
    if not maximum_age >= 0:
        raise OptionError(f"a maximum age of {maximum_age:g} minutes; expected 0 or more")
    if not len(times):
        return np.full(len(windows), -1), np.full(len(windows), np.nan)
    targets, available = (each.astype("datetime64[s]").astype(np.int64) for each in (windows, times))
    index = np.searchsorted(available, targets, side="right") - 1
    if method == "nearest":
        after = np.clip(index + 1, 0, len(available) - 1)
        before = np.clip(index, 0, None)
        is_nearer = np.abs(available[after] - targets) < np.abs(targets - available[before])
        index = np.where(is_nearer, after, before)
    age = (targets - available[np.clip(index, 0, None)]) / 60
    missing = (index < 0) | (np.abs(age) > maximum_age)
    return np.where(missing, -1, index), np.where(missing, np.nan, age)


@dataclass(frozen=True)
class SampleGrid:
    """Regular grid of a sample in latitude and longitude.

    Args:
        latitude: Latitude of the center, in degrees.
        longitude: Longitude of the center, in degrees.
        size: Height and width, in grid points. Default: 128 x 128.
        step: Grid spacing, in degrees. Default: 0.01.

    Raises:
        OptionError: A side has fewer than two points, or the center is not a valid location.
    """

    latitude: float
    longitude: float
    size: tuple[int, int] = (128, 128)
    step: float = 0.01

    def __post_init__(self) -> None:
        if min(self.size) < 2 or not self.step > 0:
            raise OptionError(
                f"a grid of {self.size[0]} x {self.size[1]} points in steps of {self.step:g} degrees; "
                "expected two points or more in each direction and a step above 0"
            )
        if not (abs(self.latitude) <= 85 and abs(self.longitude) <= 180):
            raise OptionError(
                f"{self.latitude:g} N {self.longitude:g} E: expected up to 85 degrees of latitude and "
                "180 of longitude"
            )

    @property
    def axes(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Latitudes and longitudes, ascending, in degrees."""
        south, west = (
            round(center - self.step * (points - 1) / 2, 6)
            for center, points in zip((self.latitude, self.longitude), self.size, strict=True)
        )
        return south + self.step * np.arange(self.size[0]), west + self.step * np.arange(self.size[1])


@dataclass
class HailSources:
    """Files of each source on one grid.

    A source without files is missing in every sample.

    Args:
        grid: Grid of the samples.
        radar: Radar volumes in ODIM_H5 or NEXRAD, or grids in NetCDF or Zarr, in any order. Default: none.
        agri: Full-disk files of AGRI, level 1. Default: none.
        era5: ERA5 files in NetCDF or GRIB. Default: none.
        dem: Files of elevation. Default: none.
        max_range: Largest distance from a radar to which its volumes are gridded, in m. Default: 150 000.
        on_skip: Function that is called with the reason for each file that is skipped. Default: no action.
    """

    grid: SampleGrid
    radar: Sequence[str | Path] = ()
    agri: Sequence[str | Path] = ()
    era5: Sequence[str | Path] = ()
    dem: Sequence[str | Path] = ()
    max_range: float = 150_000.0
    on_skip: Callable[[str], None] = field(default=lambda _: None)

    @functools.cached_property
    def ground(self) -> NDArray[np.floating]:
        """Terrain channels, shape ``(channel, y, x)``; all NaN without files."""
        shape = (len(CHANNELS["dem"]), *self.grid.size)
        return (
            terrain_channels(elevation_on_grid(self.dem, *self.grid.axes), *self.grid.axes)
            if self.dem
            else np.full(shape, np.nan)
        )

    @functools.cached_property
    def _readers(self) -> dict[str, tuple[NDArray[np.datetime64], Callable[[int], NDArray]]]:
        """Times of each source, ascending, and a function that reads the field of one time."""
        volumes = list_volumes(self.radar, on_skip=self.on_skip)
        scans = self._scans()
        air = open_era5(self.era5, on_skip=self.on_skip) if self.era5 else None
        hours = air.times if air else np.array([], "datetime64[s]")
        axes = self.grid.axes

        def weather(index: int) -> NDArray:
            assert air is not None
            return air.environment(hours[index], *axes, self.ground[0])

        return {
            "radar": (
                np.array([each.time for each in volumes], "datetime64[s]"),
                lambda n: read_reflectivity(volumes[n], LEVELS, *axes, max_range=self.max_range),
            ),
            "fy4b": (
                np.array([time for time, _ in scans], "datetime64[s]"),
                lambda n: read_agri(scans[n][1], *axes).temperatures,
            ),
            "era5": (hours, weather),
        }

    def _scans(self) -> list[tuple[np.datetime64, Path]]:
        found = []
        for path in map(Path, self.agri):
            try:
                found.append((scan_time(path), path))
            except InputError as error:
                self.on_skip(str(error))
        return sorted(found)

    def prepare(self) -> Self:
        """Read the terrain and the times of all files, so that errors are raised early.

        Returns:
            The same object.

        Raises:
            InputError: The elevation cannot be used, or ERA5 files lack a variable.
        """
        _ = self.ground, self._readers
        return self

    @functools.cached_property
    def _fields(self) -> Callable[[str, int], NDArray | None]:
        """Cached function that reads the field of a source at one of its times.

        It returns None if the file cannot be used or contains no value on the grid.
        """

        @functools.lru_cache(maxsize=3 * _CACHE_SIZE)
        def read(name: str, index: int) -> NDArray | None:
            try:
                values = self._readers[name][1](index)
            except InputError as error:
                self.on_skip(str(error))
                return None
            return None if np.isnan(values).all() else values

        return read

    def stack(
        self, name: str, windows: NDArray[np.datetime64], *, method: MatchMethod, maximum_age: float
    ) -> TimedSource:
        """Return the values of a source in every window.

        Args:
            name: Name of the source: "radar", "fy4b" or "era5".
            windows: Times of the windows, shape ``(window,)``.
            method: Method of `match_times`.
            maximum_age: Largest time difference, in minutes.
        """
        index, age = match_times(windows, self._readers[name][0], method=method, maximum_age=maximum_age)
        values = np.full((len(windows), len(CHANNELS[name]), *self.grid.size), np.nan, np.float32)
        for window, number in enumerate(index):
            found = self._fields(name, int(number)) if number >= 0 else None
            if found is None:
                age[window] = np.nan
            else:
                values[window] = found
        return TimedSource(values, age)


def terrain_channels(
    elevation: NDArray[np.floating], latitude: ArrayLike, longitude: ArrayLike
) -> NDArray[np.float32]:
    """Return elevation, slope, curvature, aspect and flow direction of a grid.

    The formulas are in `geovision.physics.terrain`.

    Args:
        elevation: Elevation, shape ``(y, x)``, in m.
        latitude: Latitudes of the grid, in degrees.
        longitude: Longitudes of the grid, in degrees.

    Returns:
        Terrain channels, float32, shape ``(channel, y, x)``.
    """
    dx, dy = terrain.grid_spacing(latitude, longitude)
    parts = (terrain.slope, terrain.curvature, terrain.aspect, terrain.flow_direction)
    return np.stack([elevation, *(part(elevation, dx, dy) for part in parts)]).astype(np.float32)


def build_sample(
    sources: HailSources,
    time: np.datetime64,
    label: NDArray[np.integer],
    label_latitude: ArrayLike,
    label_longitude: ArrayLike,
    *,
    windows: int = 20,
    step: float = 6.0,
    method: MatchMethod = "backward",
    maximum_age: Mapping[str, float] = MAXIMUM_AGE,
) -> HailSample:
    """Build one sample whose last window is at the time of the label.

    Args:
        sources: Files of each source, and the grid.
        time: Time of the label, UTC.
        label: Label on any grid, shape ``(y, x)``: 1 hail, 0 no hail, -1 unknown.
        label_latitude: Latitudes of the label grid, shape ``(y,)`` or ``(y, x)``, in degrees.
        label_longitude: Longitudes of the label grid, shape ``(x,)`` or ``(y, x)``, in degrees.
        windows: Number of windows. Default: 20.
        step: Time between windows, in minutes. Default: 6.
        method: Method of `match_times`. Default: "backward".
        maximum_age: Largest time difference of each source, in minutes. Default: `MAXIMUM_AGE`.

    Raises:
        InputError: Radar, satellite and reanalysis are all missing, or the label does not cover the grid.
        OptionError: There are no windows, or the step is not above 0.
    """
    if windows < 1 or not step > 0:
        raise OptionError(
            f"{windows} windows in steps of {step:g} minutes; expected one or more and a step above 0"
        )
    offsets = (60 * step * np.arange(1 - windows, 1)).astype("timedelta64[s]")
    clock = np.asarray(time).astype("datetime64[s]") + offsets
    stacks = {
        name: sources.stack(name, clock, method=method, maximum_age=maximum_age[name]) for name in MAXIMUM_AGE
    }
    if all(np.isnan(each.age).all() for each in stacks.values()):
        raise InputError(
            f"{str(time)[:19]}: no value of radar, satellite or reanalysis in any of {windows} windows; "
            "check the times of the files and the maximum ages"
        )
    axes = sources.grid.axes
    neighbors = NearestNeighborIndex.build(label_latitude, label_longitude, *axes, where="the label")
    nearest_label = neighbors.take(np.asarray(label, float))
    return HailSample(
        time=clock,
        latitude=axes[0],
        longitude=axes[1],
        sources=stacks,
        dem=sources.ground,
        label=np.where(np.isnan(nearest_label), -1, nearest_label).astype(np.int8),
        attributes={
            "matching": method,
            "maximum_age_minutes": ", ".join(f"{n} {maximum_age[n]:g}" for n in MAXIMUM_AGE),
        },
    )
