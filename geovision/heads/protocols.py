"""Protocols of optional hooks of heads, some of them shared with networks.

A hook is found by ``isinstance(module, Protocol)``, and the type checker compares its signature. A head that
has the member as a buffer names the protocol as a base class: Python 3.12 and later do not find buffers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = [
    "HasFeatureFit",
    "HasLoss",
    "HasMembers",
    "HasPostprocessing",
    "HasSamples",
    "HasTargetStatistics",
    "HasTemperature",
    "HasValidMask",
]


@runtime_checkable
class HasValidMask(Protocol):
    """A module that restricts the cells with a valid prediction."""

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the mask of valid cells, or None if all are valid.

        The mask is bool and broadcastable to `shape`.

        Args:
            inputs: Inputs by name, shape ``(batch, *layout)``.
            valid: Masks of valid values by input name; None if all are valid.
            shape: Shape of the predictions.
        """


@runtime_checkable
class HasTargetStatistics(Protocol):
    """A head that needs target statistics before the first training step."""

    def fit_statistics(self, truth: Tensor, valid: Tensor | None = None) -> None:
        """Compute the statistics of all training targets.

        Args:
            truth: Targets, shape ``(sample, 1, y, x)``; NaN where missing.
            valid: Valid cells, bool, broadcastable to `truth`. Default: None, all cells.
        """


@runtime_checkable
class HasPostprocessing(Protocol):
    """A head that is fitted to training predictions after the last step."""

    def fit_postprocessing(self, parameters: Tensor, truth: Tensor, valid: Tensor | None = None) -> None:
        """Fit the head to its outputs and their targets.

        Args:
            parameters: Outputs of the head, shape ``(sample, channel, y, x)``.
            truth: Targets, shape ``(sample, 1, y, x)``.
            valid: Valid cells, bool, broadcastable to `truth`. Default: None, all cells.
        """


@runtime_checkable
class HasFeatureFit(Protocol):
    """A closed-form head: `fit` is its complete training."""

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Fit the head to features and labels.

        Args:
            features: Features, shape ``(sample, feature)``.
            labels: Class indices, shape ``(sample,)``.
        """


@runtime_checkable
class HasLoss(Protocol):
    """A head whose own loss replaces that of the task."""

    def loss(self, values: Tensor, target: Tensor, valid: Tensor | None = None, /) -> Tensor:
        """Return the mean loss over valid targets, a scalar.

        Args:
            values: Outputs of the head.
            target: Targets.
            valid: Valid targets, bool, broadcastable to `target`. Default: None, all targets.
        """


@runtime_checkable
class HasTemperature(Protocol):
    """A head whose probabilities are calibrated by a temperature."""

    temperature: Tensor


@runtime_checkable
class HasSamples(Protocol):
    """A head that draws from the distribution of every cell."""

    def sample(self, parameters: Tensor, *, num_members: int, seed: int = 0) -> Tensor:
        """Return draws, shape ``(member, batch, 1, y, x)``.

        Args:
            parameters: Outputs of the head, shape ``(batch, parameter, y, x)``.
            num_members: Number of draws.
            seed: Random seed. Default: 0.
        """


@runtime_checkable
class HasMembers(Protocol):
    """A head whose values contain the members of an ensemble."""

    def members(self, parameters: Tensor) -> Tensor:
        """Return the members, shape ``(batch, member, y, x)``.

        Args:
            parameters: Outputs of the head, shape ``(batch, parameter, y, x)``.
        """
