"""Base class and masking functions of the heads of fields and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geovision.heads.prediction import FieldPrediction, MaskPrediction
from geovision.heads.protocols import HasValidMask
from geovision.spec import Grid

__all__ = ["DenseHead", "combined_valid_mask", "masked_mean", "zero_invalid"]


def masked_mean(losses: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean over the valid cells, a scalar.

    The mean is 0 if no cell is valid.

    Args:
        losses: Losses of any shape; invalid cells may be NaN.
        valid: Valid cells, bool, broadcastable to `losses`; None if all are valid.
    """
    if valid is None:
        return losses.mean()
    mask = valid.expand_as(losses)
    return torch.where(mask, losses, torch.zeros_like(losses)).sum() / mask.sum().clamp_min(1)


def zero_invalid(truth: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the target with 0 in invalid cells, and its mask.

    A cell is valid if its target is finite and `valid` is true. NaN must be replaced because it would pass
    through a mask into the gradient.

    Args:
        truth: Target, any shape; NaN where missing.
        valid: Valid cells, bool, broadcastable to `truth`; None if all are valid.
    """
    mask = torch.isfinite(truth) if valid is None else torch.isfinite(truth) & valid
    return torch.where(mask, truth, torch.zeros_like(truth)), mask


def combined_valid_mask(
    parts: Sequence[nn.Module],
    inputs: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None,
    values: Tensor,
) -> Tensor | None:
    """Return the cells in which all modules have a valid prediction.

    Args:
        parts: Network and head; those without a `HasValidMask` hook restrict nothing.
        inputs: Inputs by name, shape ``(batch, *layout)``.
        valid: Masks of valid values by input name; None if all are valid.
        values: Output of the head.

    Returns:
        Mask, broadcastable to `values`, or None if all cells are valid.
    """
    found: Tensor | None = None
    for part in parts:
        where = part.valid_mask(inputs, valid, values.shape) if isinstance(part, HasValidMask) else None
        if where is not None:
            found = where if found is None else found & where
    return found


class DenseHead(nn.Module):
    """Base class of heads that predict a map.

    Attributes:
        prediction_type: Type of the predictions that `decode` returns.
        grid: Cell centers of the predictions, or None if unknown.
        seen: Cells of that grid for which the training data contain a target, bool, shape ``(y, x)``; empty
            if unknown.
    """

    prediction_type: type[FieldPrediction] | type[MaskPrediction]
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.grid: Grid | None = None
        self.register_buffer("seen", torch.zeros(0, 0, dtype=torch.bool))

    @torch.no_grad()
    def note_seen(self, valid: Tensor) -> None:
        """Record the cells for which the training data contain a target.

        Other cells, such as those over sea, have no valid prediction, because they were not trained on.

        Args:
            valid: Mask of valid targets, shape ``(sample, 1, y, x)``.
        """
        if self.grid is not None and self.grid.size == tuple(valid.shape[-2:]):
            self.seen = valid.flatten(0, 1).any(0)

    def valid_mask(self, inputs: Any, valid: Any, shape: Sequence[int]) -> Tensor | None:
        """Return the cells with a valid prediction, shape ``(1, 1, y, x)``.

        Args:
            inputs: Ignored by this head.
            valid: Ignored by this head.
            shape: Shape of the predictions.

        Returns:
            Mask, or None if all cells are valid.
        """
        return self.seen[None, None] if tuple(self.seen.shape) == tuple(shape[-2:]) else None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if prefix + "seen" in state_dict:
            self.seen = torch.empty_like(state_dict[prefix + "seen"])
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def estimate(self, values: Tensor) -> Tensor:
        """Return the predicted field or probability, shape ``(batch, 1, y, x)``.

        Args:
            values: Output of `forward`.
        """
        raise NotImplementedError

    def export_outputs(self, values: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return the outputs of an exported graph by name.

        Args:
            values: Output of `forward`.
            features: Features, shape ``(batch, num_features, y, x)``.
        """
        return {"values": values, "estimate": self.estimate(values)}

    def scored(self, values: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return predictions and targets, the inputs of metrics.

        Args:
            values: Output of `forward`.
            target: Target, shape ``(batch, 1, y, x)``.
            valid: Valid cells, bool, broadcastable to `target`; None if all are valid.

        Returns:
            Two float tensors of shape ``(batch, 1, y, x)``; the target is NaN in invalid cells.
        """
        observed = target.float()
        if valid is not None:
            observed = observed.where(valid.expand_as(observed), torch.nan)
        return self.estimate(values), observed

    def decode(
        self, values: Tensor, features: Tensor, sources: Sequence[str], *, valid: Tensor | None = None
    ) -> list[Any]:
        """Return one labeled prediction per sample.

        Args:
            values: Output of `forward`.
            features: Features that the head received.
            sources: Source of each sample.
            valid: Cells with a valid prediction, bool, shape ``(batch, 1, y, x)``.
                Default: None, all cells.
        """
        found = self.estimate(values)
        mask = torch.ones_like(found, dtype=torch.bool) if valid is None else valid.expand_as(found)
        return [
            self._to_prediction(source, values[n : n + 1], found[n, 0], mask[n, 0])
            for n, source in enumerate(sources)
        ]

    def _to_prediction(self, source: str, values: Tensor, found: Tensor, valid: Tensor) -> Any:
        raise NotImplementedError

    def _matching_grid(self, values: Tensor) -> Grid | None:
        """Return the grid if its size is that of the values."""
        fits = self.grid is not None and self.grid.size == tuple(values.shape[-2:])
        return self.grid if fits else None


def to_nan_array(values: Tensor, valid: Tensor) -> NDArray[np.floating]:
    """Return a map as a float32 array with NaN in invalid cells.

    Args:
        values: Values of the cells, shape ``(y, x)``.
        valid: Valid cells, bool, shape ``(y, x)``.
    """
    return values.where(valid, torch.nan).float().cpu().numpy()
