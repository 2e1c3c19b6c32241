"""What several commands ask about radar scenes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING

from geovision.cli._key_value import parse_key_values

if TYPE_CHECKING:
    from geovision.physics.backscatter import DecibelRange

__all__ = ["Quantity", "parse_bands", "parse_db_range"]


class Quantity(enum.StrEnum):
    """What the numbers of a scene are."""

    db = "db"
    power = "power"
    amplitude = "amplitude"
    counts = "counts"


def parse_bands(text: str) -> dict[str, int]:
    """``cross_pol=2,co_pol=1``: channel to number of the band, from 1.

    Raises:
        OptionError: It cannot be read.
    """
    return parse_key_values(text.split(","), "--bands", "CHANNEL=NUMBER,CHANNEL=NUMBER", int)


def parse_db_range(text: str) -> Mapping[str, DecibelRange]:
    """``cross_pol=-36:-14,co_pol=-28:-2``: channel to the decibels of its lowest and highest count.

    Raises:
        OptionError: It cannot be read.
    """
    from geovision.physics.backscatter import DecibelRange

    def db_range(value: str) -> DecibelRange:
        low, _, high = value.partition(":")
        return DecibelRange(float(low), float(high))

    return parse_key_values(
        text.split(","), "--db-range", "CHANNEL=LOW:HIGH,CHANNEL=LOW:HIGH in dB", db_range
    )
