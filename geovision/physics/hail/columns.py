"""Hail quantities of radar reflectivity columns, for any level spacing.

Reflectivity has shape (level, y, x), in dBZ. Two special values differ: ``-inf`` means no echo (Z = 0), the
radar scanned the cell and detected nothing; NaN means not covered, the radar did not scan the cell. Uncovered
cells add nothing to an integral, which is then a lower bound. A column without any covered cell is NaN.

The functions do not check their inputs; `check_volume` tests whether they can be reflectivity.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Calibration",
    "covered_fraction",
    "echo_top",
    "height_of_maximum",
    "kinetic_energy_flux",
    "lowest_covered",
    "maximum_expected_size",
    "maximum_reflectivity",
    "probability_of_severe_hail",
    "severe_hail_index",
    "vertically_integrated_liquid",
    "warning_threshold",
]

Volume = NDArray[np.floating]
Heights = NDArray[np.floating]
Field = NDArray[np.floating]

_FLOOR = 20.0  # J m-1 s-1


class Calibration(enum.StrEnum):
    """Calibration of hail size, ``size = factor * SHI ** exponent``, in mm.

    SHI is the severe hail index.
    """

    witt = "witt"  # Witt et al. 1998, doi:10.1175/1520-0434(1998)013<0286:AEHDAF>2.0.CO;2
    mesh75 = "mesh75"  # 75th percentile, Murillo and Homeyer 2019, doi:10.1175/JAMC-D-18-0247.1, with the
    mesh95 = "mesh95"  # 95th percentile; coefficients of 2021, doi:10.1175/JAMC-D-20-0271.1


_POWER_LAW = {
    Calibration.witt: (2.54, 0.5),
    Calibration.mesh75: (15.096, 0.206),
    Calibration.mesh95: (22.157, 0.212),
}


# --- the hail detection algorithm of Witt et al. 1998 -------------------------------------------


def kinetic_energy_flux(reflectivity: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute the kinetic energy flux of hail, in J m-2 s-1.

    ``5e-6 * 10 ** (0.084 Z) * W(Z)``. The weight ``W`` increases from 0 at 40 dBZ to 1 at 50 dBZ, so that
    rain is excluded (Witt et al. 1998, equations 1 and 2).

    Args:
        reflectivity: Reflectivity, in dBZ; the result is 0 without echo and NaN where not covered.
    """
    weight = np.clip((reflectivity - 40) / 10, 0, 1)
    return 5e-6 * np.exp(0.084 * np.log(10) * reflectivity) * weight


def severe_hail_index(
    reflectivity: Volume, levels: Heights, *, freezing_level: Field | float, minus20_level: Field | float
) -> Field:
    """Compute the severe hail index (SHI), in J m-1 s-1.

    ``0.1 * integral of W_T(H) * E(H) dH`` from the freezing level upwards. The weight ``W_T`` increases from
    0 at the freezing level to 1 at the level of -20 degrees Celsius (Witt et al. 1998, equations 4 and 5).
    The integral is the trapezoidal rule over the levels; a level counts with half the distance to each
    neighbor.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ.
        levels: Heights of the levels, shape (level,), in m, ascending, with the same zero as the two heights.
        freezing_level: Height of 0 degrees Celsius, in m, a number or shape (y, x); NaN returns NaN.
        minus20_level: Height of -20 degrees Celsius, in m, a number or shape (y, x); NaN returns NaN.

    Returns:
        Index, shape (y, x), from 0. NaN where no level above the freezing level is covered.
    """
    freezing, cold = (_field(height, reflectivity).ravel() for height in (freezing_level, minus20_level))
    total = np.zeros(freezing.shape)
    covered = np.zeros(freezing.shape, bool)
    for height, thick, plane in zip(levels, _thickness(levels), reflectivity, strict=True):
        layer, above = plane.ravel(), height > freezing
        covered |= ~np.isnan(layer) & above
        hail = np.flatnonzero((layer > 40) & above)  # few cells, and powers are slow
        coldness = (height - freezing[hail]) / (cold[hail] - freezing[hail])
        total[hail] += thick * np.clip(coldness, 0, 1) * kinetic_energy_flux(layer[hail].astype(np.float64))
    valid = covered & np.isfinite(freezing) & np.isfinite(cold)
    return np.where(valid, 0.1 * total, np.nan).reshape(reflectivity.shape[1:])


