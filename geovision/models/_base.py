"""Forward pass, validation and loss of a model; prediction and saving are in `geovision.models.geomodel`."""

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
    """What `GeoModel.forward` gives for a mapping of inputs.

    Attributes:
        values: Logits ``(batch, class)``, or a mask or field ``(batch, channel, y, x)``.
        valid: Where the values mean something; None: everywhere.
    """

    values: Tensor
    valid: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What a caller chose beyond the registry entry. Stored with the weights.

    Args:
        classes: Classes other than the task's own, in the order of the logits.
        scalars: Names of the measurements taken beside the first input, among the task's.
        size: (height, width) of the first input, and of others on its grid.
        drop_rate: Dropout probability before the last layer, 0 to 1.
        model_args: Options of the builder that replace the registry's.
        mean, std: Statistics of the first input that the backbone was trained with.
        pixel_size: Metres of a cell of the first input; `size` changes along unless it is given.
        db_range: Channel to the decibels of its lowest and its highest count, where the counts that the
            model is trained on were made of decibels that are known.
        predictors: Names of the channels taken beside those of the first input, among the task's.
        grids: Those that a model of fields takes and answers on; None: it is bound to none.
        head: Name of one of the task's heads; empty: the entry's.
        head_args: Of the head, in place of the entry's.
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
    """Normalization, network and head of a model: forward pass, validation and loss.

    Attributes:
        spec: Registry entry.
        task: Task of the entry.
        config: Options beyond the entry.
        inputs: Input specifications, with the statistics and size of this model.
        target: Target; for classes, their order is the order of the logits.
        training_record: Dataset, recipe and figures of the training; empty before it.
        card: Text of the card that came with the weights. Default: empty.
        weight: Entry of the weights in the registry. Default: None.
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
        """Logits, mask or field of a batch in physical units. Nothing is checked here: see `check`.

        Args:
            inputs: Each input by name, ``(batch, *layout)`` float; or the first input alone.
            valid: By input, which values are there, of the input's shape; absent: all.
            context: Where and when, for the models that need it.

        Returns:
            An `Output` for a mapping; the bare values for a bare tensor.
        """
        bare = isinstance(inputs, Tensor)
        mapping = {self.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
        values = self.head(self._features(mapping, valid, context))
        return values if bare else Output(values, self.valid_mask(mapping, valid, values))

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, values: Tensor
    ) -> Tensor | None:
        """Return the cells with a valid prediction, bool, broadcastable to `values`; None: all cells.

        Network and head restrict them by `HasValidMask`.
        """
        return combined_valid_mask((self.network, self.head), inputs, valid, values)

    def loss(self, values: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """What training makes small: the head's own loss, or the task's.

        Args:
            values: Of `forward`.
            target: As in `geovision.datasets.base.Sample`, with a batch axis.
            valid: Which targets count, of their shape; None: all.
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
        """What the head sees: ``(batch, feature)``, or feature maps, of a batch in physical units."""
        mapping = {self.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
        return self._features(mapping, valid, context)

    def validate_inputs(
        self, inputs: Mapping[str, Tensor] | Tensor, *, valid: Mapping[str, Tensor] | None = None
    ) -> None:
        """Raise if a batch is not what the model takes.

        Raises:
            InputError: A missing or unknown input, wrong axes, channels, units or range.
        """
        mapping = {self.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
        known = {spec.name: spec for spec in self.inputs}
        unknown = set(mapping) - set(known)
        if unknown:
            raise InputError(f"{self.spec.name} has no input {sorted(unknown)}; it takes {list(known)}")
        for name, spec in known.items():
            if name not in mapping:
                if spec.optional:
                    continue
                raise InputError(f"{self.spec.name} needs input {name!r}; got {sorted(mapping)}")
            if mapping[name].ndim != len(spec.layout.split()) + 1:
                raise InputError(
                    f"a batch of {name!r} has axes (batch {spec.layout}), got shape "
                    f"{tuple(mapping[name].shape)}"
                )
            for index, sample in enumerate(mapping[name]):
                present = valid[name][index] if valid and name in valid else None
                check_sample(sample, spec, where=f"sample {index}", valid=present)

    def probe_inputs(self, *, count: int, small: bool = False) -> dict[str, Tensor] | None:
        """Return random inputs in physical units; None if the sizes of the inputs are open.

        Args:
            count: Number of samples.
            small: Shrink inputs to at most 96 cells if the network takes any size.
        """
        return probe_inputs(self, count=count, small=small)

    def typical_inputs(self, count: int, *, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return generated samples of the task in physical units, and their masks.

        Args:
            count: Number of samples.
            seed: Seed of the generator.
        """
        return synthetic_inputs(self, count, seed=seed)

    @property
    def recipe(self) -> Recipe:
        """Default recipe of this model."""
        return self.spec.recipe or self.task.recipe

    def num_parameters(self) -> int:
        """Trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def extra_repr(self) -> str:
        return f"{self.spec.name}, {self.num_parameters():,} parameters"
