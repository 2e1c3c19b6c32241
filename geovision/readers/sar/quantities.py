"""What the numbers of a scene are: decibels, linear power, amplitude, or counts. Declared, never guessed.

A wrong declaration lies inside every hard limit as a rule; the median over a whole scene does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, OptionError
from geovision.physics.backscatter import db_to_power
from geovision.spec import Channel, QuantileRange, UnitHint

__all__ = ["QUANTITIES", "check_median", "check_range", "find_quantity", "to_averageable"]

_COUNTS_HINT = "looks like counts or uncalibrated digital numbers: calibrate to sigma0 first"

QUANTITIES: Mapping[str, Channel] = {
    "db": Channel(
        "sigma0",
        "dB",
        (-250.0, 60.0),
        expected_quantiles=(QuantileRange(0.5, -250.0, -1.0),),
        unit_hints=(
            UnitHint(-1.0, 3.0, "looks like linear power or amplitude: --quantity power, or amplitude"),
            UnitHint(3.0, np.inf, _COUNTS_HINT),
        ),
    ),
    # Noise that is subtracted leaves powers below zero.
    "power": Channel(
        "sigma0",
        "1",
        (-1.0, 1e6),
        expected_quantiles=(QuantileRange(0.5, -0.01, 3.0),),
        unit_hints=(
            UnitHint(-np.inf, -0.01, "looks like decibels: --quantity db"),
            UnitHint(3.0, np.inf, _COUNTS_HINT),
        ),
    ),
    "amplitude": Channel(
        "square root of sigma0",
        "1",
        (0.0, 1e3),
        expected_quantiles=(QuantileRange(0.5, 0.0, 2.0),),
        unit_hints=(
            UnitHint(-np.inf, 0.0, "looks like decibels: --quantity db"),
            UnitHint(2.0, np.inf, _COUNTS_HINT),
        ),
    ),
    "counts": Channel("scaled sigma0", "scaled_1", (0.0, 255.0)),
}
"""By the name that declares it; `counts` is the 8-bit scale of the published pictures."""


@dataclass(frozen=True)
class BandQuantiles:
    """Quantiles of one band over a scene."""

    band: int
    low: float
    median: float
    high: float


def find_quantity(name: str) -> Channel:
    """What a declared name stands for.

    Raises:
        OptionError: It is none of `QUANTITIES`.
    """
    if name not in QUANTITIES:
        raise OptionError(f"quantity {name!r} is not known; declare one of {', '.join(QUANTITIES)}")
    return QUANTITIES[name]


def check_median(name: str, quantiles: BandQuantiles, *, where: str) -> None:
    """Raise where the numbers of a band cannot be what they are declared to be.

    Raises:
        InputError: With the quantiles that were seen, and the likely slip.
    """
    channel = find_quantity(name)
    for plausible in channel.expected_quantiles:
        if plausible.low <= quantiles.median <= plausible.high:
            continue
        slip = next((s.hint for s in channel.unit_hints if s.above < quantiles.median <= s.upto), "")
        unit = "" if channel.unit == "1" else f" {channel.unit}"
        raise InputError(
            f"{where}: band {quantiles.band} is declared as {name}, but its median is {quantiles.median:.3g} "
            f"(1 % to 99 %: {quantiles.low:.3g} to {quantiles.high:.3g}), expected {plausible.low:g} to "
            f"{plausible.high:g}{unit}" + (f"; it {slip}" if slip else "")
        )


def check_range(name: str, values: NDArray[np.floating], *, where: str) -> None:
    """Raise where a value is none of the quantity; 0, which stands where nothing is known, is one of each.

    Raises:
        InputError: With the value, which is likely to stand for no data.
    """
    low, high = find_quantity(name).valid_range
    if not values.size:
        return
    least, most = float(values.min()), float(values.max())
    if least < low or most > high:
        strange = least if least < low else most
        raise InputError(
            f"{where}: a value of {strange:.6g} is no {name}; if it stands for no data, declare it with "
            f"--nodata {strange:.6g}"
        )


def to_averageable(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What an average over an area is taken of: linear power, or the counts as they are."""
    match name:
        case "db":
            return db_to_power(values)
        case "amplitude":
            return np.square(values)
        case _:
            return values