def warning_threshold(freezing_level: Field | float, *, radar_altitude: Field | float = 0.0) -> Field:
    """Compute the warning threshold (WT) of the severe hail index, in J m-1 s-1.

    ``57.5 H0 - 121``, at least 20, with the freezing level H0 in km above the radar (Witt et al. 1998,
    equation 6 with its floor, which applies below 2.45 km).

    Args:
        freezing_level: Height of 0 degrees Celsius, in m above mean sea level.
        radar_altitude: Altitude of the radar, in m above mean sea level. A field of ground elevation gives
            heights above ground instead. Default: 0.

    >>> [float(warning_threshold(height)) for height in (1000.0, 4000.0)]
    [20.0, 109.0]
    """
    kilometers = (np.asarray(freezing_level, np.float64) - radar_altitude) / 1000
    return np.maximum(57.5 * kilometers - 121, _FLOOR)


def probability_of_severe_hail(index: Field, threshold: Field | float) -> Field:
    """Compute the probability of severe hail (POSH), in percent.

    ``29 ln(SHI / WT) + 50``, clipped to 0 to 100 (Witt et al. 1998, equation 7). It is 50 for SHI = WT and 0
    for SHI = 0. Severe hail has a diameter of 19 mm (3/4 inch) or more.

    Args:
        index: Severe hail index (SHI), in J m-1 s-1.
        threshold: Warning threshold (WT), in J m-1 s-1.

    >>> probability_of_severe_hail(np.array([0.0, 109.0, 1e4]), 109.0).tolist()
    [0.0, 50.0, 100.0]
    """
    with np.errstate(divide="ignore"):
        return np.clip(29 * np.log(index / threshold) + 50, 0, 100)


def maximum_expected_size(index: Field, calibration: Calibration = Calibration.witt) -> Field:
    """Compute the maximum expected size of hail (MESH), in mm.

    A power of the severe hail index (SHI); 0 for SHI = 0. ``witt``: ``2.54 SHI ** 0.5``, above about three
    quarters of the reported sizes (Witt et al. 1998, equation 8). ``mesh75`` and ``mesh95``: ``15.096 SHI **
    0.206`` and ``22.157 SHI ** 0.212``, the 75th and 95th percentile of a larger sample (Murillo and Homeyer
    2019, with the coefficients of 2021).

    Args:
        index: Severe hail index, in J m-1 s-1.
        calibration: Calibration of the size. Default: ``witt``.

    >>> maximum_expected_size(np.array([0.0, 100.0])).tolist()
    [0.0, 25.4]
    """
    factor, exponent = _POWER_LAW[Calibration(calibration)]
    return factor * np.power(index, exponent)


# --- other quantities of a column ---------------------------------------------------------------


def vertically_integrated_liquid(
    reflectivity: Volume, levels: Heights, *, cap_dbz: float | None = 56.0
) -> Field:
    """Compute the vertically integrated liquid (VIL), in kg m-2.

    ``sum of 3.44e-6 * ((Z_k + Z_k+1) / 2) ** (4/7) * dh`` over adjacent levels, with Z in mm6 m-3 (Greene and
    Clark 1972, doi:10.1175/1520-0493(1972)100<0548:VILWNA>2.3.CO;2). Only layers between two covered levels
    count; nothing is added below the lowest level.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ.
        levels: Heights of the levels, shape (level,), in m, ascending.
        cap_dbz: Upper limit of the reflectivity, in dBZ, because hail is not liquid. Default: 56, a common
            value. None: no limit, as in the original.

    Returns:
        VIL, shape (y, x), from 0. NaN where no layer is covered.
    """
    below = _linear_reflectivity(reflectivity[0].ravel(), cap_dbz)
    total, covered = np.zeros(below.shape), np.zeros(below.shape, bool)
    for thick, plane in zip(np.diff(levels), reflectivity[1:], strict=True):
        above = _linear_reflectivity(plane.ravel(), cap_dbz)
        mean = (below + above) / 2
        covered |= ~np.isnan(mean)
        wet = np.flatnonzero(mean > 0)  # most cells have no echo, and powers are slow
        total[wet] += (3.44e-6 * thick) * np.power(mean[wet], mean.dtype.type(4 / 7))
        below = above
    return np.where(covered, total, np.nan).reshape(reflectivity.shape[1:])


def maximum_reflectivity(reflectivity: Volume) -> Field:
    """Compute the largest reflectivity of each column, in dBZ.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ.

    Returns:
        Column maximum, shape (y, x); ``-inf`` without echo, NaN where not covered.
    """
    return np.fmax.reduce(reflectivity, axis=0)


