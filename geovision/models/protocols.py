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
    """Network with the input statistics of its pre-training.

    Attributes:
        mean: Mean per channel of the first input. Empty: unknown.
        std: Standard deviation per channel of the first input. Empty: unknown.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@runtime_checkable
class HasInputSize(Protocol):
    """Network with an input size of its own.

    Attributes:
        size: Height and width of the first input, in pixels. None: any size.
    """

    size: tuple[int, int] | None


@runtime_checkable
class HasOODFeatures(Protocol):
    """Network that names the features used for out-of-distribution scores.

    Attributes:
        num_features: Number of all features.
        outlier_features: Slice of the features used for the score.
    """

    num_features: int
    outlier_features: slice


@runtime_checkable
class HasFactor(Protocol):
    """Network of fields with a refinement factor.

    Attributes:
        factor: Number of output cells per input cell along each side.
    """

    factor: int


@runtime_checkable
class HasInputStatistics(Protocol):
    """Network that needs statistics of the training inputs before the first step."""

    def fit_statistics(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Compute the statistics from the normalized inputs of all samples.

        Args:
            inputs: Normalized inputs by name, each of shape ``(sample, *layout)``.
            valid: Valid values by input name, bool.
        """


@runtime_checkable
class HasFit(Protocol):
    """Closed-form network, whose complete training is `fit`."""

    def fit(self, data: Dataset[Sample]) -> None:
        """Fit the network to a dataset.

        Args:
            data: Normalized training samples.
        """


@runtime_checkable
class HasBaseModel(Protocol):
    """Network with a simpler model that is fitted before training."""

    def fit_base(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor], truth: Tensor, there: Tensor | None
    ) -> None:
        """Fit the simpler model to all training samples.

        Args:
            inputs: Normalized inputs by name, each of shape ``(sample, *layout)``.
            valid: Valid values by input name, bool.
            truth: Targets, shape (sample, 1, y, x), in the unit of the target.
            there: Valid targets, bool, in the same shape. None: all finite targets.
        """


ReadDays = Callable[[Sequence[int]], Iterator[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]]
"""Function of day numbers that yields the normalized inputs and masks of each day, shape (1, ...)."""


@runtime_checkable
class HasReferencePeriod(Protocol):
    """Network that needs the inputs of a complete period.

    They are required to predict any day of the period.
    """

    def period(self, read_days: ReadDays, days: int) -> AbstractContextManager[None]:
        """Return a context manager in which predictions refer to this period.

        Args:
            read_days: Function that yields the normalized inputs and masks of days.
            days: Number of days in the period.
        """


@runtime_checkable
class HasParameterLayers(Protocol):
    """Backbone that sorts its parameters into layers, as timm's models do."""

    def group_matcher(self, coarse: bool = False) -> Any:
        """Return the patterns of the parameter names of each layer.

        Args:
            coarse: Group the parameters by stage instead of by block. Default: False.
        """


@runtime_checkable
class HasNoWeightDecay(Protocol):
    """Backbone with parameters that are excluded from weight decay, as in timm."""

    def no_weight_decay(self) -> Collection[str]:
        """Return the names of the parameters without weight decay."""


@runtime_checkable
class HasExplainedLayer(Protocol):
    """Module with a preferred layer for class activation maps."""

    @property
    def explained_layer(self) -> str:
        """Name of the layer within the module."""


@runtime_checkable
class HasLayerChannels(Protocol):
    """Module that names the channels of some of its layers."""

    @property
    def layer_channels(self) -> Mapping[str, Sequence[str]]:
        """Names of the channels, by the name of the layer."""


@runtime_checkable
class HasLayerMaps(Protocol):
    """Module whose layers return tokens, or maps with the channels last."""

    def as_maps(self, values: Tensor) -> Tensor | None:
        """Convert the output of a layer to maps.

        Args:
            values: Output of a layer: tokens, or maps with the channels first or last.

        Returns:
            Maps, shape (batch, channel, y, x). None if the output cannot be arranged as maps.
        """


@runtime_checkable
class HasViews(Protocol):
    """Module that processes several mirrored copies of an image in one batch."""

    @property
    def views(self) -> tuple[tuple[int, ...], ...]:
        """Axes along which each copy is mirrored."""
