"""Daily rain that moves, comes and goes, with a coarse view and a bias that are known.

A logarithm of intensity is the sum of textures of one octave each, the finer the weaker; each drifts with
the wind of the day and is renewed, the finer the faster. It rains where the sum is above a level that
rises and falls with the weather, by how much it is above:

    g(t) = sum_l w_l f_l(t),  w_l ~ 2^(-H l);   f_l(t + 1) = a_l f_l(t) moved by the wind + fresh noise
    rain = c (exp(s max(g - z(t), 0)) - 1) exp(relief)

So totals are log-normal in the tail, cells are dry, and the relief is what a network can learn below the
coarse grid. `BIAS` is a monotone distortion of coarse rain with drizzle: a perfect correction exists.

Nothing here may change without a new `GENERATOR_VERSION`.
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
"""What `write` leaves: rain in mm/day, NaN over sea; its area means in kg m-2 s-1; the same with `BIAS`."""

_HURST = 0.55  # how much weaker each octave is than the one before
_SPREAD = 0.92  # of the logarithm: heavier tails above
_SCALE = 3.6  # mm/day
_DRY_THRESHOLD = 0.3055  # below which it is dry: 0.62 of a normal distribution
_RENEWAL_DAYS = 2.5  # days in which the coarsest octave is renewed
_RELIEF = 0.45  # of the logarithm


@dataclass(frozen=True)
class RainBias:
    """``drizzle + scale rain^power``, mm/day: too often, too weak, and wrong in the mean."""

    scale: float = 1.35
    power: float = 0.8
    drizzle: float = 0.3

    def apply(self, rain: xr.DataArray) -> xr.DataArray:
        """Rain as the model has it."""
        return self.drizzle + self.scale * rain**self.power

    def remove(self, biased: xr.DataArray) -> xr.DataArray:
        """Rain as it was: the best that a correction can do."""
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
    """Write `n` days as three CF NetCDF files, named in `FILES`.

    Args:
        root: Folder, made where it is missing.
        seed: The same seed gives the same files, and the first days of a longer series are these.
        size: (latitudes, longitudes) of the fine grid, cells of 0.25 degrees.
        factor: Fine cells along each side of a coarse one.
        sea: Part of the fine grid that is missing.
        calendar: Of the files.
        start: The first day.

    Returns:
        `root`.

    Raises:
        StorageError: It could not be written.
        MissingExtraError: xarray or what it writes with is not installed.
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
    """The same three files with their days shared out among Januaries of several years, so that a split
    finds units. Rain goes on from the last day of one to the first of the next.

    Args:
        n: Days in all, at least one a year and at most 31.

    Raises:
        OptionError: Days that the Januaries do not have.
    """
    if not years <= n <= 31 * years:
        raise OptionError(f"n={n} days in {years} Januaries: expected {years} to {31 * years}")
    folder = Path(root)
    dates = january_days(n, years)
    title = f"generated rain, version {GENERATOR_VERSION}, seed {seed}"
    for field, name, unit in zip(
        fields(n, seed=seed, size=size, factor=factor), FILES.values(), ("", *["kg m-2 s-1"] * 2), strict=True
    ):
        write_grid(field.assign_coords(time=dates), folder / name, units=unit, title=title)
    return folder


def january_days(n: int, years: int) -> NDArray[np.datetime64]:
    """`n` dates in as many Januaries, from 2001 on, as evenly shared as they can be."""
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
    """(fine, coarse, model) rain in mm/day, ``(time, lat, lon)``, as `write` puts it into files."""
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    if n < 1 or not 0 <= sea < 1 or min(size) < 2 * factor:
        raise OptionError(
            f"n={n}, sea={sea}, size={size}: expected a day or more, a part below 1, and two "
            f"coarse cells of {factor} along each side"
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
    """`n` fields of rain ``(lat, lon)``, mm/day, one after the other."""
    side = 1 << (2 * max(size) - 1).bit_length()  # textures are periodic, and wider than what is seen of them
    levels = side.bit_length() - 3  # down to two cells
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
        # From the west, some ten cells a day.
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
    """The lowest part of another relief."""
    side = 1 << (2 * max(size) - 1).bit_length()
    height = _window(fractal(np.random.default_rng([seed, 2]), side, slope=2.5, coarsest=2.0), size)
    return height < np.quantile(height, part) if part else np.zeros(size, bool)
