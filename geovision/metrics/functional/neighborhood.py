"""Whether it rains as much as it should in the neighbourhood, though not in the very cell."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from geovision.errors import InputError
from geovision.metrics._masked import mask_pair

__all__ = ["fss", "neighborhood_fractions", "useful_fss"]


def fss(
    prediction: Tensor, truth: Tensor, threshold: float, scale: int, valid: Tensor | None = None
) -> Tensor:
    """Fractions skill score, 0-1 (Roberts and Lean 2008, doi:10.1175/2007MWR2123.1).

    ``1 - sum (P - O)^2 / (sum P^2 + sum O^2)`` over all cells and times, with the fraction of the cells of
    a square window that reach the threshold in the prediction, P, and in the truth, O. Beyond the grid, and
    where either is missing, there is no event. NaN where there is none anywhere.

    Args:
        prediction, truth: ``(…, y, x)``, of one unit.
        threshold: In that unit; a value equal to it is an event.
        scale: Cells along each side of the window.
        valid: Cells that count, broadcastable.
    """
    p, t, there = mask_pair(prediction, truth, valid)
    said = neighborhood_fractions((p >= threshold) & there, scale)
    seen = neighborhood_fractions((t >= threshold) & there, scale)
    return 1 - (said - seen).square().sum() / (said.square().sum() + seen.square().sum())


def neighborhood_fractions(events: Tensor, scale: int) -> Tensor:
    """The fraction of the cells around each one that are events.

    Args:
        events: ``(…, y, x)`` of bool.
        scale: Cells along each side of the window; an even one reaches one cell further to the start.

    Returns:
        float64 of the same shape.
    """
    if scale < 1:
        raise InputError(f"scale={scale}: expected a number of cells, 1 or more")
    before, after = scale // 2, scale - 1 - scale // 2
    planes = events.double().reshape(-1, 1, *events.shape[-2:])
    return F.avg_pool2d(F.pad(planes, (before, after, before, after)), scale, stride=1).view(events.shape)


def useful_fss(truth: Tensor, threshold: float, valid: Tensor | None = None) -> Tensor:
    """The score from which a scale is called useful, ``0.5 + f / 2`` with the frequency f of the event
    (Roberts and Lean 2008)."""
    _, t, there = mask_pair(truth, truth, valid)
    return 0.5 + ((t >= threshold) & there).sum() / there.sum() / 2
