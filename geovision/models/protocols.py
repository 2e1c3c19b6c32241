"""Optional hooks of networks, as protocols.

The hooks that networks share with heads are in `geovision.heads.protocols`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from geovision.datasets.base import Sample

__all__ = [
    "HasBaseModel",
    "HasExplainedLayer",
    "HasFactor",
    "HasFit",
    "HasInputSize",
    "HasInputStatistics",
    "HasLayerChannels",
    "HasLayerMaps",
    "HasNoWeightDecay",
    "HasOODFeatures",
    "HasParameterLayers",
    "HasPretrainedStatistics",
    "HasReferencePeriod",
    "HasViews",
    "ReadDays",
]


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
class HasInputStatistics(Protocol):
    """A network that needs statistics of the training inputs before the first step."""

    def fit_statistics(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Compute the statistics from all normalized inputs and their masks."""


@runtime_checkable
class HasFit(Protocol):
    """A closed-form network: `fit` is its complete training."""

    def fit(self, data: Dataset[Sample]) -> None:
        """Fit to a dataset of normalized samples."""


@runtime_checkable
class HasBaseModel(Protocol):
    """A network with a simpler model that is fitted before training."""

    def fit_base(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor], truth: Tensor, there: Tensor | None
    ) -> None:
        """Fit the simpler model to normalized inputs, their masks, the targets and their mask."""


ReadDays = Callable[[Sequence[int]], Iterator[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]]
"""Function of day numbers that yields the normalized inputs and masks of each day, shape (1, ...)."""


@runtime_checkable
class HasReferencePeriod(Protocol):
    """A network that needs the inputs of a whole period before it predicts a day of it."""

    def period(self, ask: ReadDays, days: int) -> AbstractContextManager[None]:
        """Return a context manager in which predictions refer to this period."""


@runtime_checkable
class HasParameterLayers(Protocol):
    """A backbone that sorts its parameters into layers, as those of timm do."""

    def group_matcher(self, coarse: bool = False) -> Any:
        """Return the patterns of the parameter names of each layer."""


@runtime_checkable
class HasNoWeightDecay(Protocol):
    """A backbone with parameters that must not decay, as those of timm have."""

    def no_weight_decay(self) -> Collection[str]:
        """Return the names of these parameters."""


@runtime_checkable
class HasExplainedLayer(Protocol):
    """A module with a preferred layer for class activation maps."""

    @property
    def explained_layer(self) -> str:
        """Name of the layer within the module."""


@runtime_checkable
class HasLayerChannels(Protocol):
    """A module that names the channels of some of its layers."""

    @property
    def layer_channels(self) -> Mapping[str, Sequence[str]]:
        """Names of the channels by the name of the layer within the module."""


@runtime_checkable
class HasLayerMaps(Protocol):
    """A module whose layers give tokens, or channels last, instead of maps."""

    def as_maps(self, values: Tensor) -> Tensor | None:
        """Return the values of a layer, shape (batch, channel, y, x); None if they are no maps."""


@runtime_checkable
class HasViews(Protocol):
    """A module that runs on several mirrored copies of an image in one batch."""

    @property
    def views(self) -> tuple[tuple[int, ...], ...]:
        """Axes along which each copy is mirrored."""
