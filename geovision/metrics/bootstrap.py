"""Bootstrap intervals of metrics by resampling groups.

Samples of one group (near-duplicates, a night, a storm day) are not independent. Groups are therefore drawn
with replacement, and all samples of a drawn group enter the resample (cluster bootstrap, Davison & Hinkley
1997, section 3.8). The state of a metric is computed once per group. A resample merges the states of its
groups, as torchmetrics merges the states of several processes.
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
    """Value of a metric over all samples, with the ends of its confidence interval.

    Attributes:
        value: Value of the metric, in the metric's shape. NaN where it is undefined.
        low: Lower end of the interval, same shape. NaN if no interval was requested.
        high: Upper end of the interval, same shape. NaN if no interval was requested.
    """

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
    """Compute metrics over all samples, with percentile intervals over groups.

    Args:
        metrics: Metrics by name, from `geovision.metrics.create`. They are reset afterwards.
        prediction: Input of the metrics, shape (sample, ...).
        target: Targets, shape (sample, ...).
        groups: Group of each sample.
        n_bootstrap: Number of resamples, each of as many groups as the data have; 0 computes no intervals.
            Default: 1000.
        seed: Seed of the random draws. The draws do not depend on the metrics. Default: 0.
        confidence_level: Coverage of the interval, 0 to 1. Default: 0.95.

    Returns:
        An `Estimate` for each metric. The interval excludes resamples in which the metric is undefined
        because they lack a class.

    Raises:
        OptionError: There are no samples, the lengths differ, or the states of a metric cannot be merged.
    """
    if not len(prediction) == len(target) == len(groups) or not len(groups):
        raise OptionError(
            f"{len(prediction)} predictions, {len(target)} targets and {len(groups)} groups; "
            "expected equal numbers, and at least one sample"
        )
    index = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    member = torch.tensor([index[group] for group in groups])
    draws = _resample_counts(len(index), n_bootstrap, seed)
    return {
        name: _estimate(metric, prediction, target, member, draws, confidence_level)
        for name, metric in metrics.items()
    }


def _resample_counts(groups: int, n_bootstrap: int, seed: int) -> Tensor:
    """Return how often each resample contains each group, shape (resample, group)."""
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
        undefined = torch.full_like(value, torch.nan, dtype=torch.float32)
        return Estimate(value, undefined, undefined)
    values = values.double()
    tail = (1 - confidence_level) / 2
    low, high = torch.nanquantile(values, values.new_tensor([tail, 1 - tail]), dim=0).float()
    return Estimate(value, low, high)


def _metric_states(
    metric: Metric, prediction: Tensor, target: Tensor, membership: Tensor
) -> dict[str, Tensor]:
    """Return the states of a metric: lists by sample, sums by group.

    Concatenated lists have shape (sample, ...). Sums are computed for each group and have shape (group, ...).
    """
    for name, reduction in metric._reductions.items():
        if reduction not in (dim_zero_sum, dim_zero_cat):
            raise OptionError(
                f"state {name!r} of {type(metric).__name__} is not a sum or a list; it cannot be resampled"
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
    """Return the value of the metric in each resample, shape (resample, ...)."""
    gathered = [name for name in states if metric._reductions[name] is dim_zero_cat]
    # float64 represents counts exactly and multiplies much faster than int64.
    sums = {
        name: torch.tensordot(counts.double(), state.double(), dims=1).to(state.dtype)
        for name, state in states.items()
        if name not in gathered
    }
    values = []
    metric._update_count = max(metric._update_count, 1)  # torchmetrics warns otherwise
    for number, draw in enumerate(counts):
        for name in gathered:
            setattr(metric, name, [states[name].repeat_interleave(draw[membership], dim=0)])
        for name, total in sums.items():
            setattr(metric, name, total[number])
        metric._computed = None  # drop the value cached for the previous states
        values.append(metric.compute())
    return torch.stack(values)


class GroupedMetrics:
    """Bootstrap estimates for predictions that arrive in batches and are not kept.

    The states of every metric are stored for each group.

    Args:
        metrics: Metrics by name, whose states are sums. They are used and reset.

    Raises:
        OptionError: A metric has a state that is not a sum.
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        for metric in metrics.values():
            if any(reduction is not dim_zero_sum for reduction in metric._reductions.values()):
                raise OptionError(f"{type(metric).__name__} has a state that is not a sum")
        self.metrics = dict(metrics)
        self._groups: dict[str, dict[str, dict[str, Tensor]]] = {}

    def update(self, prediction: Tensor, target: Tensor, groups: Sequence[str]) -> None:
        """Add a batch.

        Args:
            prediction: Input of the metrics, shape (sample, ...).
            target: Targets, shape (sample, ...).
            groups: Group of each sample.
        """
        for group in dict.fromkeys(groups):
            rows = torch.tensor([index for index, each in enumerate(groups) if each == group])
            group_states = self._groups.setdefault(group, {name: {} for name in self.metrics})
            for name, metric in self.metrics.items():
                metric.reset()
                metric.update(prediction[rows], target[rows])
                for state in metric._reductions:
                    added = getattr(metric, state).clone()
                    group_states[name][state] = (
                        group_states[name][state] + added if state in group_states[name] else added
                    )
                metric.reset()

    def estimates(
        self, *, n_bootstrap: int = 1000, seed: int = 0, confidence_level: float = 0.95
    ) -> dict[str, Estimate]:
        """Return an `Estimate` for each metric, as `bootstrap` does.

        Args:
            n_bootstrap: Number of resamples; 0 computes no intervals. Default: 1000.
            seed: Seed of the random draws. Default: 0.
            confidence_level: Coverage of the interval, 0 to 1. Default: 0.95.

        Returns:
            Estimates by name; empty if no batch was added.
        """
        if not self._groups:
            return {}
        draws = _resample_counts(len(self._groups), n_bootstrap, seed)
        found = {}
        for name, metric in self.metrics.items():
            states = {
                state: torch.stack([group[name][state] for group in self._groups.values()])
                for state in metric._reductions
            }
            all_groups = torch.ones(1, len(self._groups), dtype=torch.int64)
            value = _compute_resampled(metric, states, torch.arange(0), all_groups)[0]
            values = _compute_resampled(metric, states, torch.arange(0), draws) if n_bootstrap else None
            metric.reset()
            found[name] = _with_interval(value, values, confidence_level)
        return found
