"""One sample, and the one number of a model's answer that is explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from geovision.errors import OptionError, nearest
from geovision.models.geomodel import GeoModel
from geovision.models.preprocess import physical
from geovision.models.sources import Loaded
from geovision.spec import ClassTarget, InputSpec, MaskTarget

__all__ = ["Question", "answering", "baseline", "check_target"]


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
        raise OptionError(f"{model.spec.name} has no class {target!r};{meant} there are {', '.join(classes)}")


def baseline(spec: InputSpec, like: Tensor) -> Tensor:
    """What stands where an input is taken away: 0 in its unit; for measurements beside a picture their
    mean, as which a missing one enters."""
    if spec.layout != "channel":
        return torch.zeros_like(like)
    return like.new_tensor([channel.mean for channel in spec.channels]).expand_as(like)


@contextmanager
def answering(model: GeoModel) -> Iterator[None]:
    """Within it the model answers as in `predict`; behind it every part is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Question:
    """Why this class, for this sample?

    Of a map as an answer, the mean over its cells is explained.

    Args:
        model: In evaluation mode: see `answering`.
        loaded: The sample.
        target: The class; None: the one that the task looks for, or else the likeliest.

    Attributes:
        specs: Of the inputs that the sample has.
        tensors: These inputs in physical units, ``(1, *layout)`` each.
        baselines: Of the same shapes; see `baseline`.
        label: The class, or the name of the map.
        logit: The number that is explained.
        probability: Calibrated, of the class; None where the answer is no class.
    """

    def __init__(self, model: GeoModel, loaded: Loaded, target: str | None) -> None:
        like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        self.model = model
        self.specs = tuple(spec for spec in model.inputs if spec.name in loaded.inputs)
        self.tensors = tuple(
            physical(loaded.inputs[spec.name], spec).to(like.device, like.dtype)[None] for spec in self.specs
        )
        self.valid = {name: mask.to(like.device)[None] for name, mask in loaded.valid.items()}
        self.baselines = tuple(
            baseline(spec, tensor) for spec, tensor in zip(self.specs, self.tensors, strict=True)
        )
        with torch.no_grad():
            values = self._values(self.tensors)
        self.index = self._index(values, target)
        self.label = self._label()
        self.logit = float(self._score(values))
        self.probability = self._probability(values)

    @property
    def difference(self) -> float:
        """The logit less that of the baselines."""
        with torch.no_grad():
            return self.logit - float(self.score(*self.baselines))

    def score(self, *tensors: Tensor) -> Tensor:
        """The number that is explained, ``(batch,)``, of changed inputs in the order of `specs`."""
        return self._score(self._values(tensors))

    @contextmanager
    def differentiable(self) -> Iterator[tuple[Tensor, ...]]:
        """The inputs with a gradient, where gradients are computed."""
        with torch.enable_grad():
            yield tuple(tensor.detach().clone().requires_grad_() for tensor in self.tensors)

    def _values(self, tensors: tuple[Tensor, ...]) -> Tensor:
        count = len(tensors[0])
        inputs = {spec.name: tensor for spec, tensor in zip(self.specs, tensors, strict=True)}
        valid = {name: mask.expand(count, *mask.shape[1:]) for name, mask in self.valid.items()}
        return self.model(inputs, valid=valid or None).values

    def _score(self, values: Tensor) -> Tensor:
        return values.flatten(1).mean(1) if self.index is None else values[:, self.index]

    def _index(self, values: Tensor, target: str | None) -> int | None:
        asked: Any = self.model.target
        if not isinstance(asked, ClassTarget):
            return None
        wanted = target or asked.positive
        return asked.classes.index(wanted) if wanted else int(values[0].argmax())

    def _label(self) -> str:
        asked: Any = self.model.target
        if self.index is not None:
            return asked.classes[self.index]
        return asked.name if isinstance(asked, MaskTarget) else asked.channel.name

    def _probability(self, values: Tensor) -> float | None:
        head: Any = self.model.head
        return None if self.index is None else float(head.probabilities(values)[0, self.index])
