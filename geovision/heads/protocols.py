"""Optional hooks of networks and heads, as protocols.

A hook is looked up by ``isinstance(module, Protocol)``, so a misspelled method is found by the type checker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["HasFitStatistics", "HasLoss", "HasMembers", "HasSamples", "HasTemperature", "HasValidMask"]


@runtime_checkable
class HasValidMask(Protocol):
    """A module that restricts the cells with a valid prediction."""

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the valid cells, bool, broadcastable to `shape`; None: all cells."""


@runtime_checkable
class HasFitStatistics(Protocol):
    """A module that needs statistics of the training data before the first step."""

    def fit_statistics(self, *data: Any) -> None:
        """Compute the statistics: networks from inputs and masks, heads from targets."""


@runtime_checkable
class HasLoss(Protocol):
    """A head with a loss of its own, which replaces the loss of the task."""

    def loss(self, values: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the mean loss over valid targets, a scalar."""


@runtime_checkable
class HasTemperature(Protocol):
    """A head whose probabilities are calibrated by a temperature."""

    temperature: Tensor


@runtime_checkable
class HasSamples(Protocol):
    """A head that draws from the distribution of every cell."""

    def sample(self, values: Tensor, *, members: int, seed: int) -> Tensor:
        """Return draws, shape (batch, 1, member, y, x)."""


@runtime_checkable
class HasMembers(Protocol):
    """A head whose values contain the members of an ensemble."""

    def members(self, values: Tensor) -> Tensor:
        """Return the members, shape (batch, member, y, x)."""
