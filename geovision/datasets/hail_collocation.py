"""From radar, satellite, reanalysis and heights of the ground to hail samples on one grid and one clock.

In space the nearest neighbour, as published. In time ``"nearest"``, as published, which looks into the
future, or ``"backward"``, what a forecaster has: the last that began by then. What is older than a source's
maximum age is missing, not stale.
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
"""Minutes by which what stands in a window may be older, or younger by the nearest: our choice."""

_CACHE_SIZE = 64  # fields of each source in memory: neighbouring samples share most of theirs


def match_times(
    windows: NDArray[np.datetime64],
    times: NDArray[np.datetime64],
    *,
    method: MatchMethod = "backward",
    maximum_age: float,
) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Which of the times stands in each window.

    Args:
        windows: ``(window,)``.
        times: ``(time,)``, ascending.
        method: The last that is not later, or the nearest.
        maximum_age: Minutes.

    Returns:
        Its index, -1 where there is none, and by how many minutes the window is later, NaN where none.

    Raises:
        OptionError: No such matching, or an age below 0.

    >>> clock = np.datetime64("2023-06-17T08:00") + np.array([0, 6, 12]).astype("timedelta64[m]")
    >>> match(clock, clock[1:], how="nearest", maximum_age=6)
    (array([0, 0, 1]), array([-6.,  0.,  0.]))
    >>> match(clock, clock[1:], maximum_age=6)
    (array([-1,  0,  1]), array([nan,  0.,  0.]))
    """
    if method not in ("backward", "nearest"):
        raise OptionError(f"matching {method!r} is not known; choose backward or nearest")
    if not maximum_age >= 0:
        raise OptionError(f"a maximum age of {maximum_age:g} minutes; expected 0 or more")
    if not len(times):
        return np.full(len(windows), -1), np.full(len(windows), np.nan)
    given, known = (each.astype("datetime64[s]").astype(np.int64) for each in (windows, times))
    index = np.searchsorted(known, given, side="right") - 1
    if method == "nearest":
        after = np.clip(index + 1, 0, len(known) - 1)
        before = np.clip(index, 0, None)
        index = np.where(np.abs(known[after] - given) < np.abs(given - known[before]), after, before)
    age = (given - known[np.clip(index, 0, None)]) / 60
    missing = (index < 0) | (np.abs(age) > maximum_age)
    return np.where(missing, -1, index), np.where(missing, np.nan, age)


@dataclass(frozen=True)
class SampleGrid:
    """Points of a sample, even steps of degrees.

    Args:
        latitude, longitude: Of the middle.
        size: (y, x), points.
        step: Degrees.

    Raises:
        OptionError: Fewer than two points a side, or no place on earth.
    """

    latitude: float
    longitude: float
    size: tuple[int, int] = (128, 128)
    step: float = 0.01

    def __post_init__(self) -> None:
        if min(self.size) < 2 or not self.step > 0:
            raise OptionError(
                f"a grid of {self.size[0]} x {self.size[1]} points in steps of {self.step:g} degrees"
            )
        if not (abs(self.latitude) <= 85 and abs(self.longitude) <= 180):
            raise OptionError(
                f"{self.latitude:g} N {self.longitude:g} E: expected up to 85 degrees of latitude and "
                "180 of longitude"
            )

    @property
    def axes(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Latitudes and longitudes, ascending."""
        south, west = (
            round(middle - self.step * (points - 1) / 2, 6)
            for middle, points in zip((self.latitude, self.longitude), self.size, strict=True)
        )
        return south + self.step * np.arange(self.size[0]), west + self.step * np.arange(self.size[1])


@dataclass
class HailSources:
    """Files of each source on one grid; a source without files is missing in every sample.

    Args:
        grid: Points of the samples.
        radar: Volumes, ODIM_H5 or NEXRAD, or grids in NetCDF or Zarr, in any order.
        agri: Full discs of level 1.
        era5: NetCDF or GRIB.
        dem: Heights of the ground.
        max_range: m from a radar within which its volumes are gridded.
    """

    grid: SampleGrid
    radar: Sequence[str | Path] = ()
    agri: Sequence[str | Path] = ()
    era5: Sequence[str | Path] = ()
    dem: Sequence[str | Path] = ()
    max_range: float = 150_000.0
    on_skip: Callable[[str], None] = field(default=lambda _: None)
    """Called with what is wrong with a file that is left out."""

    @functools.cached_property
    def ground(self) -> NDArray[np.floating]:
        """``(channel, y, x)``; all missing without files."""
        shape = (len(CHANNELS["dem"]), *self.grid.size)
        return (
            terrain_channels(elevation_on_grid(self.dem, *self.grid.axes), *self.grid.axes)
            if self.dem
            else np.full(shape, np.nan)
        )

    @functools.cached_property
    def _readers(self) -> dict[str, tuple[NDArray[np.datetime64], Callable[[int], NDArray]]]:
        """Of each source its times, ascending, and what reads the field of one."""
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
        """Read the ground and the times of all files, so that what is wrong with them is told at once.

        Raises:
            InputError: Heights that cannot be used, or files of ERA5 that lack a variable.
        """
        _ = self.ground, self._readers
        return self

    @functools.cached_property
    def _fields(self) -> Callable[[str, int], NDArray | None]:
        """The field of a source at one of its times, None where its file cannot be used or has no value
        there."""

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
        """A source in every window."""
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
    """Elevation, slope, curvature, aspect and flow direction ``(channel, y, x)`` of heights in m on a grid of
    degrees; see `geovision.physics.terrain`."""
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
    """One sample whose last window is at a time.

    Args:
        sources: Where things lie.
        time: Of the label, UTC.
        label: ``(y, x)``: 1 hail, 0 none, -1 not known, on any grid.
        label_latitude, label_longitude: Of that grid, ``(y,)`` and ``(x,)``, or both ``(y, x)``.
        windows: How many there are.
        step: Minutes between them.
        method: See `match_times`.
        maximum_age: Minutes, of each source.

    Raises:
        InputError: Nothing of radar, satellite and reanalysis is there, or the label lies elsewhere.
        OptionError: No windows.
    """
    if windows < 1 or not step > 0:
        raise OptionError(f"{windows} windows in steps of {step:g} minutes; expected one or more, above 0")
    back = (60 * step * np.arange(1 - windows, 1)).astype("timedelta64[s]")
    clock = np.asarray(time).astype("datetime64[s]") + back
    stacks = {
        name: sources.stack(name, clock, method=method, maximum_age=maximum_age[name]) for name in MAXIMUM_AGE
    }
    if all(np.isnan(each.age).all() for each in stacks.values()):
        raise InputError(
            f"{str(time)[:19]}: nothing of radar, satellite and reanalysis in any of {windows} windows; look "
            "at the times of the files and at the maximum ages"
        )
    axes = sources.grid.axes
    near = NearestNeighborIndex.build(label_latitude, label_longitude, *axes, where="the label")
    there = near.take(np.asarray(label, float))
    return HailSample(
        time=clock,
        latitude=axes[0],
        longitude=axes[1],
        sources=stacks,
        dem=sources.ground,
        label=np.where(np.isnan(there), -1, there).astype(np.int8),
        attributes={
            "matching": method,
            "maximum_age_minutes": ", ".join(f"{n} {maximum_age[n]:g}" for n in MAXIMUM_AGE),
        },
    )
