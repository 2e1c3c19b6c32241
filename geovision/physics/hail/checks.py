"""Plausibility checks of the inputs of hail products; values are never corrected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError

__all__ = ["check_heights", "check_levels", "check_volume"]

_MAX_DBZ = 80.0  # the largest hail reaches about 75 dBZ
_MAX_OUTLIER_FRACTION = 1e-3  # of the echoes; single gates with clutter or interference may exceed the limit


def check_volume(reflectivity: NDArray[np.floating], levels: NDArray[np.floating], where: str) -> None:
    """Check the shape of a volume, and that its values can be reflectivity in dBZ.

    Linear Z of light rain alone, below 80 mm6 m-3, cannot be distinguished from dBZ.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ; ``-inf`` without echo, NaN where not covered.
        levels: Heights of the levels, shape (level,), in m.
        where: Name of the volume in messages.

    Raises:
        InputError: The 99.9th percentile of the echoes exceeds 80 dBZ, a value is +inf, the shapes do not
            match, or the levels do not ascend.
    """
    if reflectivity.ndim != 3 or len(levels) != len(reflectivity):
        raise InputError(
            f"{where}: reflectivity of shape {reflectivity.shape} for {len(levels)} levels; expected "
            "(level, y, x) with a height for each level"
        )
    check_levels(levels, where)
    largest = float(np.fmax.reduce(reflectivity, axis=None))
    if largest == np.inf:
        raise InputError(f"{where}: values of +inf; use NaN where not covered and -inf without echo")
    high = int(np.count_nonzero(reflectivity > _MAX_DBZ))
    if high and high > _MAX_OUTLIER_FRACTION * np.count_nonzero(reflectivity > -np.inf):
        raise InputError(
            f"{where}: the 99.9th percentile of the echoes exceeds {_MAX_DBZ:g} dBZ and the largest value is "
            f"{largest:.3g}, probably Z in mm6 m-3. Convert it to dBZ with 10 * log10(Z)."
        )


def check_levels(levels: NDArray[np.floating], where: str) -> None:
    """Check that heights are finite, ascending and in meters.

    Args:
        levels: Heights of the levels, shape (level,), in m.
        where: Name of the volume in messages.

    Raises:
        InputError: The heights are invalid; the message mentions reversed order.
    """
    steps = np.diff(levels)
    if len(levels) < 2 or not np.isfinite(levels).all():
        raise InputError(f"{where}: levels {_format_levels(levels)}; expected two or more heights in m")
    if (steps < 0).all():
        raise InputError(
            f"{where}: levels descend from {levels[0]:g} to {levels[-1]:g} m; sort levels and reflectivity, "
            "lowest first, as with volume.sortby('level')"
        )
    if not (steps > 0).all():
        raise InputError(
            f"{where}: levels do not ascend: {_format_levels(levels)}; sort them, without duplicates"
        )
    if levels[-1] < 100:
        raise InputError(f"{where}: the highest level is at {levels[-1]:g} m, probably in km; expected m")


def check_heights(
    freezing_level: NDArray[np.floating] | float | None,
    minus20_level: NDArray[np.floating] | float | None,
    where: str,
) -> None:
    """Check that temperature levels are available, in meters, and in the correct order.

    Single missing points of a field are accepted; hail products are NaN there.

    Args:
        freezing_level: Height of 0 degrees Celsius, in m above mean sea level, a number or shape (y, x).
        minus20_level: Height of -20 degrees Celsius, in m above mean sea level, a number or shape (y, x).
        where: Name of the volume in messages.

    Raises:
        InputError: A level is missing or invalid.
    """
    for name, value in (("freezing level", freezing_level), ("level of -20 degrees", minus20_level)):
        if value is None or not np.isfinite(np.asarray(value, np.float64)).any():
            raise InputError(
                f"{where}: no {name}; pass its height in m above mean sea level, for example from a "
                "sounding or a reanalysis"
            )
    freezing, cold = np.asarray(freezing_level, np.float64), np.asarray(minus20_level, np.float64)
    if np.nanmax(cold) < 100:
        raise InputError(
            f"{where}: the level of -20 degrees is at {np.nanmax(cold):g} m, probably in km; expected m"
        )
    if (freezing >= cold).any():
        raise InputError(
            f"{where}: the freezing level ({np.nanmax(freezing):g} m) is not below that of -20 degrees "
            f"({np.nanmin(cold):g} m); they may be swapped"
        )


def _format_levels(levels: NDArray[np.floating]) -> str:
    shown = ", ".join(f"{height:g}" for height in levels[:6])
    return f"{shown}{', …' if len(levels) > 6 else ''} m"
