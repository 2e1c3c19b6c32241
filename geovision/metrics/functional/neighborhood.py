"""Neighborhood verification: the fractions skill score."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from geovision.errors import InputError
from geovision.metrics._masked import mask_pair

__all__ = ["fss", "neighborhood_fractions", "useful_fss"]


def fss(
    prediction: Tensor, truth: Tensor, threshold: float, scale: int, valid: Tensor | None = None
) -> Tensor:
    """Compute the fractions skill score (FSS), 0 to 1 (best).

    ``1 - sum (P - O)^2 / (sum P^2 + sum O^2)`` over all cells and times (Roberts and Lean 2008,
    doi:10.1175/2007MWR2123.1). P and O are the fractions of cells of a square window that reach the threshold
    in the prediction and in the target. Cells outside the grid and cells missing in either field have no
    event. NaN if no cell has the event.

    Args:
        prediction: Predicted field, shape (..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        threshold: Least value of the event, in the unit of the fields.
        scale: Side of the square window, in cells.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    predicted = neighborhood_fractions((p >= threshold) & mask, scale)
    observed = neighborhood_fractions((t >= threshold) & mask, scale)
    return 1 - (predicted - observed).square().sum() / (predicted.square().sum() + observed.square().sum())


def neighborhood_fractions(events: Tensor, scale: int) -> Tensor:
    """Compute the fraction of event cells in the window of each cell.

    Args:
        events: Cells with the event, bool, shape (..., y, x).
        scale: Side of the square window, in cells. An even window extends one cell further to the start.

    Returns:
        Fractions, float64, same shape.

    Raises:
        InputError: `scale` is below 1.
    """
    if scale < 1:
        raise InputError(f"scale={scale}; expected a number of cells, 1 or more")
    before, after = scale // 2, scale - 1 - scale // 2
    planes = events.double().reshape(-1, 1, *events.shape[-2:])
    return F.avg_pool2d(F.pad(planes, (before, after, before, after)), scale, stride=1).view(events.shape)


def useful_fss(truth: Tensor, threshold: float, valid: Tensor | None = None) -> Tensor:
    """Compute the FSS above which a scale is considered useful.

    ``0.5 + f / 2`` with the frequency f of the event (Roberts and Lean 2008).

    Args:
        truth: Target field, shape (..., y, x); NaN where missing.
        threshold: Least value of the event, in the unit of the field.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    _, t, mask = mask_pair(truth, truth, valid)
    return 0.5 + ((t >= threshold) & mask).sum() / mask.sum() / 2
