"""Interface of networks: what every network has, and the optional hooks.

The hooks that networks share with heads are in `geovision.heads.protocols`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from geovision.spec import SampleContext

__all__ = [
    "HasBaseModel",
    "HasFactor",
    "HasFit",
    "HasInputSize",
    "HasOODFeatures",
    "HasPretrainedStatistics",
    "HasReferencePeriod",
    "Network",
]


@runtime_checkable
class Network(Protocol):
    """A network as a model calls it."""

    num_features: int

    def __call__(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None,
        context: SampleContext | None,
    ) -> Tensor:
        """Return features, shape (batch, feature) or (batch, feature, y, x), of normalized inputs."""


@runtime_checkable
class HasPretrainedStatistics(Protocol):
    """A network with the input statistics of its pre-training."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@runtime_checkable
class HasInputSize(Protocol):
    """A network with an input size (height, width) of its own."""

    size: tuple[int, int] | None


@runtime_checkable
class HasOODFeatures(Protocol):
    """A network that names the features used for out-of-distribution scores."""

    num_features: int
    outlier_features: slice


@runtime_checkable
class HasFactor(Protocol):
    """A network of fields whose output grid is finer than its input grid by a factor."""

    factor: int


@runtime_checkable
class HasFit(Protocol):
    """A closed-form network or head: `fit` is its complete training."""

    def fit(self, data: Any) -> None:
        """Fit to a dataset of normalized samples."""


@runtime_checkable
class HasBaseModel(Protocol):
    """A network with a simpler model that is fitted before training."""

    def fit_base(self, data: Any) -> None:
        """Fit the simpler model to a dataset of normalized samples."""


@runtime_checkable
class HasReferencePeriod(Protocol):
    """A network that needs the inputs of a whole period before it predicts a day of it."""

    def period(self, ask: Any, days: int) -> Any:
        """Return a context manager in which predictions refer to this period."""


def input_size(network: torch.nn.Module) -> Sequence[int] | None:
    """Return the input size of a network; None if it takes any size."""
    return network.size if isinstance(network, HasInputSize) else None
