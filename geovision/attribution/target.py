"""One sample, and the score of a model's prediction that is explained."""

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
    """Raise an error if a model has no such class.

    Args:
        model: Model whose prediction is explained.
        target: Name of the class, or None.

    Raises:
        OptionError: The model predicts no class of this name. The message lists the available classes.
    """
    if target is None:
        return
    if not isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} predicts a map, which has no class {target!r}; omit the target")
    classes = model.target.classes
    if target not in classes:
        near = nearest(target, classes)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise OptionError(
            f"{model.spec.name} has no class {target!r}.{meant} Available: {', '.join(classes)}"
        )


def baseline_input(spec: InputSpec, reference: Tensor) -> Tensor:
    """Return the values that replace an input when it is removed.

    Each channel has its own `Channel.baseline`; without one, 0 if the quantity can be 0, or else its mean.
    For scalar measurements next to an image it is the mean, which also replaces missing measurements.

    Args:
        spec: Specification of the input.
        reference: Batch of the input, shape (1, *layout), in physical units.

    Returns:
        Baseline in the shape of `reference`, in physical units.
    """
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
    """Counterclockwise quarter turns, followed by an optional left-right mirroring.

    Attributes:
        quarter_turns: Number of quarter turns, 0 to 3.
        mirrored: Whether the turned values are mirrored.
    """

    quarter_turns: int
    mirrored: bool

    def apply(self, values: Tensor) -> Tensor:
        """Return values in this orientation.

        Args:
            values: Values, shape (..., y, x).

        Returns:
            The turned and mirrored values.
        """
        turned = values.rot90(self.quarter_turns, (-2, -1)) if self.quarter_turns else values
        return turned.flip(-1) if self.mirrored else turned

    def invert(self, values: Tensor) -> Tensor:
        """Return values from this orientation to the original one.

        Args:
            values: Values in this orientation, shape (..., y, x).

        Returns:
            The values in their original orientation.
        """
        straight = values.flip(-1) if self.mirrored else values
        return straight.rot90(-self.quarter_turns, (-2, -1)) if self.quarter_turns else straight


ORIENTATIONS = (
    Orientation(0, False),
    Orientation(0, True),
    *(Orientation(quarters, mirrored) for quarters in (1, 2, 3) for mirrored in (False, True)),
)


def is_spatial(spec: InputSpec) -> bool:
    """Return whether the axes of an input end in y, x.

    Args:
        spec: Specification of the input.

    Returns:
        True for an input on a grid, False for scalar measurements.
    """
    return spec.layout.split()[-2:] == ["y", "x"]


@contextmanager
def eval_mode(model: GeoModel) -> Iterator[None]:
    """Set a model to evaluation mode inside a context.

    On exit each module returns to its former mode.

    Args:
        model: Model to set.

    Yields:
        None.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class AttributionTarget:
    """One sample, and the score of one class for it.

    If the prediction is a map, the score is the mean over its valid cells: of the logit of a mask, or of a
    field in its unit.

    Args:
        model: Model in evaluation mode; see `eval_mode`.
        sample: Sample to explain.
        target: Name of the class. None: the positive class of the task, or else the most probable class.
        orientations: Number of orientations over which the logit is averaged; see `AttributionConfig`.
            Default: 1.

    Attributes:
        specs: Specifications of the inputs that the sample contains.
        tensors: These inputs in physical units, shape (1, *layout) each.
        baselines: Baselines of these inputs, of the same shapes; see `baseline_input`.
        valid: Masks of valid values by input name, for inputs that have one.
        label: Name of the class or of the map.
        logit: Logit of the class for the unchanged sample; for a map, the mean that is explained.
        probability: Calibrated probability of the class; None if the prediction is not a class.
        orientations: Orientations in which the model receives the sample.

    Raises:
        OptionError: Quarter turns are required of an input that is not square.
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
        # Missing values may be arbitrary numbers. At the baseline they contribute 0.
        self.tensors = tuple(
            torch.where(self.valid[spec.name].expand_as(each), each, baseline)
            if spec.name in self.valid
            else each
            for spec, each, baseline in zip(self.specs, given, self.baselines, strict=True)
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
        """Return the same target for another model.

        Args:
            model: Model that replaces the current one.

        Returns:
            A shallow copy of the target.
        """
        other = copy.copy(self)
        other.model = model
        return other

    @property
    def score_difference(self) -> float:
        """Score of the sample minus score of the baselines."""
        with torch.no_grad():
            return float(self.score(*self.tensors)) - float(self.score(*self.baselines))

    def score(self, *tensors: Tensor) -> Tensor:
        """Return the score of changed inputs.

        All orientations of all samples are one batch, one orientation after the other.

        Args:
            *tensors: Changed inputs in the order of `specs`, shape (batch, *layout) each.

        Returns:
            The scores, shape (batch,).
        """
        scores = self.score_output(self._forward(tensors))
        return scores.view(len(self.orientations), -1).mean(0)

    @contextmanager
    def inputs_with_grad(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield copies of the inputs that require gradients, with gradients enabled."""
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
        """Return a batch in all orientations, one after the other.

        Scalars are repeated unchanged.
        """
        spatial = is_spatial(spec)
        return torch.cat([each.apply(values) if spatial else values for each in self.orientations])

    def _check_square(self) -> None:
        for spec, tensor in zip(self.specs, self.tensors, strict=True):
            height, width = tensor.shape[-2:] if is_spatial(spec) else (0, 0)
            if any(each.quarter_turns for each in self.orientations) and height != width:
                raise OptionError(
                    f"orientations={len(self.orientations)} rotates input {spec.name!r} by quarter turns, "
                    f"but it is not square ({height} x {width}); choose 1 or 2"
                )

    def score_output(self, output: Output) -> Tensor:
        """Return the score of a model output.

        Args:
            output: Output of the model.

        Returns:
            The scores, shape (batch,).
        """
        if self.class_index is not None:
            return output.values[:, self.class_index]
        head: Any = self.model.head
        is_field = isinstance(self.model.target, FieldTarget)
        values = head.estimate(output.values) if is_field else output.values
        if output.valid is None:
            return values.flatten(1).mean(1)
        valid = output.valid.expand_as(values)
        return torch.where(valid, values, 0).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)

    def _resolve_class_index(self, values: Tensor, target: str | None) -> int | None:
        spec: Any = self.model.target
        if not isinstance(spec, ClassTarget):
            return None
        name = target or spec.positive
        return spec.classes.index(name) if name else int(values[0].argmax())

    def _resolve_label(self) -> str:
        spec: Any = self.model.target
        if self.class_index is not None:
            return spec.classes[self.class_index]
        return spec.name if isinstance(spec, MaskTarget) else spec.channel.name

    def _probability(self, values: Tensor) -> float | None:
        head: Any = self.model.head
        return None if self.class_index is None else float(head.probabilities(values)[0, self.class_index])
