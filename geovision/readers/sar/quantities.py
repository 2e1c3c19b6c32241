"""Declared quantities of a SAR scene.

They are decibels, linear power, amplitude, or counts, and are never guessed. A wrong declaration usually
passes every hard limit; the median over a whole scene detects it.
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

_COUNTS_HINT = "may be counts or uncalibrated digital numbers: calibrate to sigma0 first"

QUANTITIES: Mapping[str, Channel] = {
    "db": Channel(
        "sigma0",
        "dB",
        (-250.0, 60.0),
        expected_quantiles=(QuantileRange(0.5, -250.0, -1.0),),
        unit_hints=(
            UnitHint(-1.0, 3.0, "may be linear power or amplitude: --quantity power or amplitude"),
            UnitHint(3.0, np.inf, _COUNTS_HINT),
        ),
    ),
    # Noise subtraction can make power negative.
    "power": Channel(
        "sigma0",
        "1",
        (-1.0, 1e6),
        expected_quantiles=(QuantileRange(0.5, -0.01, 3.0),),
        unit_hints=(
            UnitHint(-np.inf, -0.01, "may be decibels: --quantity db"),
            UnitHint(3.0, np.inf, _COUNTS_HINT),
        ),
    ),
    "amplitude": Channel(
        "square root of sigma0",
        "1",
        (0.0, 1e3),
        expected_quantiles=(QuantileRange(0.5, 0.0, 2.0),),
        unit_hints=(
            UnitHint(-np.inf, 0.0, "may be decibels: --quantity db"),
            UnitHint(2.0, np.inf, _COUNTS_HINT),
        ),
    ),
    "counts": Channel("scaled sigma0", "scaled_1", (0.0, 255.0)),
}
"""Quantities by declared name; `counts` is the 8-bit scale of the published images."""


@dataclass(frozen=True)
class BandQuantiles:
    """Quantiles of one band over a scene.

    Attributes:
        band: Band number in the file, from 1.
        low: Quantile 0.01, in the declared quantity.
        median: Quantile 0.5.
        high: Quantile 0.99.
    """

    band: int
    low: float
    median: float
    high: float


def find_quantity(name: str) -> Channel:
    """Return the channel of a declared quantity.

    Args:
        name: Name of the quantity.

    Raises:
        OptionError: The name is not in `QUANTITIES`.
    """
    if name not in QUANTITIES:
        raise OptionError(f"quantity {name!r} is unknown; declare one of {', '.join(QUANTITIES)}")
    return QUANTITIES[name]


def check_median(name: str, quantiles: BandQuantiles, *, where: str) -> None:
    """Raise if the median of a band is implausible.

    Args:
        name: Name of the quantity.
        quantiles: Quantiles of the band.
        where: Name of the scene in error messages.

    Raises:
        InputError: The median is implausible; the message has the quantiles and the probable cause.
    """
    channel = find_quantity(name)
    for expected in channel.expected_quantiles:
        if expected.low <= quantiles.median <= expected.high:
            continue
        hint = next((s.hint for s in channel.unit_hints if s.above < quantiles.median <= s.upto), "")
        unit = "" if channel.unit == "1" else f" {channel.unit}"
        raise InputError(
            f"{where}: band {quantiles.band} is declared as {name}, but its median is {quantiles.median:.3g} "
            f"(1 % to 99 %: {quantiles.low:.3g} to {quantiles.high:.3g}), expected {expected.low:g} to "
            f"{expected.high:g}{unit}" + (f"; it {hint}" if hint else "")
        )


def check_range(name: str, values: NDArray[np.floating], *, where: str) -> None:
    """Raise if a value is outside the range of the quantity.

    The value 0 marks missing data and is in every range.

    Args:
        name: Name of the quantity.
        values: Values, any shape.
        where: Name of the scene in error messages.

    Raises:
        InputError: A value is outside the range; it probably marks missing data.
    """
    low, high = find_quantity(name).valid_range
    if not values.size:
        return
    least, most = float(values.min()), float(values.max())
    if least < low or most > high:
        outlier = least if least < low else most
        raise InputError(
            f"{where}: a value of {outlier:.6g} is out of range for {name}; if it marks missing data, "
            f"declare it with --nodata {outlier:.6g}"
        )


def to_averageable(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert values to a quantity that can be averaged.

    Decibels and amplitude are converted to linear power; other values are unchanged.

    Args:
        name: Name of the quantity.
        values: Values, any shape.
    """
    match name:
        case "db":
            return db_to_power(values)
        case "amplitude":
            return np.square(values)
        case _:
            return values
