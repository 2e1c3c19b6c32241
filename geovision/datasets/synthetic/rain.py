"""Synthetic daily rain with a known coarse version and a known bias.

The logarithm of intensity is a sum of textures of one octave each; finer textures are weaker. Each texture
drifts with the wind of the day and is renewed, finer ones faster. It rains where the sum exceeds a level that
changes with the weather; the excess gives the intensity:

    g(t) = sum_l w_l f_l(t),  w_l ~ 2^(-H l);   f_l(t + 1) = a_l f_l(t) moved by the wind + fresh noise
    rain = c (exp(s max(g - z(t), 0)) - 1) exp(relief)

Totals are therefore log-normal in the tail, and cells can be dry. The relief is the part below the coarse
grid that a network can learn. `BIAS` is a monotone distortion of coarse rain with drizzle, so a perfect
correction exists.

Any change of the formulas needs a new `GENERATOR_VERSION`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic.noise import cells, fractal
from geovision.errors import MissingExtraError, OptionError
from geovision.readers.grids import coarsen, write_grid

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "BIAS",
    "FILES",
    "GENERATOR_VERSION",
    "RainBias",
    "daily_fields",
    "fields",
    "january_days",
    "write",
    "write_years",
]

GENERATOR_VERSION = 1

FILES = {"fine": "rain_fine.nc", "coarse": "rain_coarse.nc", "model": "rain_model.nc"}
"""File names of `write`.

``fine``: rain in mm/day, NaN over sea. ``coarse``: its area means in kg m-2 s-1. ``model``: the area means
with `BIAS`.
"""

_HURST = 0.55  # exponent H of the weights of the octaves
_SPREAD = 0.92  # factor s of the logarithm; larger values give heavier tails
_SCALE = 3.6  # factor c, mm/day
_DRY_THRESHOLD = 0.3055  # level z without weather; 0.62 of a normal distribution is below it and dry
_RENEWAL_DAYS = 2.5  # time scale on which the coarsest octave is renewed, days
_RELIEF = 0.45  # factor of the relief in the logarithm


@dataclass(frozen=True)
class RainBias:
    """Bias of rain, ``drizzle + scale rain^power``, in mm/day.

    Biased rain is too frequent, too weak, and wrong in the mean.

    Attributes:
        scale: Factor of rain. Default: 1.35.
        power: Exponent of rain. Default: 0.8.
        drizzle: Constant amount, in mm/day. Default: 0.3.
    """

    scale: float = 1.35
    power: float = 0.8
    drizzle: float = 0.3

    def apply(self, rain: xr.DataArray) -> xr.DataArray:
        """Return biased rain, as a climate model would simulate it.

        Args:
            rain: Rain, in mm/day.

        Returns:
            Biased rain, in mm/day.
        """
        return self.drizzle + self.scale * rain**self.power

    def remove(self, biased: xr.DataArray) -> xr.DataArray:
        """Return rain without the bias: the best possible correction.

        Args:
            biased: Biased rain, in mm/day.

        Returns:
            Rain, in mm/day.
        """
        return ((biased - self.drizzle).clip(min=0) / self.scale) ** (1 / self.power)


BIAS = RainBias()


def write(
    root: str | Path,
    n: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (48, 64),
    factor: int = 4,
    sea: float = 0.2,
    calendar: Literal["standard", "noleap"] = "standard",
    start: str = "2001-01-01",
) -> Path:
    """Write days as three CF NetCDF files, named in `FILES`.

    Args:
        root: Folder of the files; created if it does not exist.
        n: Number of days.
        seed: Seed of all random numbers. The same seed gives the same files; a longer series begins with the
            same days. Default: 0.
        size: Numbers of latitudes and longitudes of the fine grid, with cells of 0.25 degrees. Default: (48,
            64).
        factor: Number of fine cells along each side of a coarse cell. Default: 4.
        sea: Fraction of the fine grid that is missing, from 0 to below 1. Default: 0.2.
        calendar: Calendar of the files, ``"standard"`` or ``"noleap"``. Default: ``"standard"``.
        start: First day, as an ISO date. Default: ``"2001-01-01"``.

    Returns:
        `root`.

    Raises:
        OptionError: `n`, `sea` or `size` is out of range.
        StorageError: A file could not be written.
        MissingExtraError: xarray or its NetCDF backend is not installed.
    """
    folder = Path(root)
    fine, coarse, model = fields(
        n, seed=seed, size=size, factor=factor, sea=sea, calendar=calendar, start=start
    )
    title = f"generated rain, version {GENERATOR_VERSION}, seed {seed}"
    write_grid(fine, folder / FILES["fine"], title=title)
    write_grid(coarse, folder / FILES["coarse"], units="kg m-2 s-1", title=title)
    write_grid(model, folder / FILES["model"], units="kg m-2 s-1", title=title)
    return folder


def write_years(
    root: str | Path,
    n: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (32, 48),
    factor: int = 4,
    years: int = 8,
) -> Path:
    """Write the same three files with days in Januaries of several years.

    A split by year then finds groups. The rain of the first day of a January follows that of the last day of
    the January before.

    Args:
        root: Folder of the files; created if it does not exist.
        n: Number of days in all years, from 1 to 31 per year.
        seed: Seed of all random numbers. Default: 0.
        size: Numbers of latitudes and longitudes of the fine grid. Default: (32, 48).
        factor: Number of fine cells along each side of a coarse cell. Default: 4.
        years: Number of years. Default: 8.

    Returns:
        `root`.

    Raises:
        OptionError: The Januaries do not have this number of days.
        StorageError: A file could not be written.
        MissingExtraError: xarray or its NetCDF backend is not installed.
    """
    if not years <= n <= 31 * years:
        raise OptionError(f"n={n} days do not fit {years} Januaries; expected {years} to {31 * years}")
    folder = Path(root)
    dates = january_days(n, years)
    title = f"generated rain, version {GENERATOR_VERSION}, seed {seed}"
    for field, name, unit in zip(
        fields(n, seed=seed, size=size, factor=factor), FILES.values(), ("", *["kg m-2 s-1"] * 2), strict=True
    ):
        write_grid(field.assign_coords(time=dates), folder / name, units=unit, title=title)
    return folder


def january_days(n: int, years: int) -> NDArray[np.datetime64]:
    """Return dates in the Januaries of several years from 2001.

    They are divided as evenly as possible.

    Args:
        n: Number of dates.
        years: Number of Januaries.

    Returns:
        The dates, shape (n,).
    """
    share = np.array_split(np.arange(n), years)
    return np.concatenate(
        [
            np.datetime64(f"{2001 + number}-01-01", "ns") + np.arange(len(part)).astype("timedelta64[D]")
            for number, part in enumerate(share)
        ]
    )


def fields(
    n: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (48, 64),
    factor: int = 4,
    sea: float = 0.2,
    calendar: Literal["standard", "noleap"] = "standard",
    start: str = "2001-01-01",
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return fine, coarse and biased rain, as `write` stores it.

    Args:
        n: Number of days.
        seed: Seed of all random numbers. Default: 0.
        size: Numbers of latitudes and longitudes of the fine grid. Default: (48, 64).
        factor: Number of fine cells along each side of a coarse cell. Default: 4.
        sea: Fraction of the fine grid that is missing, from 0 to below 1. Default: 0.2.
        calendar: Calendar of the time axis. Default: ``"standard"``.
        start: First day, as an ISO date. Default: ``"2001-01-01"``.

    Returns:
        Fine rain, its area means, and the area means with `BIAS`, shape (time, lat, lon), in mm/day.

    Raises:
        OptionError: `n`, `sea` or `size` is out of range.
        MissingExtraError: xarray is not installed.
    """
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    if n < 1 or not 0 <= sea < 1 or min(size) < 2 * factor:
        raise OptionError(
            f"n={n}, sea={sea}, size={size} is out of range; expected n of 1 or more, sea from 0 to below 1, "
            f"and at least two coarse cells of {factor} along each side"
        )
    values = np.stack(list(daily_fields(n, seed=seed, size=size)))
    rain = xr.DataArray(
        values,
        dims=("time", "lat", "lon"),
        name="precipitation",
        attrs={"units": "mm day-1"},
        coords={
            "time": xr.date_range(start, periods=n, calendar=calendar, use_cftime=calendar != "standard"),
            "lat": 36.125 + 0.25 * np.arange(size[0]),
            "lon": -9.875 + 0.25 * np.arange(size[1]),
        },
    )
    coarse = coarsen(rain, factor)
    return rain.where(~_sea(seed, size, sea)), coarse, BIAS.apply(coarse).assign_attrs(coarse.attrs)


