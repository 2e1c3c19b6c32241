"""Conversion between sea backscatter in dB and 8-bit counts, by polarization.

The scale of the published polar low images is unknown. The default ranges were chosen for this library, so
that generated scenes have about the mean and standard deviation of the published training images. Scenes in
decibels are converted to counts by ranges that are declared and stored.
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
"""Count of a pixel without radar observation."""


@dataclass(frozen=True)
class DecibelRange:
    """Backscatter sigma0 of the lowest and the highest count; values outside are clipped.

    Attributes:
        low: Backscatter of count 1, in dB.
        high: Backscatter of count 255, in dB, above `low`.

    Raises:
        InputError: `low` is not below `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"low={self.low} dB is not below high={self.high} dB")


DEFAULT_DB_RANGES: Mapping[str, DecibelRange] = {
    "cross_pol": DecibelRange(-36.0, -14.0),
    "co_pol": DecibelRange(-28.0, -2.0),
}
"""Default ranges by channel, chosen for this library; those of the authors are unknown."""


def to_db(power: NDArray[np.floating]) -> NDArray[np.floating]:
    """Convert linear power to decibels, ``10 log10(power)``.

    Args:
        power: Linear power. It may be 0 or, after noise subtraction, negative; these values become -200 dB.
    """
    return 10 * np.log10(np.maximum(power, power.dtype.type(1e-20)))


def db_to_power(sigma0_db: NDArray[np.floating]) -> NDArray[np.floating]:
    """Convert decibels to linear power, which area averages require.

    Args:
        sigma0_db: Backscatter, in dB.
    """
    return np.power(sigma0_db.dtype.type(10), sigma0_db / 10)


def db_to_counts(
    sigma0_db: NDArray[np.floating], db_range: DecibelRange, *, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Convert decibels to counts.

    Args:
        sigma0_db: Backscatter, in dB.
        db_range: Range of the counts 1 to 255, which are linear in dB.
        valid: Valid pixels, bool, same shape; others become `NO_DATA`. Default: all.

    >>> db_to_counts(np.array([-40.0, -28.0, -15.0, -2.0]), DecibelRange(-28.0, -2.0)).tolist()
    [1, 1, 128, 255]
    """
    share = (sigma0_db - db_range.low) / (db_range.high - db_range.low)
    counts = (1 + np.rint(254 * np.clip(share, 0, 1))).astype(np.uint8)
    return counts if valid is None else np.where(valid, counts, np.uint8(NO_DATA))


def counts_to_db(counts: NDArray[np.uint8], db_range: DecibelRange) -> NDArray[np.float32]:
    """Convert counts to decibels; `NO_DATA` becomes NaN.

    Args:
        counts: Counts, 0 to 255.
        db_range: Range of the counts 1 to 255.

    >>> counts_to_db(np.array([0, 1, 255], np.uint8), DecibelRange(-28.0, -2.0)).tolist()
    [nan, -28.0, -2.0]
    """
    share = (counts.astype(np.float32) - 1) / 254
    decibels = np.float32(db_range.low) + share * np.float32(db_range.high - db_range.low)
    return np.where(counts == NO_DATA, np.float32(np.nan), decibels)
