"""Forward pass, validation and loss of a model.

Prediction and saving are in `geovision.models.geomodel`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, overload

from torch import Tensor, nn

from geovision.errors import InputError
from geovision.heads.dense import combined_valid_mask
from geovision.heads.protocols import HasLoss
from geovision.models.example_inputs import probe_inputs, synthetic_inputs
from geovision.models.layers.normalization import Normalize, check_sample
from geovision.spec import (
    GridPair,
    InputSpec,
    ModelSpec,
    Recipe,
    SampleContext,
    Target,
    Task,
    WeightSpec,
    resolve,
)

__all__ = ["BaseModel", "ModelConfig", "Output"]


class Output(NamedTuple):
    """Output of `GeoModel.forward` for a mapping of inputs.

    Attributes:
        values: Logits, shape (batch, class), or a mask or field, shape (batch, channel, y, x).
        valid: Cells with a valid prediction, bool. None: all cells.
    """

    values: Tensor
    valid: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Options of a model beyond its registry entry, stored with the weights.

    Args:
        classes: Class names that replace those of the task, in the order of the logits. Default: the
            task's classes.
        scalars: Names of the task's scalar measurements that the model takes in addition to the first
            input. Default: none.
        size: Height and width of the first input, and of other inputs on the same grid, in cells.
            Default: the registry's.
        drop_rate: Dropout probability before the last layer, 0 to 1. Default: 0.
        model_args: Options of the builder that replace those of the registry entry.
        mean: Mean per channel of the first input, as used for pre-training. Default: the registry's.
        std: Standard deviation per channel of the first input, as used for pre-training. Default: the
            registry's.
        pixel_size: Width of a cell of the first input, in m. It changes `size` accordingly, unless `size`
            is given. Default: the registry's.
        db_range: Values in dB of the lowest and the highest count, by channel name. It is set if the
            training counts encode a known range of decibels. Default: unknown.
        predictors: Names of the task's predictor channels that are appended to those of the first input.
            Default: none.
        grids: Input grid and output grid of a model of fields. Default: the model is not bound to a grid.
        head: Name of one of the task's heads. Default: the head of the registry entry.
        head_args: Options of the head that replace those of the registry entry.
    """

    classes: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    drop_rate: float = 0.0
    model_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pixel_size: float | None = None
    db_range: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    predictors: tuple[str, ...] = ()
    grids: GridPair | None = None
    head: str = ""
    head_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class BaseModel(nn.Module):
    """Normalization, network and head of a model.

    All parameters except `options` are attributes of the same name.

    Args:
        spec: Registry entry.
        task: Task of the entry.
        options: Options beyond the entry.
        inputs: Input specifications, with the statistics and size of this model.
        target: Target of the model. The order of its classes is the order of the logits.
        network: Network, called as ``network(inputs, valid=, context=)``.
        head: Head that maps the features of the network to logits, a mask or a field.

    Attributes:
        config: Options beyond the registry entry.
        training_record: Dataset, recipe and results of the training. Empty before the training.
        card: Text of the model card that was loaded with the weights. Default: empty.
        weight: Registry entry of the weights. Default: None.
        normalize: Normalization of the inputs.
    """

    def __init__(
        self,
        spec: ModelSpec,
        task: Task,
        options: ModelConfig,
        inputs: tuple[InputSpec, ...],
        target: Target,
        network: nn.Module,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.spec, self.task, self.config = spec, task, options
        self.inputs, self.target = inputs, target
        self.training_record: dict[str, Any] = {}
        self.card = ""
        self.weight: WeightSpec | None = None
        self.normalize = Normalize(inputs)
        self.network = network
        self.head = head

    @overload
    def forward(
        self, inputs: Tensor, *, valid: Mapping[str, Tensor] | None = ..., context: SampleContext | None = ...
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = ...,
        context: SampleContext | None = ...,
    ) -> Output: ...

    def forward(
        self,
        inputs: Mapping[str, Tensor] | Tensor,
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Output | Tensor:
        """Compute logits, a mask or a field from inputs in physical units.

        The inputs are not validated here; `validate_inputs` does this.

        Args:
            inputs: Inputs by name, float, each of shape ``(batch, *layout)``; or the first input as a tensor.
            valid: Valid values by input name, bool, in the shape of the input. Default: all values.
            context: Location and time of the samples, for models that need them. Default: None.

        Returns:
            An `Output` if `inputs` is a mapping, otherwise the values as a tensor.
        """
        bare = isinstance(inputs, Tensor)
        mapping = {self.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
        values = self.head(self._features(mapping, valid, context))
        return values if bare else Output(values, self.valid_mask(mapping, valid, values))

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, values: Tensor
    ) -> Tensor | None:
        """Return the cells with a valid prediction.

        Network and head restrict the cells by their `HasValidMask` hooks.

        Args:
            inputs: Inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name. None: all values.
            values: Output of the head.

        Returns:
            Valid cells, bool, broadcastable to `values`. None: all cells.
        """
        return combined_valid_mask((self.network, self.head), inputs, valid, values)

    def loss(self, values: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the training loss.

        It is defined by the head, or else by the task.

        Args:
            values: Output of `forward`.
            target: Target of `geovision.datasets.base.Sample`, with a batch axis.
            valid: Valid targets, bool, in the shape of the target. Default: all targets.

        Returns:
            Mean loss, a scalar.
        """
        if isinstance(self.head, HasLoss):
            return self.head.loss(values, target, valid)
        return resolve(self.task.loss)(values, target, valid)

    def _features(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, context: SampleContext | None
    ) -> Tensor:
        return self.network(self.normalize(inputs, valid), valid=valid, context=context)

    def features(
        self,
        inputs: Mapping[str, Tensor] | Tensor,
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the input of the head from inputs in physical units.

        Args:
            inputs: Inputs by name, float, each of shape ``(batch, *layout)``; or the first input as a tensor.
            valid: Valid values by input name, bool, in the shape of the input. Default: all values.
            context: Location and time of the samples, for models that need them. Default: None.

        Returns:
            Features, shape (batch, feature), or feature maps, shape (batch, feature, y, x).
        """
        mapping = {self.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
        return self._features(mapping, valid, context)

    def validate_inputs(
        self, inputs: Mapping[str, Tensor] | Tensor, *, valid: Mapping[str, Tensor] | None = None
    ) -> None:
        """Raise an error if a batch does not match the input specifications.

        Args:
            inputs: Inputs by name, each of shape ``(batch, *layout)``; or the first input as a tensor.
            valid: Valid values by input name, bool. Invalid values are not validated. Default: all values.

        Raises:
            InputError: An input is missing or unknown, or its axes, channels, units or range are wrong.
        """
        mapping = {self.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
        known = {spec.name: spec for spec in self.inputs}
        unknown = set(mapping) - set(known)
        if unknown:
            raise InputError(f"{self.spec.name} has no input {sorted(unknown)}; its inputs are {list(known)}")
        for name, spec in known.items():
            if name not in mapping:
                if spec.optional:
                    continue
                raise InputError(f"{self.spec.name} needs input {name!r}; got {sorted(mapping)}")
            if mapping[name].ndim != len(spec.layout.split()) + 1:
                raise InputError(
                    f"a batch of {name!r} has axes (batch {spec.layout}), "
                    f"got shape {tuple(mapping[name].shape)}"
                )
            for index, sample in enumerate(mapping[name]):
                present = valid[name][index] if valid and name in valid else None
                check_sample(sample, spec, where=f"sample {index}", valid=present)

    def probe_inputs(self, *, count: int, small: bool = False) -> dict[str, Tensor] | None:
        """Return random inputs in physical units.

        Args:
            count: Number of samples.
            small: Reduce inputs to at most 96 cells per axis if the network accepts any size. Default: False.

        Returns:
            Inputs by name. None if the specifications leave the sizes of the inputs open.
        """
        return probe_inputs(self, count=count, small=small)

    def typical_inputs(self, count: int, *, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return generated samples of the task in physical units, and their masks.

        Args:
            count: Number of samples.
            seed: Seed of the generator. Default: 0.

        Returns:
            Inputs and masks, each by input name.
        """
        return synthetic_inputs(self, count, seed=seed)

    @property
    def recipe(self) -> Recipe:
        """Default recipe of this model."""
        return self.spec.recipe or self.task.recipe

    def num_parameters(self) -> int:
        """Return the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def extra_repr(self) -> str:
        """Return the name and the number of parameters for `repr`."""
        return f"{self.spec.name}, {self.num_parameters():,} parameters"
