"""Indices of daily rain, cell by cell, as the expert team of ETCCDI defines them, and how far they are off.

Fields are ``(time, …, y, x)`` in mm/day, one step a day; indices are maps ``(…, y, x)``, float64, NaN in
a cell that is never there. A day that is NaN, or not valid, counts neither as wet nor as dry, and ends a
spell. (Zhang et al. 2011, doi:10.1002/wcc.147.)
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
"""Least rain of a wet day, mm."""


def quantile(field: Tensor, q: float, valid: Tensor | None = None) -> Tensor:
    """The quantile over all days of each cell, mm/day, linear between values; wet and dry days count."""
    values, there = mask_field(field, valid)
    # By hand: torch.nanquantile refuses more than 16 million values.
    ordered = torch.where(there, values, torch.full_like(values, torch.inf)).sort(0).values
    count = there.sum(0, keepdim=True)
    at = q * (count - 1).clamp_min(0).double()
    low = at.floor().long()
    lower, upper = ordered.gather(0, low), ordered.gather(0, (low + 1).minimum((count - 1).clamp_min(0)))
    found = (lower + (at - low) * (upper - lower))[0]
    return torch.where(count[0] > 0, found, torch.full_like(found, torch.nan))


def quantile_bias(prediction: Tensor, truth: Tensor, q: float, valid: Tensor | None = None) -> Tensor:
    """Mean over cells of the difference of their quantiles, mm/day: P95, P99, P99.9 bias with
    ``q=0.95``, ``0.99``, ``0.999``."""
    return index_bias(lambda field, there: quantile(field, q, there), prediction, truth, valid)


def r01(field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY) -> Tensor:
    """Return the fraction of wet days (R01 for 1 mm), 0 to 1."""
    values, there = mask_field(field, valid)
    return masked_mean((values >= threshold).double(), there, (0,))


def sdii(field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY) -> Tensor:
    """Return the simple daily intensity index: mean over wet days; NaN without any."""
    values, there = mask_field(field, valid)
    return masked_mean(values, there & (values >= threshold), (0,))


def rx1day(field: Tensor, valid: Tensor | None = None) -> Tensor:
    """Rain of the wettest day, mm/day."""
    values, there = mask_field(field, valid)
    most = torch.where(there, values, torch.full_like(values, -torch.inf)).amax(0)
    return torch.where(there.any(0), most, torch.full_like(most, torch.nan))


def cdd(
    field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY, begins: Tensor | None = None
) -> Tensor:
    """Consecutive dry days: length of the longest spell without a wet day, days.

    Args:
        field: Daily values, shape (time, ..., y, x).
        valid: Valid days, the same shape. Default: where the field is finite.
        threshold: Least value of a wet day, in the unit of the field.
        begins: Days that do not follow the day before, bool, shape (time,); a spell ends before them.
    """
    values, there = mask_field(field, valid)
    return _longest_spell(there & (values < threshold), there, begins)


def cwd(
    field: Tensor, valid: Tensor | None = None, *, threshold: float = WET_DAY, begins: Tensor | None = None
) -> Tensor:
    """Consecutive wet days: length of the longest spell of wet days, days. `begins` as for `cdd`."""
    values, there = mask_field(field, valid)
    return _longest_spell(there & (values >= threshold), there, begins)


def _longest_spell(days: Tensor, valid: Tensor, begins: Tensor | None) -> Tensor:
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
    """Mean over cells of the difference of an index, in its unit.

    Args:
        index: Function of (field, valid) that gives a map.

    >>> field = torch.tensor([0.0, 3.0, 5.0]).view(3, 1, 1)
    >>> float(index_bias(rx1day, field * 2, field))
    5.0
    """
    p, t, there = mask_pair(prediction, truth, valid)
    return (index(p, there) - index(t, there)).nanmean()


def spell_bias(
    index: Callable[..., Tensor],
    prediction: Tensor,
    truth: Tensor,
    *,
    groups: Sequence[object],
    begins: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Mean over groups, such as winters, and over cells of the difference of their longest spells, days.

    Args:
        index: `cdd` or `cwd`.
        groups: Group of each day, such as a winter. A spell does not continue into another
            group, and each group has a longest spell of its own.
        begins: ``(time,)`` of bool, days that do not follow the one before.
    """
    biases = []
    for group in dict.fromkeys(groups):
        days = torch.tensor([number for number, each in enumerate(groups) if each == group])
        of_group = partial(index, begins=begins[days])
        p, t, there = mask_pair(prediction[days], truth[days], None if valid is None else valid[days])
        biases.append(of_group(p, there) - of_group(t, there))
    return torch.stack(biases).nanmean()
