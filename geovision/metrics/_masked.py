"""Fields and their truth as doubles, with the cells that count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovision.errors import InputError

__all__ = ["mask_field", "mask_pair", "masked_mean"]


def mask_pair(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Both as float64, 0 where they do not count, and where they do.

    A cell counts where both are numbers and `valid`, broadcast to them, does not say otherwise.

    Raises:
        InputError: Shapes that differ.
    """
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction of shape {tuple(prediction.shape)} and truth of shape "
            f"{tuple(truth.shape)}; they must be one shape"
        )
    there = torch.isfinite(prediction) & torch.isfinite(truth)
    if valid is not None:
        there = there & valid
    zero = torch.zeros((), dtype=torch.float64, device=truth.device)
    return torch.where(there, prediction.double(), zero), torch.where(there, truth.double(), zero), there


def mask_field(field: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One field as float64, 0 where it does not count, and where it does."""
    there = torch.isfinite(field) if valid is None else torch.isfinite(field) & valid
    return torch.where(
        there, field.double(), torch.zeros((), dtype=torch.float64, device=field.device)
    ), there


def masked_mean(values: Tensor, valid: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean of the values that count; NaN where none does."""
    total = torch.where(valid, values, torch.zeros_like(values)).sum(tuple(axes))
    return total / valid.sum(tuple(axes))
