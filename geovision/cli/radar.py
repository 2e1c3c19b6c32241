"""What several commands ask about radar scenes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from geovision.errors import OptionError

if TYPE_CHECKING:
    from geovision.physics.backscatter import DecibelLimits

__all__ = ["Quantity", "band_numbers", "decibel_limits"]


class Quantity(enum.StrEnum):
    """What the numbers of a scene are."""

    db = "db"
    power = "power"
    amplitude = "amplitude"
    counts = "counts"


def band_numbers(text: str) -> dict[str, int]:
    """``cross_pol=2,co_pol=1``: channel to number of the band, from 1.

    Raises:
        OptionError: It cannot be read.
    """
    return _pairs(text, "--bands", int)


def decibel_limits(text: str) -> Mapping[str, DecibelLimits]:
    """``cross_pol=-36:-14,co_pol=-28:-2``: channel to the decibels of its lowest and highest count.

    Raises:
        OptionError: It cannot be read.
    """
    from geovision.physics.backscatter import DecibelLimits

    def limits(value: str) -> DecibelLimits:
        low, _, high = value.partition(":")
        return DecibelLimits(float(low), float(high))

    return _pairs(text, "--limits", limits)


def _pairs(text: str, option: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    """``name=value,name=value``."""
    found = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        try:
            if not sign:
                raise ValueError
            found[name.strip()] = parse(value)
        except ValueError as error:
            why = f" ({error})" if "empty" in str(error) else ""
            raise OptionError(f"{option} {text!r}: {part!r} cannot be read{why}; see --help") from None
    return found
