"""Double-precision fields and masks of their valid cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovision.errors import InputError

__all__ = ["mask_field", "mask_pair", "masked_mean"]


def mask_pair(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return prediction and target as float64, with the mask of valid cells.

    A cell is valid if both values are finite and `valid` does not exclude it.

    Args:
        prediction: Predicted field, any shape.
        truth: Target field, same shape.
        valid: Cells to include, bool, broadcastable to the fields. Default: all.

    Returns:
        Prediction and target, float64, 0 in invalid cells, and the mask of valid cells.

    Raises:
        InputError: The shapes differ.
    """
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction has shape {tuple(prediction.shape)} and truth has shape "
            f"{tuple(truth.shape)}; expected equal shapes"
        )
    mask = torch.isfinite(prediction) & torch.isfinite(truth)
    if valid is not None:
        mask = mask & valid
    zero = torch.zeros((), dtype=torch.float64, device=truth.device)
    return torch.where(mask, prediction.double(), zero), torch.where(mask, truth.double(), zero), mask


def mask_field(field: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return a field as float64, 0 in invalid cells, and the mask of valid cells.

    Args:
        field: Field, any shape.
        valid: Cells to include, bool, broadcastable. Default: all finite cells.
    """
    mask = torch.isfinite(field) if valid is None else torch.isfinite(field) & valid
    return torch.where(mask, field.double(), torch.zeros((), dtype=torch.float64, device=field.device)), mask


def masked_mean(values: Tensor, valid: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the mean of the valid values; NaN without any.

    Args:
        values: Values, any shape.
        valid: Values to include, bool, same shape.
        axes: Axes to average over.
    """
    total = torch.where(valid, values, torch.zeros_like(values)).sum(tuple(axes))
    return total / valid.sum(tuple(axes))