def daily_fields(n: int, *, seed: int = 0, size: tuple[int, int] = (48, 64)) -> Iterator[NDArray[np.float32]]:
    """Yield one field of rain per day.

    Args:
        n: Number of days.
        seed: Seed of all random numbers. Default: 0.
        size: Numbers of latitudes and longitudes. Default: (48, 64).

    Yields:
        Rain, shape (lat, lon), in mm/day.
    """
    side = 1 << (2 * max(size) - 1).bit_length()  # textures are periodic and at least twice the grid
    levels = side.bit_length() - 3  # the finest octave repeats every two cells
    weights = 2.0 ** (-_HURST * np.arange(levels))
    weights /= np.sqrt((weights**2).sum())
    relief = _window(_relief(seed, side), size)
    rng = np.random.default_rng([seed, 1])
    textures = [_octave(rng, side, level) for level in range(levels)]
    wind, weather = rng.normal(0, 1, 2), 0.0
    for _ in range(n):
        log_intensity = sum(
            weight * _window(each, size) for weight, each in zip(weights, textures, strict=True)
        )
        level = _DRY_THRESHOLD - 0.55 * weather
        rain = _SCALE * np.expm1(_SPREAD * np.maximum(log_intensity - level, 0)) * np.exp(_RELIEF * relief)
        yield rain.astype(np.float32)
        wind = 0.8 * wind + 0.6 * rng.normal(0, 1, 2)
        weather = 0.85 * weather + np.sqrt(1 - 0.85**2) * rng.normal()
        # The mean wind is from the west, about ten cells per day.
        shift = np.rint(np.array([3.0, 7.0]) * wind + [0.0, 9.0]).astype(int)
        for number, texture in enumerate(textures):
            kept = np.exp(-(2.0 ** (0.75 * number)) / _RENEWAL_DAYS)
            moved = np.roll(texture, tuple(shift), axis=(0, 1))
            textures[number] = kept * moved + np.sqrt(1 - kept**2) * _octave(rng, side, number)


def _octave(rng: np.random.Generator, side: int, level: int) -> NDArray[np.floating]:
    return cells(rng, side, spacing=side / 2 ** (level + 1), spread=0.35)


def _window(texture: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.floating]:
    return texture[: size[0], : size[1]]


def _relief(seed: int, side: int) -> NDArray[np.floating]:
    return fractal(np.random.default_rng([seed, 0]), side, slope=1.5, coarsest=4.0)


def _sea(seed: int, size: tuple[int, int], part: float) -> NDArray[np.bool_]:
    """Return the mask of the sea: the lowest part of another relief."""
    side = 1 << (2 * max(size) - 1).bit_length()
    height = _window(fractal(np.random.default_rng([seed, 2]), side, slope=2.5, coarsest=2.0), size)
    return height < np.quantile(height, part) if part else np.zeros(size, bool)
