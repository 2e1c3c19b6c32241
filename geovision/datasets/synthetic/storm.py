"""Synthetic hail samples: storms, their observations and labels.

They are stored in the layout of the hail store. The labels are those of `geovision.physics.hail` on the true
reflectivity, which no source observes. Cells are armed aloft and labeled at touchdown, with the published
thresholds and without a cap on the liquid. The warning threshold uses the height of freezing above the ground
of each column, so less hail melts over high ground.

One quantity is not observed by any source: the fraction of a cell's severe hail index that is hail. It is
log-normal around one half with a deviation of 0.3. The oracle knows everything except this fraction, which it
takes as one half. Its predictions are the upper limit of every table; each file contains them as ``oracle``.

`geovision.datasets.synthetic.storm_views` describes the information in each source.

Any change of the formulas needs a new `GENERATOR_VERSION`.
"""

from __future__ import annotations

import datetime
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic import storm_cells, storm_views
from geovision.datasets.synthetic.parallel import parallel_for
from geovision.datasets.synthetic.storm_cells import Storm, TerrainKind
from geovision.errors import OptionError
from geovision.physics import terrain
from geovision.physics.hail import columns
from geovision.physics.hail.labels import ColumnFields, TwoStageRule, track_cells
from geovision.readers.hail_samples import LEVELS, HailSample, TimedSource, write_sample

__all__ = ["GENERATOR_VERSION", "SAMPLES_PER_DAY", "WINDOW_MINUTES", "Truth", "generate", "truth", "write"]

# Results of models that were trained or evaluated on these storms are comparable only within one version:
# any change needs a new version. The version was frozen before the first training and is not tuned to
# training results.
GENERATOR_VERSION = 1

WINDOW_MINUTES = 6.0
"""Interval between windows, in minutes, as published."""

SAMPLES_PER_DAY = 4
"""Number of samples per storm day: two over a plain, two over ridges."""

_LEVELS = np.array(LEVELS, float)
_HISTORY = 12  # minimum number of windows in which cells are tracked for the label
_RULE = TwoStageRule()
_LOST_VOLUMES, _OUTAGE, _NO_SATELLITE, _NO_REANALYSIS = 0.03, 0.3, 0.04, 0.03
_DEGREE = 0.01
_FIRST_DAYS = {2022: "2022-04-10", 2023: "2023-04-10"}


@dataclass(frozen=True)
class Truth:
    """True state in all windows of the history.

    The last window is that of the label.

    Attributes:
        storm: Cells, ground and day.
        times: Times of the windows, in minutes; the last is 0.
        reflectivity: Reflectivity, shape (time, level, y, x), in dBZ; ``-inf`` without echo, NaN below the
            ground.
        embryos: Fraction of the severe hail index that is hail, which no source observes, shape (time, y, x).
    """

    storm: Storm
    times: NDArray[np.floating]
    reflectivity: NDArray[np.floating]
    embryos: NDArray[np.floating]

    def label(self, *, embryos: bool = True) -> NDArray[np.int8]:
        """Return the hail label of the last window.

        Args:
            embryos: Whether the true hail fraction is used. False: the median fraction everywhere, as the
                oracle assumes. Default: True.

        Returns:
            Labels 0 or 1, shape (y, x).
        """
        begin = np.datetime64("2022-01-01T00:00:00", "ns")
        clock = begin + (60e9 * (self.times - self.times[0])).astype("timedelta64[ns]")
        factors = self.embryos if embryos else np.full_like(self.embryos, storm_cells.MEDIAN_HAIL_FRACTION)
        volumes = [_columns(self.storm, *both) for both in zip(self.reflectivity, factors, strict=True)]
        return np.maximum(track_cells(clock, volumes, _RULE).label[-1], 0)


