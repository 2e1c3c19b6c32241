"""Scores of several answers at once: members ``(member, …)`` or quantiles, beside one truth ``(…)``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geovision.errors import InputError
from geovision.metrics._masked import masked_mean

__all__ = [
    "EnsembleReliability",
    "crps",
    "crps_per_cell",
    "pinball",
    "rank_histogram",
    "reliability",
    "spread",
    "spread_skill_ratio",
    "validate_members",
]


def validate_members(
    members: Tensor, truth: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As float64, 0 where they do not count; a cell counts where all members and the truth are numbers."""
    if members.ndim != truth.ndim + 1 or members.shape[1:] != truth.shape:
        raise InputError(
            f"members of shape {tuple(members.shape)} and truth of shape {tuple(truth.shape)}; "
            "expected (member, …) and (…)"
        )
    there = torch.isfinite(members).all(0) & torch.isfinite(truth)
    if valid is not None:
        there = there & valid
    zero = torch.zeros((), dtype=torch.float64, device=truth.device)
    return torch.where(there, members.double(), zero), torch.where(there, truth.double(), zero), there


def crps(members: Tensor, truth: Tensor, valid: Tensor | None = None, *, fair: bool = True) -> Tensor:
    """Continuous ranked probability score, mean over all cells, in the unit of the field.

    ``mean |X - y| - 1/2 mean |X - X'|`` (Gneiting and Raftery 2007, doi:10.1198/016214506000001437).

    Args:
        fair: The second mean over pairs of different members, which does not punish small ensembles
            (Ferro 2014, doi:10.1002/qj.2270); else over all pairs, that of the empirical distribution.
            One member gives the mean absolute error.
    """
    x, y, there = validate_members(members, truth, valid)
    return masked_mean(crps_per_cell(x, y, fair=fair), there, range(y.ndim))


def crps_per_cell(x: Tensor, y: Tensor, *, fair: bool = True) -> Tensor:
    """`crps` of every cell ``(…)`` by itself."""
    count = len(x)
    near = (x - y).abs().mean(0)
    # Over sorted members the sum of all |x - x'| is linear in their ranks.
    rank = torch.arange(count, dtype=x.dtype, device=x.device).view(-1, *[1] * y.ndim)
    apart = 2 * ((2 * rank - count + 1) * x.sort(0).values).sum(0)
    pairs = count * (count - 1) if fair else count * count
    return near - apart / (2 * pairs) if count > 1 else near


def spread(members: Tensor, valid: Tensor | None = None) -> Tensor:
    """Root of the mean variance of the members about their mean, in the unit of the field; unbiased."""
    x, _, there = validate_members(members, members[0], valid)
    return masked_mean(x.var(0), there, range(x.ndim - 1)).sqrt()


def spread_skill_ratio(members: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Spread over the error of the ensemble mean, 1 where members and truth are of one distribution.

    ``sqrt((m + 1) / m) spread / RMSE`` for m members (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1);
    below 1 the ensemble is too sure.
    """
    x, y, there = validate_members(members, truth, valid)
    error = masked_mean((x.mean(0) - y).square(), there, range(y.ndim)).sqrt()
    return ((len(x) + 1) / len(x)) ** 0.5 * spread(members, there) / error


def rank_histogram(members: Tensor, truth: Tensor, valid: Tensor | None = None, *, seed: int = 0) -> Tensor:
    """How often the truth has each rank among the members, ``(member + 1,)``; flat where reliable.

    Equal values, as of dry days, are ranked at random (Hamill 2001).
    """
    x, y, there = validate_members(members, truth, valid)
    below, equal = (x < y).sum(0)[there], (x == y).sum(0)[there]
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(below.shape, generator=generator, dtype=torch.float64).to(x.device)
    rank = below + (share * (equal + 1)).floor().long()
    return torch.bincount(rank, minlength=len(x) + 1)


class EnsembleReliability(NamedTuple):
    """By bin of forecast probability, ``(bin,)`` each: mean forecast and observed frequency, NaN where
    there is no forecast, and the number of forecasts."""

    forecast: Tensor
    observed: Tensor
    counts: Tensor


def reliability(
    members: Tensor, truth: Tensor, threshold: float, valid: Tensor | None = None, *, bins: int = 10
) -> EnsembleReliability:
    """How often the truth reaches a threshold where a given part of the members do."""
    x, y, there = validate_members(members, truth, valid)
    probability = (x >= threshold).double().mean(0)[there]
    happened = (y >= threshold)[there].double()
    index = (probability * bins).long().clamp_max(bins - 1)
    count = torch.bincount(index, minlength=bins)
    sums = [torch.bincount(index, weights=each, minlength=bins) for each in (probability, happened)]
    return EnsembleReliability(sums[0] / count, sums[1] / count, count)


def pinball(predicted: Tensor, truth: Tensor, quantiles: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean pinball loss of each quantile, ``(quantile,)``, in the unit of the field.

    ``max(q (y - x), (q - 1)(y - x))`` (Koenker and Bassett 1978); twice its mean over many quantiles nears
    the CRPS.

    Args:
        predicted: ``(quantile, …)``; truth ``(…)``.
        quantiles: ``(quantile,)``, 0-1.
    """
    x, y, there = validate_members(predicted, truth, valid)
    q = quantiles.to(x).view(-1, *[1] * y.ndim)
    loss = torch.maximum(q * (y - x), (q - 1) * (y - x))
    return masked_mean(loss, there.expand_as(loss), range(1, loss.ndim))
