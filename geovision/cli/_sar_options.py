"""Options shared by the commands for radar scenes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING

from geovision.cli._key_value import parse_key_values

if TYPE_CHECKING:
    from geovision.physics.backscatter import DecibelRange

__all__ = ["Quantity", "parse_bands", "parse_db_range"]


class Quantity(enum.StrEnum):
    """Physical quantities of the values of a scene."""

    db = "db"
    power = "power"
    amplitude = "amplitude"
    counts = "counts"


def parse_bands(text: str) -> dict[str, int]:
    """Parse the band numbers of channels.

    Args:
        text: Value of ``--bands``, such as ``cross_pol=2,co_pol=1``.

    Returns:
        Number of the band, from 1, by channel.

    Raises:
        OptionError: If the text is invalid.
    """
    return parse_key_values(text.split(","), "--bands", "CHANNEL=NUMBER,CHANNEL=NUMBER", int)


def parse_db_range(text: str) -> Mapping[str, DecibelRange]:
    """Parse the decibel ranges of channels.

    Args:
        text: Value of ``--db-range``, such as ``cross_pol=-36:-14,co_pol=-28:-2``.

    Returns:
        Backscatter of the lowest and highest count, in dB, by channel.

    Raises:
        OptionError: If the text is invalid.
    """
    from geovision.physics.backscatter import DecibelRange

    def db_range(value: str) -> DecibelRange:
        low, _, high = value.partition(":")
        return DecibelRange(float(low), float(high))

    return parse_key_values(
        text.split(","), "--db-range", "CHANNEL=LOW:HIGH,CHANNEL=LOW:HIGH in dB", db_range
    )