def height_of_maximum(reflectivity: Volume, levels: Heights) -> Field:
    """Compute the height of the largest reflectivity of each column, in m.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ.
        levels: Heights of the levels, shape (level,), in m, ascending.

    Returns:
        Height, shape (y, x), the lowest of equal maxima. NaN without echo or coverage.
    """
    best = np.full(reflectivity.shape[1:], -np.inf, reflectivity.dtype)
    height = np.full(reflectivity.shape[1:], np.nan)
    for level, layer in zip(levels, reflectivity, strict=True):
        higher = layer > best  # False where not covered
        best[higher], height[higher] = layer[higher], level
    return height


def echo_top(reflectivity: Volume, levels: Heights, *, threshold_dbz: float = 18.0) -> Field:
    """Compute the largest height at which the reflectivity reaches a threshold, in m.

    Between the highest level that reaches the threshold and the next one, dBZ is interpolated linearly. If
    the next level has no echo, is not covered or does not exist, the top is the level itself. At the limits
    of radar coverage it is therefore a lower bound.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ.
        levels: Heights of the levels, shape (level,), in m, ascending.
        threshold_dbz: Threshold, in dBZ. Default: 18.

    Returns:
        Echo top, shape (y, x). NaN where no level reaches the threshold.
    """
    planes = reflectivity.reshape(len(levels), -1)
    top = np.full(planes.shape[1], np.nan)
    for k in range(len(levels) - 1, -1, -1):
        first = np.flatnonzero((planes[k] >= threshold_dbz) & np.isnan(top))
        top[first] = levels[k]
        if k + 1 == len(levels):
            continue
        current, above = (planes[each, first].astype(np.float64) for each in (k, k + 1))
        echo = np.isfinite(above)
        share = (current[echo] - threshold_dbz) / (current[echo] - above[echo])
        top[first[echo]] += share * (levels[k + 1] - levels[k])
    return top.reshape(reflectivity.shape[1:])


def lowest_covered(reflectivity: Volume, levels: Heights) -> Field:
    """Compute the height of the lowest covered level, in m.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ.
        levels: Heights of the levels, shape (level,), in m, ascending.

    Returns:
        Height, shape (y, x); NaN without coverage.
    """
    covered = ~np.isnan(reflectivity)
    return np.where(covered.any(axis=0), np.asarray(levels, np.float64)[covered.argmax(axis=0)], np.nan)


def covered_fraction(reflectivity: Volume, levels: Heights, *, freezing_level: Field | float) -> Field:
    """Compute the covered fraction of the depth above the freezing level, 0 to 1.

    The depth ends at the highest level. Below 1, the severe hail index is a lower bound, for example above
    the highest beam near the radar.

    Args:
        reflectivity: Reflectivity, shape (level, y, x), in dBZ.
        levels: Heights of the levels, shape (level,), in m, ascending.
        freezing_level: Height of 0 degrees Celsius, in m, a number or shape (y, x).

    Returns:
        Fraction, shape (y, x); NaN where no level is above the freezing level.
    """
    depth, freezing = _thickness(levels), _field(freezing_level, reflectivity)
    covered, total = np.zeros(freezing.shape), np.zeros(freezing.shape)
    for height, thick, layer in zip(levels, depth, reflectivity, strict=True):
        above = (height > freezing) * thick
        total += above
        covered += np.where(np.isnan(layer), 0, above)
    return np.divide(covered, total, out=np.full(freezing.shape, np.nan), where=total > 0)


def _thickness(levels: Heights) -> Heights:
    """Return the weights of the trapezoidal rule, in m; a single level has weight 0."""
    half = np.diff(np.asarray(levels, np.float64)) / 2
    return np.concatenate([half, [0]]) + np.concatenate([[0], half])


def _field(value: Field | float, reflectivity: Volume) -> Field:
    """Return a height as a field, shape (y, x)."""
    return np.broadcast_to(np.asarray(value, np.float64), reflectivity.shape[1:])


def _linear_reflectivity(dbz: Field, cap_dbz: float | None) -> Field:
    """Return Z in mm6 m-3; 0 without echo."""
    capped = dbz if cap_dbz is None else np.minimum(dbz, dbz.dtype.type(cap_dbz))
    return np.exp(capped * dbz.dtype.type(np.log(10) / 10))
