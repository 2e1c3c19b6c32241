"""Schema of hail samples: channels, windows and names."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError

__all__ = [
    "CHANNELS",
    "LEVELS",
    "NO_ECHO_DBZ",
    "TIMED_SOURCES",
    "HailSample",
    "SampleName",
    "TimedSource",
    "check_shapes",
    "sample_files",
    "terrain_class",
]

LEVELS = (
    500,
    1000,
    1500,
    2000,
    2500,
    3000,
    3500,
    4000,
    4500,
    5000,
    5500,
    6000,
    7000,
    8000,
    9000,
    10000,
    12000,
    14000,
    15500,
    17000,
    19000,
)
"""Heights of the 21 reflectivity levels, in m above mean sea level."""

CHANNELS: dict[str, dict[str, str]] = {
    "radar": {f"reflectivity_{level}m": "dBZ" for level in LEVELS},
    "fy4b": {f"brightness_temperature_{band}um": "K" for band in ("6.25", "6.95", "8.55", "10.8", "12.0")},
    "era5": {
        "freezing_level": "m",
        "minus20_level": "m",
        "cape": "J kg-1",
        "shear_0_6km": "m s-1",
        "dewpoint_2m": "K",
    },
    "dem": {
        "elevation": "m",
        "slope": "degree",
        "curvature": "m-1",
        "aspect": "degree",
        "flow_direction": "degree",
    },
}
"""Channels of each source, in order, with their units."""

NO_ECHO_DBZ = -33.0
"""Value for no echo in files and tensors, in dBZ. Reflectivity is above it."""

TIMED_SOURCES = ("radar", "fy4b", "era5")
"""Sources with values in every window."""

_COMPLEX_RELIEF = 400.0  # m
_NAME = re.compile(r"^hail_(\d{8}T\d{6})_([NS])(\d{4})_([EW])(\d{5})$")


@dataclass(frozen=True)
class TimedSource:
    """Values of one source in every window.

    Args:
        values: Values, shape ``(time, channel, y, x)``; NaN is missing. For radar, NaN is not covered and
            ``-inf`` is no echo.
        age: Time from the measurement to the window in minutes, shape ``(time,)``; negative if the
            measurement is later, NaN if it is missing.
    """

    values: NDArray[np.floating]
    age: NDArray[np.floating]


@dataclass(frozen=True)
class HailSample:
    """Hail sample, the content of one file.

    Args:
        time: Times of the windows, UTC, shape ``(time,)``, ascending in even steps; the label is for the
            last.
        latitude: Latitudes in degrees north, shape ``(y,)``, ascending.
        longitude: Longitudes in degrees east, shape ``(x,)``, ascending.
        sources: Values of ``"radar"``, ``"fy4b"`` and ``"era5"``.
        dem: Terrain, shape ``(channel, y, x)``; NaN is missing, such as the aspect of level ground.
        label: Label, int8, shape ``(y, x)``: 1 hail, 0 no hail, -1 unknown.
        extra: Other fields by name, shape ``(y, x)``, such as the prediction of an oracle. Default: ``{}``.
        attributes: Origin of the data and parameters of the collocation. Default: ``{}``.
    """

    time: NDArray[np.datetime64]
    latitude: NDArray[np.floating]
    longitude: NDArray[np.floating]
    sources: Mapping[str, TimedSource]
    dem: NDArray[np.floating]
    label: NDArray[np.int8]
    extra: Mapping[str, NDArray] = field(default_factory=dict)
    attributes: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def name(self) -> SampleName:
        """Name with last time and grid center."""
        when = self.time[-1].astype("datetime64[s]").astype(datetime.datetime)
        return SampleName(when, float(self.latitude.mean()), float(self.longitude.mean()))


@dataclass(frozen=True)
class SampleName:
    """Time and position of a sample.

    Args:
        time: Time of the last window, UTC.
        latitude: Latitude of the center of the grid, in degrees north.
        longitude: Longitude of the center of the grid, in degrees east.
    """

    time: datetime.datetime
    latitude: float
    longitude: float

    def __str__(self) -> str:
        north, east = round(100 * self.latitude), round(100 * self.longitude)
        return (
            f"hail_{self.time:%Y%m%dT%H%M%S}_{'S' if north < 0 else 'N'}{abs(north):04d}_"
            f"{'W' if east < 0 else 'E'}{abs(east):05d}"
        )

    @classmethod
    def from_path(cls, path: Path) -> SampleName:
        """Parse the name of a file.

        >>> SampleName.from_path(Path("hail_20230617T083000_N3050_E11200.nc")).storm_day
        '2023-06-17'

        Args:
            path: Path of the sample.

        Returns:
            Time and position of the sample.

        Raises:
            InputError: The name does not follow the pattern.
        """
        found = _NAME.match(path.stem)
        if not found:
            raise InputError(
                f"{path}: not named like hail_20230617T083000_N3050_E11200.nc, with time and position; "
                "restore the original name"
            )
        when, south, north, west, east = found.groups()
        latitude = int(north) / (-100 if south == "S" else 100)
        longitude = int(east) / (-100 if west == "W" else 100)
        return cls(datetime.datetime.strptime(when, "%Y%m%dT%H%M%S"), latitude, longitude)

    @property
    def storm_day(self) -> str:
        """Day of the storm, from 6 to 6 h local solar time.

        Evening storms continue past midnight, local time or UTC, so calendar days would divide them.
        """
        local = self.time + datetime.timedelta(hours=self.longitude / 15 - 6)
        return f"{local:%Y-%m-%d}"


def terrain_class(elevation: NDArray[np.floating]) -> Literal["plain", "complex", "unknown"]:
    """Return the class of the terrain by its range of heights.

    ``"complex"`` means that the heights span 400 m or more without the lowest and highest 5 %. This is a
    definition of this package: the published strata are not defined.

    Args:
        elevation: Heights in m, any shape; NaN is missing.

    Returns:
        ``"plain"`` or ``"complex"``; ``"unknown"`` if all heights are missing.
    """
    if np.isnan(elevation).all():
        return "unknown"
    low, high = np.nanquantile(elevation, [0.05, 0.95])
    return "complex" if high - low >= _COMPLEX_RELIEF else "plain"


def sample_files(root: Path) -> list[Path]:
    """Return the samples of a folder, sorted by name.

    Args:
        root: Folder.
    """
    return sorted(path for path in Path(root).glob("hail_*") if path.suffix in (".nc", ".zarr"))


def check_windows(time: NDArray[np.datetime64], where: str) -> None:
    """Raise unless the windows are ascending in even steps.

    Args:
        time: Times of the windows, shape ``(time,)``.
        where: Name of the sample in error messages.

    Raises:
        InputError: The windows are not ascending, or one is omitted.
    """
    steps = np.diff(time.astype("datetime64[s]").astype(np.int64))
    if len(time) < 1 or (len(steps) and (steps[0] <= 0 or (steps != steps[0]).any())):
        minutes = ", ".join(f"{step / 60:g}" for step in steps[:8])
        raise InputError(
            f"{where}: {len(time)} windows {minutes or 'no'} minutes apart; expected even steps, ascending. "
            "Fill missing windows with NaN instead of omitting them"
        )


def check_shapes(sample: HailSample) -> None:
    """Raise unless the parts of a sample are consistent.

    Args:
        sample: Hail sample.

    Raises:
        InputError: The time steps are uneven, a source is missing, or shapes differ.
    """
    check_windows(sample.time, "the sample")
    windows, grid = len(sample.time), (len(sample.latitude), len(sample.longitude))
    if sorted(sample.sources) != sorted(TIMED_SOURCES):
        raise InputError(
            f"sources {', '.join(sample.sources)}; expected {', '.join(TIMED_SOURCES)}, "
            "with NaN where one is missing"
        )
    expected: dict[str, tuple[int, ...]] = {
        name: (windows, len(CHANNELS[name]), *grid) for name in TIMED_SOURCES
    }
    found: dict[str, tuple[int, ...]] = {name: source.values.shape for name, source in sample.sources.items()}
    found |= {"dem": sample.dem.shape, "label": sample.label.shape}
    expected |= {"dem": (len(CHANNELS["dem"]), *grid), "label": grid}
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(f"{name} of shape {found[name]}; expected {shape}")
