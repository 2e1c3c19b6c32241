"""Scores of ensembles and quantiles.

Predictions are members or quantiles, shape (member, ...); targets have shape (...).
"""

from __future__ import annotations

import math
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
    """Return members and target as float64, with the mask of valid cells.

    A cell is valid if all members and the target are finite and `valid` does not exclude it.

    Args:
        members: Members of the ensemble, shape (member, ...); NaN where missing.
        truth: Target, shape (...); NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.

    Returns:
        Members and target, float64, 0 in invalid cells, and the mask of valid cells.

    Raises:
        InputError: The shapes do not match.
    """
    if members.ndim != truth.ndim + 1 or members.shape[1:] != truth.shape:
        raise InputError(
            f"members have shape {tuple(members.shape)} and truth has shape {tuple(truth.shape)}; "
            "expected (member, …) and (…)"
        )
    mask = torch.isfinite(members).all(0) & torch.isfinite(truth)
    if valid is not None:
        mask = mask & valid
    zero = torch.zeros((), dtype=torch.float64, device=truth.device)
    return torch.where(mask, members.double(), zero), torch.where(mask, truth.double(), zero), mask


def crps(members: Tensor, truth: Tensor, valid: Tensor | None = None, *, fair: bool = True) -> Tensor:
    """Compute the continuous ranked probability score (CRPS); 0 is best.

    ``mean |X - y| - 1/2 mean |X - X'|`` over members X, X' and target y (Gneiting and Raftery 2007,
    doi:10.1198/016214506000001437). Mean over all cells, in the unit of the field.

    Args:
        members: Members of the ensemble, shape (member, ...); NaN where missing.
        truth: Target, shape (...); NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        fair: Whether the second mean is over pairs of different members, which does not penalize small
            ensembles (Ferro 2014, doi:10.1002/qj.2270). Otherwise it is over all pairs, as for the empirical
            distribution. A single member gives the mean absolute error. Default: True.
    """
    x, y, mask = validate_members(members, truth, valid)
    return masked_mean(crps_per_cell(x, y, fair=fair), mask, range(y.ndim))


def crps_per_cell(x: Tensor, y: Tensor, *, fair: bool = True) -> Tensor:
    """Compute the CRPS of each cell, shape (...).

    Args:
        x: Members, shape (member, ...).
        y: Target, shape (...).
        fair: Whether to average over pairs of different members; see `crps`. Default: True.
    """
    count = len(x)
    error = (x - y).abs().mean(0)
    # For sorted members the sum of all |x - x'| is linear in their ranks.
    rank = torch.arange(count, dtype=x.dtype, device=x.device).view(-1, *[1] * y.ndim)
    differences = 2 * ((2 * rank - count + 1) * x.sort(0).values).sum(0)
    pairs = count * (count - 1) if fair else count * count
    return error - differences / (2 * pairs) if count > 1 else error


def spread(members: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the ensemble spread, in the unit of the field.

    Square root of the mean over cells of the unbiased variance of the members about their mean.

    Args:
        members: Members of the ensemble, shape (member, ...); NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    x, _, mask = validate_members(members, members[0], valid)
    return masked_mean(x.var(0), mask, range(x.ndim - 1)).sqrt()


def spread_skill_ratio(members: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the ratio of spread to ensemble-mean error; 1 is best.

    ``sqrt((m + 1) / m) spread / RMSE`` for m members (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1). The
    ratio is 1 if members and target have the same distribution, and below 1 if the ensemble is overconfident.

    Args:
        members: Members of the ensemble, shape (member, ...); NaN where missing.
        truth: Target, shape (...); NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    x, y, mask = validate_members(members, truth, valid)
    error = masked_mean((x.mean(0) - y).square(), mask, range(y.ndim)).sqrt()
    correction = math.sqrt((len(x) + 1) / len(x))
    return correction * spread(members, mask) / error


def rank_histogram(members: Tensor, truth: Tensor, valid: Tensor | None = None, *, seed: int = 0) -> Tensor:
    """Count the ranks of the target among the members.

    The histogram of a reliable ensemble is flat. Equal values, such as those of dry days, are ranked at
    random (Hamill 2001).

    Args:
        members: Members of the ensemble, shape (member, ...); NaN where missing.
        truth: Target, shape (...); NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        seed: Seed of the random ranks. Default: 0.

    Returns:
        Counts, shape (member + 1,).
    """
    x, y, mask = validate_members(members, truth, valid)
    below, equal = (x < y).sum(0)[mask], (x == y).sum(0)[mask]
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(below.shape, generator=generator, dtype=torch.float64).to(x.device)
    rank = below + (share * (equal + 1)).floor().long()
    return torch.bincount(rank, minlength=len(x) + 1)


class EnsembleReliability(NamedTuple):
    """Reliability of the event probability of an ensemble, shape (bin,) each.

    Attributes:
        forecast: Mean forecast probability of the bin, 0 to 1; NaN in an empty bin.
        observed: Observed frequency of the event in the bin, 0 to 1; NaN in an empty bin.
        counts: Number of forecasts in the bin.
    """

    forecast: Tensor
    observed: Tensor
    counts: Tensor


def reliability(
    members: Tensor, truth: Tensor, threshold: float, valid: Tensor | None = None, *, bins: int = 10
) -> EnsembleReliability:
    """Compute the reliability of the ensemble probability of an event.

    The forecast probability is the fraction of members that reach the threshold.

    Args:
        members: Members of the ensemble, shape (member, ...); NaN where missing.
        truth: Target, shape (...); NaN where missing.
        threshold: Least value of the event, in the unit of the field.
        valid: Cells to include, bool, broadcastable. Default: all.
        bins: Number of equal bins of probability. Default: 10.
    """
    x, y, mask = validate_members(members, truth, valid)
    probability = (x >= threshold).double().mean(0)[mask]
    observed = (y >= threshold)[mask].double()
    index = (probability * bins).long().clamp_max(bins - 1)
    count = torch.bincount(index, minlength=bins)
    sums = [torch.bincount(index, weights=each, minlength=bins) for each in (probability, observed)]
    return EnsembleReliability(sums[0] / count, sums[1] / count, count)


def pinball(predicted: Tensor, truth: Tensor, quantiles: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the mean pinball loss of each quantile; 0 is best.

    ``max(q (y - x), (q - 1)(y - x))`` of predicted quantile x and target y, in the unit of the field (Koenker
    and Bassett 1978). Twice its mean over many quantiles approximates the CRPS.

    Args:
        predicted: Predicted quantiles, shape (quantile, ...).
        truth: Target, shape (...).
        quantiles: Probabilities of the quantiles, 0 to 1, shape (quantile,).
        valid: Cells to include, bool, broadcastable. Default: all.

    Returns:
        Loss, shape (quantile,).
    """
    x, y, mask = validate_members(predicted, truth, valid)
    q = quantiles.to(x).view(-1, *[1] * y.ndim)
    loss = torch.maximum(q * (y - x), (q - 1) * (y - x))
    return masked_mean(loss, mask.expand_as(loss), range(1, loss.ndim))
