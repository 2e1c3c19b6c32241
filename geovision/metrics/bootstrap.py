"""Intervals by resampling groups: what a metric would have been on another draw of the same kind.

Samples of one group (near-duplicates, a night, a storm day) are not independent, so groups are drawn,
with replacement, and each brings all its samples along (cluster bootstrap, Davison & Hinkley 1997,
section 3.8). A metric's state is computed once for each group; a resample merges the states of the
groups that it drew, as torchmetrics merges those of several processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat, dim_zero_sum

from geovision.errors import OptionError

__all__ = ["Estimate", "GroupedMetrics", "bootstrap"]


class Estimate(NamedTuple):
    """A metric's value over all samples, and the ends of its interval, each of the metric's shape.
    NaN where it is undefined, or where no interval was asked for."""

    value: Tensor
    low: Tensor
    high: Tensor


def bootstrap(
    metrics: Mapping[str, Metric],
    prediction: Tensor,
    target: Tensor,
    groups: Sequence[str],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence_level: float = 0.95,
) -> dict[str, Estimate]:
    """Metrics over all samples, with percentile intervals over groups.

    Args:
        metrics: By name, from `geovision.metrics.create`. They are left empty.
        prediction: ``(sample, …)``, what the metrics take.
        target: ``(sample, …)``.
        groups: The group of each sample.
        n_bootstrap: Draws of as many groups as there are; 0 gives no intervals.
        seed: The same seed gives the same draws, whichever metrics are asked for.
        confidence_level: Coverage of the interval, 0-1.

    Returns:
        An `Estimate` for each metric. A resample in which a metric is undefined, for want of a
        class, does not count for its interval.

    Raises:
        OptionError: No samples, lengths that differ, or a metric whose states cannot be merged.
    """
    if not len(prediction) == len(target) == len(groups) or not len(groups):
        raise OptionError(
            f"{len(prediction)} predictions, {len(target)} targets and {len(groups)} groups; "
            "they must be as many, and at least one"
        )
    index = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    member = torch.tensor([index[group] for group in groups])
    draws = _resample_counts(len(index), n_bootstrap, seed)
    return {
        name: _estimate(metric, prediction, target, member, draws, confidence_level)
        for name, metric in metrics.items()
    }


def _resample_counts(groups: int, n_bootstrap: int, seed: int) -> Tensor:
    """How often each resample drew each group, ``(resample, group)``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(groups, (n_bootstrap, groups), generator=generator)
    return torch.zeros(n_bootstrap, groups, dtype=torch.int64).scatter_add_(1, drawn, torch.ones_like(drawn))


def _estimate(
    metric: Metric,
    prediction: Tensor,
    target: Tensor,
    membership: Tensor,
    counts: Tensor,
    confidence_level: float,
) -> Estimate:
    metric.reset()
    metric.update(prediction, target)
    value = metric.compute()
    values = None
    if len(counts):
        values = _compute_resampled(
            metric, _metric_states(metric, prediction, target, membership), membership, counts
        )
    metric.reset()
    return _with_interval(value, values, confidence_level)


def _with_interval(value: Tensor, values: Tensor | None, confidence_level: float) -> Estimate:
    if values is None:
        nothing = torch.full_like(value, torch.nan, dtype=torch.float32)
        return Estimate(value, nothing, nothing)
    values = values.double()
    tail = (1 - confidence_level) / 2
    low, high = torch.nanquantile(values, values.new_tensor([tail, 1 - tail]), dim=0).float()
    return Estimate(value, low, high)


def _metric_states(
    metric: Metric, prediction: Tensor, target: Tensor, membership: Tensor
) -> dict[str, Tensor]:
    """The metric's states: gathered ones as they stand, ``(sample, …)``; summed ones for each group
    by itself, ``(group, …)``."""
    for name, reduction in metric._reductions.items():
        if reduction not in (dim_zero_sum, dim_zero_cat):
            raise OptionError(
                f"state {name!r} of {type(metric).__name__} is neither a sum nor a list; "
                "it cannot be resampled"
            )
    states = {name: torch.cat(each) for name, each in metric.metric_state.items() if isinstance(each, list)}
    summed: dict[str, list[Tensor]] = {name: [] for name in metric.metric_state if name not in states}
    if summed:
        for samples in membership.argsort(stable=True).split(membership.bincount().tolist()):
            metric.reset()
            metric.update(prediction[samples], target[samples])
            for name, each in summed.items():
                each.append(getattr(metric, name).clone())
    return states | {name: torch.stack(each) for name, each in summed.items()}


def _compute_resampled(
    metric: Metric, states: Mapping[str, Tensor], membership: Tensor, counts: Tensor
) -> Tensor:
    """The metric's value in each resample, ``(resample, …)``."""
    gathered = [name for name in states if metric._reductions[name] is dim_zero_cat]
    # Doubles hold counts exactly, and multiply far faster than integers.
    sums = {
        name: torch.tensordot(counts.double(), state.double(), dims=1).to(state.dtype)
        for name, state in states.items()
        if name not in gathered
    }
    values = []
    metric._update_count = max(metric._update_count, 1)  # torchmetrics warns of states that it did not sum
    for number, draw in enumerate(counts):
        for name in gathered:
            setattr(metric, name, [states[name].repeat_interleave(draw[membership], dim=0)])
        for name, total in sums.items():
            setattr(metric, name, total[number])
        metric._computed = None  # what torchmetrics remembers belongs to the states before
        values.append(metric.compute())
    return torch.stack(values)


class GroupedMetrics:
    """The same for answers that come batch by batch and are not kept: states of every group.

    Args:
        metrics: By name, whose states are sums. They are used, and left empty.
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        for metric in metrics.values():
            if any(reduction is not dim_zero_sum for reduction in metric._reductions.values()):
                raise OptionError(f"{type(metric).__name__} has a state that is no sum")
        self.metrics = dict(metrics)
        self._groups: dict[str, dict[str, dict[str, Tensor]]] = {}

    def update(self, prediction: Tensor, target: Tensor, groups: Sequence[str]) -> None:
        """Add a batch ``(sample, …)``."""
        for group in dict.fromkeys(groups):
            rows = torch.tensor([index for index, each in enumerate(groups) if each == group])
            own = self._groups.setdefault(group, {name: {} for name in self.metrics})
            for name, metric in self.metrics.items():
                metric.reset()
                metric.update(prediction[rows], target[rows])
                for state in metric._reductions:
                    added = getattr(metric, state).clone()
                    own[name][state] = own[name][state] + added if state in own[name] else added
                metric.reset()

    def estimates(
        self, *, n_bootstrap: int = 1000, seed: int = 0, confidence_level: float = 0.95
    ) -> dict[str, Estimate]:
        """An `Estimate` for each metric, as of `bootstrap`; none where nothing was added."""
        if not self._groups:
            return {}
        draws = _resample_counts(len(self._groups), n_bootstrap, seed)
        found = {}
        for name, metric in self.metrics.items():
            states = {
                state: torch.stack([group[name][state] for group in self._groups.values()])
                for state in metric._reductions
            }
            everything = torch.ones(1, len(self._groups), dtype=torch.int64)
            value = _compute_resampled(metric, states, torch.arange(0), everything)[0]
            values = _compute_resampled(metric, states, torch.arange(0), draws) if n_bootstrap else None
            metric.reset()
            found[name] = _with_interval(value, values, confidence_level)
        return found
