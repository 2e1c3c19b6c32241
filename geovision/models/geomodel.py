"""The one form of a model: physical units in, network, head, a labelled answer out."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, overload

from torch import Tensor, nn

from geovision.errors import InputError, OptionError
from geovision.heads.ood import FeatureDistance
from geovision.heads.prediction import Prediction
from geovision.models.layers.normalization import Normalize, check
from geovision.models.layers.scalar_fusion import WithScalars, scalar_input
from geovision.spec import (
    ClassTarget,
    Context,
    Grids,
    InputSpec,
    ModelSpec,
    Target,
    Task,
    WeightSpec,
    resolve,
)

__all__ = ["GeoModel", "ModelConfig", "Output", "answered_by", "build_model"]


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
    grids: Grids | None = None
    head: str = ""
    head_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def build_model(spec: ModelSpec, task: Task, options: ModelConfig) -> GeoModel:
    """Build the model that a registry entry and a caller's options describe, freshly initialised.

    Raises:
        OptionError: A size below 1, a measurement, predictor or head that the task does not know, classes
            or grids where there are none, or a pixel size where cells have none.
    """
    if options.size is not None and min(options.size) < 1:
        raise OptionError(f"size {options.size}: expected a height and a width of 1 or more")
    target = _target(task, options.classes)
    inputs = list(spec.inputs or task.inputs)
    if options.predictors:
        inputs[0] = _with_predictors(inputs[0], task, options.predictors)
    _check_limits(options.db_range, inputs[0])
    if options.pixel_size is not None:
        inputs[0] = _at_pixel_size(inputs[0], options.pixel_size, task)
    builder = resolve(spec.builder)
    network = builder(
        dict(spec.model_args) | dict(options.model_args), inputs=tuple(inputs), size=options.size,
        **_placed(task, options.grids),
    )  # fmt: skip
    mean = options.mean or getattr(network, "mean", ())
    std = options.std or getattr(network, "std", ())
    if mean:
        inputs[0] = inputs[0].with_statistics(mean, std)
    size = options.size or getattr(network, "size", None)
    if size:
        inputs = _at_size(inputs, size)
    if options.scalars:
        inputs.append(scalar_input(_channels(task, options.scalars)))
        network = WithScalars(network, len(options.scalars))
    head: Any = _head(spec, task, options)(network.num_features, target, dropout=options.drop_rate)
    if options.grids:
        head.grid = options.grids.target
    if of := getattr(network, "outlier_features", None):
        head.outlier = FeatureDistance(network.num_features, of=of)
    return GeoModel(spec, task, options, tuple(inputs), target, network, head)


def _at_size(inputs: Sequence[InputSpec], size: tuple[int, int]) -> list[InputSpec]:
    """The inputs with this size for the first, and for the others that lie on its grid."""
    grid = (inputs[0].size, inputs[0].pixel_size)
    return [
        each.with_size(size) if each.layout.endswith("y x") and (each.size, each.pixel_size) == grid else each
        for each in inputs
    ]


def _with_predictors(given: InputSpec, task: Task, names: Sequence[str]) -> InputSpec:
    known = {channel.name: channel for channel in task.predictors}
    for name in names:
        if name not in known:
            raise OptionError(
                f"task {task.name!r} has no predictor {name!r}; known: {', '.join(known) or 'none'}"
            )
    return dataclasses.replace(given, channels=(*given.channels, *(known[name] for name in names)))


def _placed(task: Task, grids: Grids | None) -> dict[str, Grids]:
    if grids is None:
        return {}
    if isinstance(task.target, ClassTarget):
        raise OptionError(f"task {task.name!r} answers with classes, which lie on no grid")
    return {"grids": grids}


def _head(spec: ModelSpec, task: Task, options: ModelConfig) -> partial[nn.Module]:
    """The class of the head with its own options."""
    reference = spec.head or task.head
    if options.head:
        if options.head not in task.heads:
            known = ", ".join(task.heads) or "none to choose"
            raise OptionError(f"task {task.name!r} has no head {options.head!r}; known: {known}")
        reference = task.heads[options.head]
    own = {} if options.head else dict(spec.head_args)
    kind = resolve(reference)
    chosen = own | dict(options.head_args)
    taken = inspect.signature(kind).parameters
    if unknown := sorted(set(chosen) - set(taken)):
        raise OptionError(f"{kind.__name__} has no option {unknown[0]!r}; it has {', '.join(taken)}")
    return partial(kind, **chosen)


def _at_pixel_size(given: InputSpec, pixel_size: float, task: Task) -> InputSpec:
    if given.pixel_size is None:
        raise OptionError(f"task {task.name!r} has no pixel size: its pictures have none on the ground")
    if not pixel_size > 0:
        raise OptionError(f"pixel_size={pixel_size}: expected metres, above 0")
    return given.with_pixel_size(pixel_size)


def _check_limits(limits: Mapping[str, tuple[float, float]], given: InputSpec) -> None:
    names = [channel.name for channel in given.channels if channel.unit == "scaled_1"]
    if limits and set(limits) != set(names):
        raise OptionError(
            f"limits in decibels are told for {', '.join(limits)}; input {given.name!r} has counts of "
            f"{', '.join(names) or 'no such scale'}"
        )
    for name, (low, high) in limits.items():
        if not low < high:
            raise OptionError(f"limits of {name} from {low} to {high} dB are empty")


def _target(task: Task, classes: tuple[str, ...]) -> Target:
    if not classes:
        return task.target
    if not isinstance(task.target, ClassTarget):
        raise OptionError(f"task {task.name!r} has no classes to choose")
    own = task.target
    if set(classes) <= set(own.classes) and own.cards:
        cards = tuple(c for code in classes if (c := own.card(code)))
        positive = own.positive if own.positive in classes else ""
        return ClassTarget(classes, cards, outlier_flag=own.outlier_flag, positive=positive)
    return ClassTarget(classes, outlier_flag=own.outlier_flag)


def _channels(task: Task, names: Sequence[str]) -> tuple:
    known = {channel.name: channel for channel in task.scalars}
    for name in names:
        if name not in known:
            raise OptionError(
                f"task {task.name!r} has no measurement {name!r}; known: {', '.join(known) or 'none'}"
            )
    return tuple(known[name] for name in names)


class GeoModel(nn.Module):
    """A model that takes physical data in and gives a meteorological answer out.

    Not built by hand: `geovision.create` and `geovision.load` do. The chain is ``normalise`` →
    ``network`` → ``head`` → `predict`'s decoding.

    Attributes:
        spec: The registry entry.
        task: What it answers.
        inputs: What it takes, with the statistics and size of this very model.
        target: What comes out: for classes, their order is that of the logits.
        training_record: How it came to its weights: data set, recipe, figures; empty at first.
        card: The text that came with its weights; empty where they are its own.
        weight: The registry's entry of its weights; None where they have none.
    """

    def __init__(
        self, spec: ModelSpec, task: Task, options: ModelConfig, inputs: tuple[InputSpec, ...],
        target: Target, network: nn.Module, head: nn.Module,
    ) -> None:  # fmt: skip
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
        self, inputs: Tensor, *, valid: Mapping[str, Tensor] | None = ..., context: Context | None = ...
    ) -> Tensor: ...

    @overload
    def forward(
        self, inputs: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = ...,
        context: Context | None = ...,
    ) -> Output: ...  # fmt: skip

    def forward(
        self, inputs: Mapping[str, Tensor] | Tensor, *, valid: Mapping[str, Tensor] | None = None,
        context: Context | None = None,
    ) -> Output | Tensor:  # fmt: skip
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
        """Where the answer to a batch means something, of bool and broadcastable to `values`; None:
        everywhere. Network and head say so, if they say anything (``answered(inputs, valid, shape)``)."""
        return answered_by((self.network, self.head), inputs, valid, values)

    def loss(self, values: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """What training makes small: the head's own loss, or the task's.

        Args:
            values: Of `forward`.
            target: As in `geovision.datasets.base.Sample`, with a batch axis.
            valid: Which targets count, of their shape; None: all.
        """
        own: Any = getattr(self.head, "loss", None)
        return own(values, target, valid) if own else resolve(self.task.loss)(values, target, valid)

    def _features(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, context: Context | None
    ) -> Tensor:
        return self.network(self.normalize(inputs, valid), valid=valid, context=context)

    def features(
        self, inputs: Mapping[str, Tensor] | Tensor, *, valid: Mapping[str, Tensor] | None = None,
        context: Context | None = None,
    ) -> Tensor:  # fmt: skip
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
                check(sample, spec, where=f"sample {index}", valid=present)

    def predict(
        self, inputs: Any, *, batch_size: int = 32, precision: str = "auto", skip_errors: bool = False,
    ) -> list[Prediction]:  # fmt: skip
        """Labelled answers for files, arrays or tensors, in their order.

        Args:
            inputs: A path (file, folder or glob), an array or tensor (one sample or a batch), a
                Pillow image, a mapping from input names to these, or a list of any of them.
            batch_size: Samples a forward pass.
            precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 for classes, where the
                processor computes in it and the scores survive it (tried on generated pictures);
                float32 for everything else. ``"int8"``: convolutions in 8-bit integers, for classes of
                pictures on a processor that has instructions for it. It is faster and changes some answers.
            skip_errors: An input that cannot be read gives a `Prediction` flagged ``unreadable``
                in its place instead of an error.

        Raises:
            InputError: Wrong unit, range, shape; `UnreadableFileError`: a file that cannot be read.
            OptionError: A precision that is not known, or for which the model or the processor is not made.
        """
        from geovision.models._predict import predict

        return predict(self, inputs, batch_size=batch_size, precision=precision, skip_errors=skip_errors)

    def save(self, folder: str | Path, *, half: bool = False, card: str = "") -> Path:
        """Write ``model.safetensors``, ``config.json`` and ``README.md``, whole or not at all.

        Args:
            folder: Created where it is missing; a model in it is replaced.
            half: Store parameters in half precision, at half the size.
            card: Text of the card's body; written from the registry and the training record where
                empty.

        Raises:
            StorageError: It could not be written; what stood in `folder` is untouched.
        """
        from geovision.models.serialization import write

        return write(self, Path(folder), half=half, card=card)

    @property
    def recipe(self):
        """How this model is trained unless told otherwise."""
        return self.spec.recipe or self.task.recipe

    def num_parameters(self) -> int:
        """Trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def extra_repr(self) -> str:
        return f"{self.spec.name}, {self.num_parameters():,} parameters"


def answered_by(
    parts: Sequence[nn.Module], inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None,
    values: Tensor,
) -> Tensor | None:  # fmt: skip
    """Where all of these modules, as far as they say anything, have an answer; None: everywhere."""
    found: Tensor | None = None
    for part in parts:
        told: Any = getattr(part, "valid_mask", None)
        where = told(inputs, valid, values.shape) if told else None
        if where is not None:
            found = where if found is None else found & where
    return found
