"""One sample, and the one number of a model's answer that is explained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geovision.errors import OptionError, nearest
from geovision.models.geomodel import GeoModel, Output
from geovision.models.input_items import InputSample
from geovision.models.layers.normalization import to_physical
from geovision.spec import Channel, ClassTarget, FieldTarget, InputSpec, MaskTarget

__all__ = [
    "ORIENTATIONS",
    "AttributionTarget",
    "Orientation",
    "baseline_input",
    "check_target",
    "eval_mode",
    "is_spatial",
]


def check_target(model: GeoModel, target: str | None) -> None:
    """Raise if a model has no such class.

    Raises:
        OptionError: With the classes that there are.
    """
    if target is None:
        return
    if not isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} answers with a map, which has no class {target!r} to explain")
    classes = model.target.classes
    if target not in classes:
        near = nearest(target, classes)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"{model.spec.name} has no class {target!r}.{meant} There are {', '.join(classes)}")


def baseline_input(spec: InputSpec, reference: Tensor) -> Tensor:
    """What stands where an input is taken away, of its shape ``(1, *layout)``: of each channel its own
    `Channel.baseline`, or 0 where the quantity can be 0, or else its mean. For measurements beside a picture
    always their mean, as which a missing one enters."""
    values = [_baseline_value(channel, of_mean=spec.layout == "channel") for channel in spec.channels]
    shape = [-1 if axis == "channel" else 1 for axis in spec.layout.split()]
    return reference.new_tensor(values).view(shape).expand_as(reference)


def _baseline_value(channel: Channel, *, of_mean: bool) -> float:
    if channel.baseline is not None:
        return channel.baseline
    low, high = channel.valid_range
    return channel.mean if of_mean or not low <= 0 <= high else 0.0


@dataclass(frozen=True)
class Orientation:
    """Quarter turns anticlockwise, and then mirrored left-right or not."""

    quarter_turns: int
    mirrored: bool

    def apply(self, values: Tensor) -> Tensor:
        """Values ``(..., y, x)`` in this orientation."""
        turned = values.rot90(self.quarter_turns, (-2, -1)) if self.quarter_turns else values
        return turned.flip(-1) if self.mirrored else turned

    def invert(self, values: Tensor) -> Tensor:
        """What was turned so, as it was."""
        straight = values.flip(-1) if self.mirrored else values
        return straight.rot90(-self.quarter_turns, (-2, -1)) if self.quarter_turns else straight


ORIENTATIONS = (
    Orientation(0, False),
    Orientation(0, True),
    *(Orientation(quarters, mirrored) for quarters in (1, 2, 3) for mirrored in (False, True)),
)


def is_spatial(spec: InputSpec) -> bool:
    """Whether an input lies on a grid: its axes end in y, x."""
    return spec.layout.split()[-2:] == ["y", "x"]


@contextmanager
def eval_mode(model: GeoModel) -> Iterator[None]:
    """Within it the model answers as in `predict`; behind it every part is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class AttributionTarget:
    """Why this class, for this sample?

    Of a map as an answer, the mean over its cells is explained, of those that mean something: of the logit
    of a mask, of a field in its unit.

    Args:
        model: In evaluation mode: see `eval_mode`.
        sample: The sample.
        target: The class; None: the one that the task looks for, or else the likeliest.
        orientations: As in `Settings`. What is explained is the mean of the logit over all of them.

    Attributes:
        specs: Of the inputs that the sample has.
        tensors: These inputs in physical units, ``(1, *layout)`` each.
        baselines: Of the same shapes; see `baseline`.
        label: The class, or the name of the map.
        logit: Of the class, for the sample as it is; of a map the mean that is explained.
        probability: Calibrated, of the class; None where the answer is no class.
        orientations: How the sample is turned each time it is asked about.

    Raises:
        OptionError: Quarter turns of an input that is not square.
    """

    def __init__(
        self, model: GeoModel, sample: InputSample, target: str | None, *, orientations: int = 1
    ) -> None:
        like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        self.model = model
        self.specs = tuple(spec for spec in model.inputs if spec.name in sample.inputs)
        given = tuple(
            to_physical(sample.inputs[s.name], s).to(like.device, like.dtype)[None] for s in self.specs
        )
        self.valid = {name: mask.to(like.device)[None] for name, mask in sample.valid.items()}
        self.baselines = tuple(
            baseline_input(spec, each) for spec, each in zip(self.specs, given, strict=True)
        )
        # What is missing may hold anything, and contributes nothing.
        self.tensors = tuple(
            torch.where(self.valid[spec.name].expand_as(each), each, nothing)
            if spec.name in self.valid
            else each
            for spec, each, nothing in zip(self.specs, given, self.baselines, strict=True)
        )
        self.orientations = ORIENTATIONS[:1]
        with torch.no_grad():
            output = self._forward(self.tensors)
        self.orientations = ORIENTATIONS[:orientations]
        self._check_square()
        self.class_index = self._resolve_class_index(output.values, target)
        self.label = self._resolve_label()
        self.logit = float(self.score_output(output))
        self.probability = self._probability(output.values)

    def with_model(self, model: GeoModel) -> AttributionTarget:
        """The same question of another model."""
        other = copy.copy(self)
        other.model = model
        return other

    @property
    def score_difference(self) -> float:
        """What is explained, less the same of the baselines."""
        with torch.no_grad():
            return float(self.score(*self.tensors)) - float(self.score(*self.baselines))

    def score(self, *tensors: Tensor) -> Tensor:
        """The number that is explained, ``(batch,)``, of changed inputs in the order of `specs`.

        All orientations of all samples pass in one batch, one orientation after the other.
        """
        scores = self.score_output(self._forward(tensors))
        return scores.view(len(self.orientations), -1).mean(0)

    @contextmanager
    def inputs_with_grad(self) -> Iterator[tuple[Tensor, ...]]:
        """The inputs with a gradient, where gradients are computed."""
        with torch.enable_grad():
            yield tuple(tensor.detach().clone().requires_grad_() for tensor in self.tensors)

    def _forward(self, tensors: tuple[Tensor, ...]) -> Output:
        inputs = {s.name: self._orient(s, tensor) for s, tensor in zip(self.specs, tensors, strict=True)}
        valid = {
            spec.name: self._orient(spec, self.valid[spec.name].expand_as(tensor))
            for spec, tensor in zip(self.specs, tensors, strict=True)
            if spec.name in self.valid
        }
        return self.model(inputs, valid=valid or None)

    def _orient(self, spec: InputSpec, values: Tensor) -> Tensor:
        """A batch in all orientations, one after the other; measurements know none."""
        is_picture = is_spatial(spec)
        return torch.cat([each.apply(values) if is_picture else values for each in self.orientations])

    def _check_square(self) -> None:
        for spec, tensor in zip(self.specs, self.tensors, strict=True):
            height, width = tensor.shape[-2:] if is_spatial(spec) else (0, 0)
            if any(each.quarter_turns for each in self.orientations) and height != width:
                raise OptionError(
                    f"orientations={len(self.orientations)} turns input {spec.name!r} by quarters, and it is "
                    f"not square ({height} x {width}); take 1 or 2"
                )

    def score_output(self, output: Output) -> Tensor:
        """The number that is explained, ``(batch,)``, of an answer."""
        if self.class_index is not None:
            return output.values[:, self.class_index]
        head: Any = self.model.head
        is_field = isinstance(self.model.target, FieldTarget)
        values = head.estimate(output.values) if is_field else output.values
        if output.valid is None:
            return values.flatten(1).mean(1)
        there = output.valid.expand_as(values)
        return torch.where(there, values, 0).flatten(1).sum(1) / there.flatten(1).sum(1).clamp_min(1)

    def _resolve_class_index(self, values: Tensor, target: str | None) -> int | None:
        asked: Any = self.model.target
        if not isinstance(asked, ClassTarget):
            return None
        wanted = target or asked.positive
        return asked.classes.index(wanted) if wanted else int(values[0].argmax())

    def _resolve_label(self) -> str:
        asked: Any = self.model.target
        if self.class_index is not None:
            return asked.classes[self.class_index]
        return asked.name if isinstance(asked, MaskTarget) else asked.channel.name

    def _probability(self, values: Tensor) -> float | None:
        head: Any = self.model.head
        return None if self.class_index is None else float(head.probabilities(values)[0, self.class_index])
