"""What a column of radar reflectivity says of hail, on ``(level, y, x)`` in dBZ with any level spacing.

Two values are no measurement and are told apart: ``-inf`` is no echo, the radar looked and saw nothing
(Z = 0); NaN is not covered, the radar did not look there. What is not covered adds nothing to an
integral, which is then a lower bound; a column without anything covered is NaN.

All functions work on the numbers as given; `check_volume` says whether they can be reflectivity.
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
    """How a hail size follows from the severe hail index: ``size = factor * SHI ** exponent``, mm."""

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
    """Flux of kinetic energy of hail, J m-2 s-1: ``5e-6 * 10 ** (0.084 Z) * W(Z)``.

    ``W`` rises from 0 at 40 dBZ to 1 at 50 dBZ, so that rain does not count (Witt et al. 1998,
    equations 1 and 2).

    Args:
        reflectivity: dBZ; no echo gives 0, not covered NaN.
    """
    weight = np.clip((reflectivity - 40) / 10, 0, 1)
    return 5e-6 * np.exp(0.084 * np.log(10) * reflectivity) * weight


def severe_hail_index(
    reflectivity: Volume, levels: Heights, *, freezing_level: Field | float, minus20_level: Field | float
) -> Field:
    """SHI, J m-1 s-1: ``0.1 * integral of W_T(H) * E(H) dH`` from the freezing level up.

    ``W_T`` rises from 0 at the freezing level to 1 at that of -20 degrees Celsius (Witt et al. 1998,
    equations 4 and 5). The integral is the trapezoidal rule over the levels; a level counts with half
    the distance to each neighbour.

    Args:
        reflectivity: ``(level, y, x)``, dBZ.
        levels: ``(level,)``, m, ascending, of the same zero as the two heights.
        freezing_level, minus20_level: m, one number or ``(y, x)``; NaN there gives NaN.

    Returns:
        ``(y, x)``, 0 and more. NaN where no level above the freezing level is covered.
    """
    freezing, cold = (_field(height, reflectivity).ravel() for height in (freezing_level, minus20_level))
    total = np.zeros(freezing.shape)
    seen = np.zeros(freezing.shape, bool)
    for height, thick, plane in zip(levels, _thickness(levels), reflectivity, strict=True):
        layer, above = plane.ravel(), height > freezing
        seen |= ~np.isnan(layer) & above
        hail = np.flatnonzero((layer > 40) & above)  # few: a power of each value is slow
        coldness = (height - freezing[hail]) / (cold[hail] - freezing[hail])
        total[hail] += thick * np.clip(coldness, 0, 1) * kinetic_energy_flux(layer[hail].astype(np.float64))
    known = seen & np.isfinite(freezing) & np.isfinite(cold)
    return np.where(known, 0.1 * total, np.nan).reshape(reflectivity.shape[1:])


def warning_threshold(freezing_level: Field | float, *, radar_altitude: Field | float = 0.0) -> Field:
    """WT, J m-1 s-1: ``57.5 H0 - 121`` with H0 the freezing level in km above the radar, at least 20
    (Witt et al. 1998, equation 6 with its floor, which holds below 2.45 km).

    Args:
        freezing_level: m above mean sea level.
        radar_altitude: m above mean sea level; a field counts from the ground instead.

    >>> [float(warning_threshold(height)) for height in (1000.0, 4000.0)]
    [20.0, 109.0]
    """
    kilometres = (np.asarray(freezing_level, np.float64) - radar_altitude) / 1000
    return np.maximum(57.5 * kilometres - 121, _FLOOR)


def probability_of_severe_hail(index: Field, threshold: Field | float) -> Field:
    """POSH, percent: ``29 ln(SHI / WT) + 50``, held within 0 and 100 (Witt et al. 1998, equation 7).

    So it is 50 where SHI = WT, and 0 where SHI is 0. Severe is hail of 19 mm (3/4 inch) and more.

    >>> probability_of_severe_hail(np.array([0.0, 109.0, 1e4]), 109.0).tolist()
    [0.0, 50.0, 100.0]
    """
    with np.errstate(divide="ignore"):
        return np.clip(29 * np.log(index / threshold) + 50, 0, 100)


def maximum_expected_size(index: Field, calibration: Calibration = Calibration.witt) -> Field:
    """MESH, mm, a power of SHI; 0 where SHI is 0.

    ``witt``: ``2.54 SHI ** 0.5``, about three quarters of the reported sizes lie below (Witt et al. 1998,
    equation 8). ``mesh75`` and ``mesh95``: ``15.096 SHI ** 0.206`` and ``22.157 SHI ** 0.212``, the 75th
    and 95th percentile of a larger sample (Murillo and Homeyer 2019, with the coefficients of 2021).

    >>> maximum_expected_size(np.array([0.0, 100.0])).tolist()
    [0.0, 25.4]
    """
    factor, exponent = _POWER_LAW[Calibration(calibration)]
    return factor * np.power(index, exponent)


# --- other quantities of a column ---------------------------------------------------------------


def vertically_integrated_liquid(
    reflectivity: Volume, levels: Heights, *, cap_dbz: float | None = 56.0
) -> Field:
    """VIL, kg m-2: ``sum of 3.44e-6 * ((Z_k + Z_k+1) / 2) ** (4/7) * dh`` over neighbouring levels, Z in
    mm6 m-3 (Greene and Clark 1972, doi:10.1175/1520-0493(1972)100<0548:VILWNA>2.3.CO;2).

    Only layers count of which both levels are covered; nothing is added below the lowest.

    Args:
        reflectivity: ``(level, y, x)``, dBZ.
        levels: ``(level,)``, m, ascending.
        cap_dbz: What lies above counts as this, as hail is no liquid: 56 dBZ is usual. None: no cap,
            as in the original.

    Returns:
        ``(y, x)``, 0 and more. NaN where no layer is covered.
    """
    below = _linear_reflectivity(reflectivity[0].ravel(), cap_dbz)
    total, seen = np.zeros(below.shape), np.zeros(below.shape, bool)
    for thick, plane in zip(np.diff(levels), reflectivity[1:], strict=True):
        above = _linear_reflectivity(plane.ravel(), cap_dbz)
        mean = (below + above) / 2
        seen |= ~np.isnan(mean)
        wet = np.flatnonzero(mean > 0)  # most of a volume is without echo, and a power is slow
        total[wet] += (3.44e-6 * thick) * np.power(mean[wet], mean.dtype.type(4 / 7))
        below = above
    return np.where(seen, total, np.nan).reshape(reflectivity.shape[1:])


def maximum_reflectivity(reflectivity: Volume) -> Field:
    """The largest reflectivity of a column, ``(y, x)``, dBZ: ``-inf`` without echo, NaN not covered."""
    return np.fmax.reduce(reflectivity, axis=0)


def height_of_maximum(reflectivity: Volume, levels: Heights) -> Field:
    """Height of the largest reflectivity of a column, ``(y, x)``, m; of equal ones the lowest.

    NaN where there is no echo or nothing is covered.
    """
    best = np.full(reflectivity.shape[1:], -np.inf, reflectivity.dtype)
    height = np.full(reflectivity.shape[1:], np.nan)
    for level, layer in zip(levels, reflectivity, strict=True):
        higher = layer > best  # False for what is not covered
        best[higher], height[higher] = layer[higher], level
    return height


def echo_top(reflectivity: Volume, levels: Heights, *, threshold_dbz: float = 18.0) -> Field:
    """The largest height at which the reflectivity reaches a threshold, ``(y, x)``, m.

    Between the highest level that reaches it and the next, dBZ is interpolated linearly. Where the next
    has no echo, is not covered or does not exist, the top is the level itself, at the bounds of what
    the radar covers therefore a lower bound. NaN where no level reaches the threshold.
    """
    planes = reflectivity.reshape(len(levels), -1)
    top = np.full(planes.shape[1], np.nan)
    for k in range(len(levels) - 1, -1, -1):
        first = np.flatnonzero((planes[k] >= threshold_dbz) & np.isnan(top))
        top[first] = levels[k]
        if k + 1 == len(levels):
            continue
        here, above = (planes[each, first].astype(np.float64) for each in (k, k + 1))
        echo = np.isfinite(above)
        share = (here[echo] - threshold_dbz) / (here[echo] - above[echo])
        top[first[echo]] += share * (levels[k + 1] - levels[k])
    return top.reshape(reflectivity.shape[1:])


def lowest_covered(reflectivity: Volume, levels: Heights) -> Field:
    """Height of the lowest level that the radar covers, ``(y, x)``, m; NaN where there is none."""
    covered = ~np.isnan(reflectivity)
    return np.where(covered.any(axis=0), np.asarray(levels, np.float64)[covered.argmax(axis=0)], np.nan)


def covered_fraction(reflectivity: Volume, levels: Heights, *, freezing_level: Field | float) -> Field:
    """The share, 0 to 1, of the depth from the freezing level to the highest level that is covered.

    Below 1 the severe hail index is a lower bound: above the highest beam, as over the radar itself.
    NaN where no level lies above the freezing level.
    """
    depth, freezing = _thickness(levels), _field(freezing_level, reflectivity)
    seen, whole = np.zeros(freezing.shape), np.zeros(freezing.shape)
    for height, thick, layer in zip(levels, depth, reflectivity, strict=True):
        above = (height > freezing) * thick
        whole += above
        seen += np.where(np.isnan(layer), 0, above)
    return np.divide(seen, whole, out=np.full(freezing.shape, np.nan), where=whole > 0)


def _thickness(levels: Heights) -> Heights:
    """Weights of the trapezoidal rule, m; one level alone has no depth."""
    half = np.diff(np.asarray(levels, np.float64)) / 2
    return np.concatenate([half, [0]]) + np.concatenate([[0], half])


def _field(value: Field | float, reflectivity: Volume) -> Field:
    return np.broadcast_to(np.asarray(value, np.float64), reflectivity.shape[1:])


def _linear_reflectivity(dbz: Field, cap_dbz: float | None) -> Field:
    """Z in mm6 m-3; 0 without echo."""
    capped = dbz if cap_dbz is None else np.minimum(dbz, dbz.dtype.type(cap_dbz))
    return np.exp(capped * dbz.dtype.type(np.log(10) / 10))
