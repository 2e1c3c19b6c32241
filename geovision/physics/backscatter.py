"""Radar backscatter of the sea as 8-bit counts, and back: one declared scale a polarisation.

The scale of the published pictures of polar lows is not known. The limits here are our choice, made
so that generated scenes have about the mean and spread that the published training pictures have;
scenes that are given in decibels are brought to counts by limits that are declared and stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError

__all__ = [
    "DEFAULT_DB_RANGES",
    "NO_DATA",
    "DecibelRange",
    "counts_to_db",
    "db_to_counts",
    "db_to_power",
    "to_db",
]

NO_DATA = 0
"""The count of a pixel that the radar did not see."""


@dataclass(frozen=True)
class DecibelRange:
    """The backscatter sigma0 of the lowest and of the highest count, dB; what lies beyond is clipped."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"limits from {self.low} to {self.high} dB are empty")


DEFAULT_DB_RANGES: Mapping[str, DecibelRange] = {
    "cross_pol": DecibelRange(-36.0, -14.0),
    "co_pol": DecibelRange(-28.0, -2.0),
}
"""By channel. Our choice, not the authors': theirs are not known."""


def to_db(power: NDArray[np.floating]) -> NDArray[np.floating]:
    """``10 log10(power)`` of a linear power, which may be 0 or, noise subtracted, below: -200 dB then."""
    return 10 * np.log10(np.maximum(power, power.dtype.type(1e-20)))


def db_to_power(sigma0_db: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear power of a backscatter in decibels: averages over an area are taken of it."""
    return np.power(sigma0_db.dtype.type(10), sigma0_db / 10)


def db_to_counts(
    sigma0_db: NDArray[np.floating], db_range: DecibelRange, *, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Counts 1 to 255, linear in decibels between the limits; `NO_DATA` where not `valid`.

    >>> to_counts(np.array([-40.0, -28.0, -15.0, -2.0]), DecibelRange(-28.0, -2.0)).tolist()
    [1, 1, 128, 255]
    """
    share = (sigma0_db - db_range.low) / (db_range.high - db_range.low)
    counts = (1 + np.rint(254 * np.clip(share, 0, 1))).astype(np.uint8)
    return counts if valid is None else np.where(valid, counts, np.uint8(NO_DATA))


def counts_to_db(counts: NDArray[np.uint8], db_range: DecibelRange) -> NDArray[np.float32]:
    """The backscatter of counts, dB; NaN where there is no data.

    >>> to_decibels(np.array([0, 1, 255], np.uint8), DecibelRange(-28.0, -2.0)).tolist()
    [nan, -28.0, -2.0]
    """
    share = (counts.astype(np.float32) - 1) / 254
    found = np.float32(db_range.low) + share * np.float32(db_range.high - db_range.low)
    return np.where(counts == NO_DATA, np.float32(np.nan), found)