def truth(number: int, *, seed: int = 0, size: tuple[int, int] = (128, 128), windows: int = 20) -> Truth:
    """Return the true storm of a sample.

    Args:
        number: Number of the sample; `SAMPLES_PER_DAY` consecutive samples belong to one day.
        seed: Seed of the series. Default: 0.
        size: Numbers of points (y, x), with a spacing of 0.01 degree that counts as 1 km. Default: (128,
            128).
        windows: Number of windows of a sample. Default: 20.

    Returns:
        The true state in all windows, at least 12.
    """
    day = storm_cells.compose_day(np.random.default_rng([seed, GENERATOR_VERSION, number // SAMPLES_PER_DAY]))
    kinds: tuple[TerrainKind, TerrainKind] = ("plain", "complex")
    times = WINDOW_MINUTES * np.arange(1 - max(windows, _HISTORY), 1, dtype=float)
    rng = np.random.default_rng(
        [seed, GENERATOR_VERSION, number // SAMPLES_PER_DAY, number % SAMPLES_PER_DAY]
    )
    storm = storm_cells.compose_storm(rng, day, kinds[number % 2], size, float(times[0]))
    fields = [storm_cells.reflectivity(storm, float(time), _LEVELS) for time in times]
    return Truth(storm, times, np.stack([each[0] for each in fields]), np.stack([each[1] for each in fields]))


def generate(
    number: int, *, seed: int = 0, size: tuple[int, int] = (128, 128), windows: int = 20
) -> HailSample:
    """Generate one sample; the same arguments give the same sample.

    Args:
        number: Number of the sample.
        seed: Seed of the series. Default: 0.
        size: Numbers of points (y, x), with a spacing of 0.01 degree. Default: (128, 128).
        windows: Number of windows. Default: 20.

    Returns:
        The sample.

    Raises:
        OptionError: There is less than one window, or a side has less than 16 points.
    """
    if windows < 1 or min(size) < 16:
        raise OptionError(
            f"{windows} windows of {size[0]} x {size[1]} points are too small; "
            "expected 1 or more, of 16 or more points per side"
        )
    real = truth(number, seed=seed, size=size, windows=windows)
    rng = np.random.default_rng(
        [seed, GENERATOR_VERSION, number // SAMPLES_PER_DAY, number % SAMPLES_PER_DAY, 1]
    )
    latitude, longitude, when = _place_and_time(
        rng, number // SAMPLES_PER_DAY, number % SAMPLES_PER_DAY, size
    )
    minutes = real.times[-windows:]
    # Minutes after the full hour, which determine the age of satellite and reanalysis data.
    clock = when.minute + minutes
    time = np.datetime64(when.isoformat(), "ns") + (60e9 * minutes).astype("timedelta64[ns]")
    return HailSample(
        time=time,
        latitude=latitude,
        longitude=longitude,
        sources={
            "radar": _radar(rng, real, windows),
            "fy4b": _satellite(rng, real.storm, minutes, clock),
            "era5": _reanalysis(rng, real.storm, clock),
        },
        dem=_ground(real.storm, latitude, longitude),
        label=real.label(),
        extra={"oracle": real.label(embryos=False)},
        attributes={
            "title": f"generated storms, version {GENERATOR_VERSION}, seed {seed}, sample {number}",
            "matching": "backward",
        },
    )


def write(
    root: str | Path, n: int, *, seed: int = 0, size: tuple[int, int] = (128, 128), windows: int = 20
) -> Path:
    """Write samples of ``n / SAMPLES_PER_DAY`` storm days.

    Every third day is in 2023, the others are in 2022.

    Args:
        root: Folder of the data set.
        n: Number of samples.
        seed: Seed of the series. Default: 0.
        size: Numbers of points (y, x), with a spacing of 0.01 degree. Default: (128, 128).
        windows: Number of windows per sample. Default: 20.

    Returns:
        `root`.

    Raises:
        OptionError: `n` is below 1, or `size` is too small.
        StorageError: A file could not be written.
        MissingExtraError: xarray is not installed.
    """
    if n < 1:
        raise OptionError(f"n={n} is too small; expected one sample or more")
    parallel_for(functools.partial(_write_one, Path(root), seed, size, windows), n, num_images=n)
    return Path(root)


def _write_one(root: Path, seed: int, size: tuple[int, int], windows: int, number: int) -> None:
    write_sample(generate(number, seed=seed, size=size, windows=windows), root)


# --- labels -------------------------------------------------------------------------------------


def _columns(storm: Storm, volume: NDArray[np.floating], factor: NDArray[np.floating]) -> ColumnFields:
    day = storm.day
    index = factor * columns.severe_hail_index(
        volume, _LEVELS, freezing_level=day.freezing_level, minus20_level=day.minus20_level
    )
    threshold = columns.warning_threshold(day.freezing_level, radar_altitude=storm.elevation)
    return ColumnFields(
        maximum_reflectivity=columns.maximum_reflectivity(volume),
        height_of_maximum=columns.height_of_maximum(volume, _LEVELS),
        probability_of_severe_hail=columns.probability_of_severe_hail(index, threshold),
        vertically_integrated_liquid=columns.vertically_integrated_liquid(volume, _LEVELS, cap_dbz=None),
        lowest_covered=columns.lowest_covered(volume, _LEVELS),
    )


# --- sources ------------------------------------------------------------------------------------


def _radar(rng: np.random.Generator, real: Truth, windows: int) -> TimedSource:
    coverage = storm_views.radar_coverage(real.storm, storm_views.radar_site(rng, real.storm), _LEVELS)
    volumes = np.stack(
        [
            storm_views.simulate_radar(rng, real.storm, volume, coverage)
            for volume in real.reflectivity[-windows:]
        ]
    )
    lost = rng.random(windows) < _LOST_VOLUMES
    if rng.random() < _OUTAGE:  # consecutive volumes are missing, as in a power failure
        begin = int(rng.integers(windows))
        lost[begin : begin + int(rng.integers(2, 9))] = True
    volumes[lost] = np.nan
    return TimedSource(volumes, np.where(lost, np.nan, 0.0))


def _satellite(
    rng: np.random.Generator, storm: Storm, minutes: NDArray[np.floating], clock: NDArray[np.floating]
) -> TimedSource:
    age = clock % 15
    scans = {scan: storm_views.brightness_temperatures(rng, storm, scan) for scan in np.unique(minutes - age)}
    values = np.stack([scans[scan] for scan in minutes - age])
    return _drop_randomly(rng, values, age, _NO_SATELLITE)


def _reanalysis(rng: np.random.Generator, storm: Storm, clock: NDArray[np.floating]) -> TimedSource:
    hours, which = np.unique(np.floor(clock / 60), return_inverse=True)
    values = storm_views.environment(rng, storm, len(hours))[which]
    return _drop_randomly(rng, values, clock % 60, _NO_REANALYSIS)


def _drop_randomly(
    rng: np.random.Generator, values: NDArray[np.floating], age: NDArray[np.floating], probability: float
) -> TimedSource:
    missing = rng.random() < probability
    return TimedSource(np.where(missing, np.nan, values), np.where(missing, np.nan, age))


def _ground(
    storm: Storm, latitude: NDArray[np.floating], longitude: NDArray[np.floating]
) -> NDArray[np.floating]:
    height = storm.elevation
    dx, dy = terrain.grid_spacing(latitude, longitude)
    return np.stack(
        [
            height,
            terrain.slope(height, dx, dy),
            terrain.curvature(height, dx, dy),
            terrain.aspect(height, dx, dy),
            terrain.flow_direction(height, dx, dy),
        ]
    )


def _place_and_time(
    rng: np.random.Generator, day: int, sample: int, size: tuple[int, int]
) -> tuple[NDArray[np.floating], NDArray[np.floating], datetime.datetime]:
    year = 2023 if day % 3 == 2 else 2022
    first = datetime.date.fromisoformat(_FIRST_DAYS[year])
    date = first + datetime.timedelta(days=day // 3 * 2 + day % 3 % 2)
    # From 6 to 16 UTC, afternoon and evening in China.
    minute = int(rng.integers(100)) * int(WINDOW_MINUTES)
    # The four samples of a day are far apart, each in a different quarter of the country.
    south, west = 26 + 4 * (sample // 2) + 2 * rng.random(), 106 + 9 * (sample % 2) + 7 * rng.random()
    corner = np.round(south, 2), np.round(west, 2)
    latitude, longitude = (
        np.round(begin + _DEGREE * np.arange(points), 2) for begin, points in zip(corner, size, strict=True)
    )
    when = datetime.datetime.combine(date, datetime.time(6)) + datetime.timedelta(minutes=minute)
    return latitude, longitude, when
