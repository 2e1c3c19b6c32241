"""Whether numbers can be what hail products are computed from; nothing is corrected by a guess."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError

__all__ = ["check_heights", "check_levels", "check_volume"]

_MAX_DBZ = 80.0  # the largest hail gives some 75 dBZ
_MAX_OUTLIER_FRACTION = 1e-3  # of the echoes; single gates with clutter or interference may lie above


def check_volume(reflectivity: NDArray[np.floating], levels: NDArray[np.floating], where: str) -> None:
    """Refuse a volume that has another shape, or numbers that cannot be reflectivity in dBZ.

    Args:
        reflectivity: ``(level, y, x)``, dBZ, ``-inf`` without echo, NaN where not covered.
        levels: ``(level,)``, m.
        where: Names the volume in the message.

    Raises:
        InputError: The 99.9th percentile of the echoes lies above 80 dBZ, or a value is +inf; a shape
            that does not fit; levels that do not ascend. Linear Z of light rain alone, which stays
            below 80 mm6 m-3, cannot be told from dBZ.
    """
    if reflectivity.ndim != 3 or len(levels) != len(reflectivity):
        raise InputError(
            f"{where}: reflectivity of shape {reflectivity.shape} for {len(levels)} levels; expected "
            "(level, y, x) with a height for each level"
        )
    check_levels(levels, where)
    largest = float(np.fmax.reduce(reflectivity, axis=None))
    if largest == np.inf:
        raise InputError(f"{where}: values of +inf; NaN is what is not covered, -inf no echo")
    high = int(np.count_nonzero(reflectivity > _MAX_DBZ))
    if high and high > _MAX_OUTLIER_FRACTION * np.count_nonzero(reflectivity > -np.inf):
        raise InputError(
            f"{where}: the 99.9th percentile of the echoes lies above {_MAX_DBZ:g} dBZ and the largest "
            f"is {largest:.3g}; it looks like Z in mm6 m-3, which 10 * log10(Z) brings to dBZ"
        )


def check_levels(levels: NDArray[np.floating], where: str) -> None:
    """Refuse heights that are not finite, do not ascend, or are in kilometres.

    Raises:
        InputError: Says whether they stand upside down.
    """
    steps = np.diff(levels)
    if len(levels) < 2 or not np.isfinite(levels).all():
        raise InputError(f"{where}: levels {_format_levels(levels)}; expected two or more heights in m")
    if (steps < 0).all():
        raise InputError(
            f"{where}: levels stand upside down, from {levels[0]:g} to {levels[-1]:g} m; turn levels and "
            "reflectivity, lowest first, as with volume.sortby('level')"
        )
    if not (steps > 0).all():
        raise InputError(
            f"{where}: levels do not ascend: {_format_levels(levels)}; sort them, each height once"
        )
    if levels[-1] < 100:
        raise InputError(f"{where}: the highest level is at {levels[-1]:g} m; it looks like km, expected m")


def check_heights(
    freezing_level: NDArray[np.floating] | float | None,
    minus20_level: NDArray[np.floating] | float | None,
    where: str,
) -> None:
    """Refuse temperature levels that are missing, in kilometres, or in the wrong order.

    Single missing points of a field are let through: hail products are NaN there.

    Args:
        freezing_level, minus20_level: m above mean sea level, one number or ``(y, x)``.
        where: Names the volume in the message.

    Raises:
        InputError: With what is missing or wrong.
    """
    for name, value in (("freezing level", freezing_level), ("level of -20 degrees", minus20_level)):
        if value is None or not np.isfinite(np.asarray(value, np.float64)).any():
            raise InputError(
                f"{where}: no {name}; give its height in m above mean sea level, as a sounding or a "
                "reanalysis has it"
            )
    freezing, cold = np.asarray(freezing_level, np.float64), np.asarray(minus20_level, np.float64)
    if np.nanmax(cold) < 100:
        raise InputError(
            f"{where}: the level of -20 degrees is at {np.nanmax(cold):g} m; it looks like km, expected m"
        )
    if (freezing >= cold).any():
        raise InputError(
            f"{where}: the freezing level ({np.nanmax(freezing):g} m) is not below that of -20 degrees "
            f"({np.nanmin(cold):g} m); they may be exchanged"
        )


def _format_levels(levels: NDArray[np.floating]) -> str:
    shown = ", ".join(f"{height:g}" for height in levels[:6])
    return f"{shown}{', …' if len(levels) > 6 else ''} m"
