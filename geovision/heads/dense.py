"""What the heads of fields and of masks share: cells that count, scores and answers of whole grids."""

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
    """Mean over the cells that count; 0 where none does.

    Args:
        losses: Any shape; what stands in cells that do not count may be NaN.
        valid: Of bool, broadcastable; None: all.
    """
    if valid is None:
        return losses.mean()
    there = valid.expand_as(losses)
    return torch.where(there, losses, torch.zeros_like(losses)).sum() / there.sum().clamp_min(1)


def zero_invalid(truth: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The truth with 0 where it does not count, and where it does: valid cells that hold a number.

    Not a number would go through a mask into the gradient.
    """
    there = torch.isfinite(truth) if valid is None else torch.isfinite(truth) & valid
    return torch.where(there, truth, torch.zeros_like(truth)), there


def combined_valid_mask(
    parts: Sequence[nn.Module],
    inputs: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None,
    values: Tensor,
) -> Tensor | None:
    """Return the cells in which all modules have a valid prediction; None: all cells.

    Args:
        parts: Network and head; those without a `HasValidMask` hook restrict nothing.
        inputs: Inputs by name, shape (batch, *layout).
        valid: Valid values by input name. Default: all.
        values: Output of the head.
    """
    found: Tensor | None = None
    for part in parts:
        where = part.valid_mask(inputs, valid, values.shape) if isinstance(part, HasValidMask) else None
        if where is not None:
            found = where if found is None else found & where
    return found


class DenseHead(nn.Module):
    """A head whose answer is a map.

    Attributes:
        prediction_type: What `decode` gives.
        grid: Middles of the cells of the answer; None where they are not known.
        seen: On that grid, where the training data ever had a truth; empty where none is known.
    """

    prediction_type: type[FieldPrediction] | type[MaskPrediction]
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.grid: Grid | None = None
        self.register_buffer("seen", torch.zeros(0, 0, dtype=torch.bool))

    @torch.no_grad()
    def note_seen(self, there: Tensor) -> None:
        """Keep where the training data have a truth ``(sample, 1, y, x)``: elsewhere, as over sea, nothing
        was learnt, and nothing is answered."""
        if self.grid is not None and self.grid.size == tuple(there.shape[-2:]):
            self.seen = there.flatten(0, 1).any(0)

    def valid_mask(self, inputs: Any, valid: Any, shape: Sequence[int]) -> Tensor | None:
        """Where the answer means something, ``(1, 1, y, x)``; None: everywhere."""
        return self.seen[None, None] if tuple(self.seen.shape) == tuple(shape[-2:]) else None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if prefix + "seen" in state_dict:
            self.seen = torch.empty_like(state_dict[prefix + "seen"])
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def estimate(self, values: Tensor) -> Tensor:
        """What is scored ``(batch, 1, y, x)``: the field in its unit, or the probability."""
        raise NotImplementedError

    def export_outputs(self, values: Tensor, features: Tensor) -> dict[str, Tensor]:
        """What an exported graph answers with."""
        return {"values": values, "estimate": self.estimate(values)}

    def scored(self, values: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(answer, truth) as metrics take them: both ``(batch, 1, y, x)`` float, NaN where nothing counts."""
        truth = target.float()
        if valid is not None:
            truth = truth.where(valid.expand_as(truth), torch.nan)
        return self.estimate(values), truth

    def decode(
        self, values: Tensor, features: Tensor, sources: Sequence[str], *, valid: Tensor | None = None
    ) -> list[Any]:
        """One labelled answer a sample.

        Args:
            values: Of `forward`.
            features: What the head saw.
            valid: Where the answers mean something ``(batch, 1, y, x)``; None: everywhere.
        """
        found = self.estimate(values)
        there = torch.ones_like(found, dtype=torch.bool) if valid is None else valid.expand_as(found)
        return [
            self._to_prediction(source, values[n : n + 1], found[n, 0], there[n, 0])
            for n, source in enumerate(sources)
        ]

    def _to_prediction(self, source: str, values: Tensor, found: Tensor, there: Tensor) -> Any:
        raise NotImplementedError

    def _placed(self, values: Tensor) -> Grid | None:
        """The grid of an answer, where it is of this size."""
        fits = self.grid is not None and self.grid.size == tuple(values.shape[-2:])
        return self.grid if fits else None


def to_nan_array(values: Tensor, there: Tensor) -> NDArray[np.floating]:
    """A map as an array, NaN where nothing counts."""
    return values.where(there, torch.nan).float().cpu().numpy()
