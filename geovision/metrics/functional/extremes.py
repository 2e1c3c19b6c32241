"""ETCCDI indices of daily precipitation for each cell, and their biases.

Fields have shape (time, ..., y, x), in mm/day, with one time step per day. Indices are maps of shape
(..., y, x), float64, NaN in cells without valid days. A day that is NaN or invalid does not count as wet
or dry, and ends a spell. Definitions: Expert Team on Climate Change Detection and Indices (Zhang et al. 2011,
doi:10.1002/wcc.147).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from geovision.metrics._masked import mask_field, mask_pair, masked_mean

__all__ = [
    "WET_DAY",
    "cdd",
    "cwd",
    "index_bias",
    "quantile",
    "quantile_bias",
    "r01",
    "rx1day",
    "sdii",
    "spell_bias",
]

WET_DAY = 1.0
"""Least precipitation of a wet day, in mm."""


def quantile(field: Tensor, q: float, valid: Tensor | None = None) -> Tensor:
    """Compute a quantile over all days of each cell, in mm/day.

    Wet and dry days are included. Values are interpolated linearly.

    Args:
        field: Daily values, shape (time, ..., y, x), in mm/day.
        q: Probability of the quantile, 0 to 1.
        valid: Valid days, bool, broadcastable. Default: all finite values.
    """
    values, mask = mask_field(field, valid)
    # torch.nanquantile is limited to 16 million values.
    ordered = torch.where(mask, values, torch.full_like(values, torch.inf)).sort(0).values
    count = mask.sum(0, keepdim=True)
    at = q * (count - 1).clamp_min(0).double()
    low = at.floor().long()
    lower, upper = ordered.gather(0, low), ordered.gather(0, (low + 1).minimum((count - 1).clamp_min(0)))
    result = (lower + (at - low) * (upper - lower))[0]
    return torch.where(count[0] > 0, result, torch.full_like(result, torch.nan))


def quantile_bias(prediction: Tensor, truth: Tensor, q: float, valid: Tensor | None = None) -> Tensor:
    """Compute the mean over cells of the quantile bias, in mm/day.

    The P95, P99 and P99.9 biases have ``q=0.95``, ``0.99`` and ``0.999``; 0 is best.

    Args:
        prediction: Predicted daily values, shape (time, ..., y, x), in mm/day.
        truth: Target, same shape and unit.
        q: Probability of the quantile, 0 to 1.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    return index_bias(lambda field, mask: quantile(field, q, mask), prediction, truth, valid)


def r01(field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY) -> Tensor:
    """Compute the fraction of wet days (R01 for 1 mm), 0 to 1.

    Args:
        field: Daily values, shape (time, ..., y, x), in mm/day.
        valid: Valid days, bool, broadcastable. Default: all finite values.
        threshold: Least value of a wet day, in the unit of the field. Default: 1 mm.
    """
    values, mask = mask_field(field, valid)
    return masked_mean((values >= threshold).double(), mask, (0,))


def sdii(field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY) -> Tensor:
    """Compute the simple daily intensity index (SDII), in mm/day.

    Mean over wet days; NaN without wet days.

    Args:
        field: Daily values, shape (time, ..., y, x), in mm/day.
        valid: Valid days, bool, broadcastable. Default: all finite values.
        threshold: Least value of a wet day, in the unit of the field. Default: 1 mm.
    """
    values, mask = mask_field(field, valid)
    return masked_mean(values, mask & (values >= threshold), (0,))


def rx1day(field: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the precipitation of the wettest day (Rx1day), in mm/day.

    Args:
        field: Daily values, shape (time, ..., y, x), in mm/day.
        valid: Valid days, bool, broadcastable. Default: all finite values.
    """
    values, mask = mask_field(field, valid)
    most = torch.where(mask, values, torch.full_like(values, -torch.inf)).amax(0)
    return torch.where(mask.any(0), most, torch.full_like(most, torch.nan))


def cdd(
    field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY, begins: Tensor | None = None
) -> Tensor:
    """Compute the number of consecutive dry days (CDD), in days.

    Length of the longest spell without a wet day.

    Args:
        field: Daily values, shape (time, ..., y, x), in mm/day.
        valid: Valid days, bool, broadcastable. Default: all finite values.
        threshold: Least value of a wet day, in the unit of the field. Default: 1 mm.
        begins: Days that do not follow the day before, bool, shape (time,). A spell ends before them.
            Default: none.
    """
    values, mask = mask_field(field, valid)
    return _longest_spell(mask & (values < threshold), mask, begins)


def cwd(
    field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY, begins: Tensor | None = None
) -> Tensor:
    """Compute the number of consecutive wet days (CWD), in days.

    Length of the longest spell of wet days.

    Args:
        field: Daily values, shape (time, ..., y, x), in mm/day.
        valid: Valid days, bool, broadcastable. Default: all finite values.
        threshold: Least value of a wet day, in the unit of the field. Default: 1 mm.
        begins: Days that do not follow the day before, bool, shape (time,). A spell ends before them.
            Default: none.
    """
    values, mask = mask_field(field, valid)
    return _longest_spell(mask & (values >= threshold), mask, begins)


def _longest_spell(days: Tensor, valid: Tensor, begins: Tensor | None) -> Tensor:
    """Return the length of the longest run of days, shape (..., y, x)."""
    run = torch.zeros_like(days[0], dtype=torch.float64)
    most = run
    for number, day in enumerate(days):
        if begins is not None and begins[number]:
            run = torch.zeros_like(run)
        run = torch.where(day, run + 1, torch.zeros_like(run))
        most = torch.maximum(most, run)
    return torch.where(valid.any(0), most, torch.full_like(most, torch.nan))


def index_bias(
    index: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, truth: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Compute the mean over cells of the bias of an index; 0 is best.

    Args:
        index: Function of (field, valid) that returns a map, such as `rx1day`.
        prediction: Predicted daily values, shape (time, ..., y, x), in mm/day.
        truth: Target, same shape and unit.
        valid: Cells to include, bool, broadcastable. Default: all.

    Returns:
        Bias in the unit of the index.

    >>> field = torch.tensor([0.0, 3.0, 5.0]).view(3, 1, 1)
    >>> float(index_bias(rx1day, field * 2, field))
    5.0
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    return (index(p, mask) - index(t, mask)).nanmean()


def spell_bias(
    index: Callable[..., Tensor],
    prediction: Tensor,
    truth: Tensor,
    *,
    groups: Sequence[object],
    begins: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Compute the mean bias of the longest spell, in days; 0 is best.

    Mean over groups, such as winters, and over cells.

    Args:
        index: Function of the longest spell, `cdd` or `cwd`.
        prediction: Predicted daily values, shape (time, ..., y, x), in mm/day.
        truth: Target, same shape and unit.
        groups: Group of each day, such as a winter. A spell does not continue into another group, and each
            group has its own longest spell.
        begins: Days that do not follow the day before, bool, shape (time,).
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    biases = []
    for group in dict.fromkeys(groups):
        days = torch.tensor([number for number, each in enumerate(groups) if each == group])
        group_index = partial(index, begins=begins[days])
        p, t, mask = mask_pair(prediction[days], truth[days], None if valid is None else valid[days])
        biases.append(group_index(p, mask) - group_index(t, mask))
    return torch.stack(biases).nanmean()
