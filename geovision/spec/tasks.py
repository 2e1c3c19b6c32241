"""A task, its models and weights, and what is stated of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geovision.errors import ExportError
from geovision.spec.inputs import Channel, InputSpec
from geovision.spec.recipes import OUR_CHOICE, EvidenceLevel, Recipe
from geovision.spec.targets import Target

__all__ = ["Capability", "DemoConfig", "ModelSpec", "Reference", "Task", "WeightSpec", "resolve"]

Capability = Literal[
    "exportable", "differentiable", "any_size", "grid_bound", "whole_period", "unpaired", "first_channel"
]
"""``any_size``: takes fields of any height and width. ``grid_bound``: is fitted for one grid and answers on
that alone. ``whole_period``: what it says of a day depends on the period that is asked about. ``unpaired``:
is fitted on distributions alone, so that the days of its data need not be those of the truth.
``first_channel``: looks at the first channel alone, so that nobody should have to give it the others."""

Fit = Literal["gradient", "closed_form", "none"]


@dataclass(frozen=True)
class Reference:
    """One published or measured figure, with who states it."""

    metric: str
    value: float
    model: str
    evidence: EvidenceLevel
    source: str
    note: str = ""


@dataclass(frozen=True)
class WeightSpec:
    """Trained parameters that exist.

    Args:
        tag: What follows the dot in ``task-architecture.tag``.
        location: ``"package:NAME"`` is a folder inside geovision; ``"hf:owner/repo@revision"``.
        license: Of the weights, an SPDX identifier.
        trained_on: Data set and its terms.
        metrics: Metric name to value; the card holds intervals and the command.
    """

    tag: str
    location: str
    license: str
    trained_on: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSpec:
    """One line of the registry.

    Args:
        name: ``task-architecture``.
        task: Name of the task.
        builder: ``"module:function"`` that takes the resolved spec and gives the network.
        model_args: Options of the builder.
        fit: ``"gradient"``, ``"closed_form"`` (the network has ``fit(data)`` or the head
            ``fit(features, labels)``), or ``"none"``.
        inputs, head: Where they differ from the task's.
        head_args: Keywords of the head.
        capabilities: What contract tests and engines may do with it.
        not_exportable_reason: Why it is not carried into other formats; empty where it is.
        drop_rate: Before the last layer, unless the caller says otherwise.
        recipe: Where it differs from the task's; `recipes`: those of the task's others that differ, by name.
        weights: Trained parameters that exist; the first is what ``pretrained=True`` takes.
        tiny_args: Options of the builder that make a model for tests and demonstrations.
        num_parameters: Trainable parameters with the task's own target; a test counts them again.
        evidence, note: Whose architecture it is, and what to know about it.
    """

    name: str
    task: str
    builder: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    fit: Fit = "gradient"
    inputs: tuple[InputSpec, ...] = ()
    head: str = ""
    head_args: Mapping[str, Any] = field(default_factory=dict)
    capabilities: frozenset[Capability] = frozenset({"exportable", "differentiable"})
    not_exportable_reason: str = ""
    drop_rate: float = 0.0
    recipe: Recipe | None = None
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    weights: tuple[WeightSpec, ...] = ()
    tiny_args: Mapping[str, Any] = field(default_factory=dict)
    num_parameters: int | None = None
    evidence: EvidenceLevel = OUR_CHOICE
    note: str = ""

    def check_exportable(self) -> None:
        """Raise, with the reason, where a model of this entry is not carried into other formats.

        Raises:
            ExportError: It is not.
        """
        if "exportable" not in self.capabilities:
            raise ExportError(f"{self.name} cannot be exported: {self.not_exportable_reason}")

    @property
    def architecture(self) -> str:
        return self.name.removeprefix(f"{self.task}-")

    def find_weights(self, tag: str) -> WeightSpec | None:
        return next((weight for weight in self.weights if weight.tag == tag), None)


@dataclass(frozen=True)
class DemoConfig:
    """What `geovision demo` does for a task: seeded data, a small model, a short training.

    Args:
        model: Its name in the registry.
        samples: Number of generated ones, training and held back together.
        size: (height, width) of the first input.
        seed: Of the data, the split and the model.
        photos: A reader's own photos are inputs of this task, and its weights are asked about them.
    """

    model: str
    samples: int
    recipe: Recipe
    size: tuple[int, int] | None = None
    seed: int = 0
    photos: bool = False


@dataclass(frozen=True)
class Task:
    """One question, and everything that answers it, by name.

    Args:
        name: Also the file name in `geovision.tasks` and the first word of each model's name.
        question: What it answers, as its user would ask.
        chinese: Title and question once more, for pages that speak both languages.
        inputs: What a model of the task takes, in physical units.
        scalars: Measurements that a model may take beside the first input, each optional.
        target: What comes out.
        dataset: Adapter of the main data set; `other_datasets` of the rest, by name.
        head: Class of the head; `heads`: others to choose from, by name.
        loss: Function of (values, target, valid); empty where the heads have a loss of their own.
        predictors: Channels that a model may take beside those of its first input, on the same grid, by name.
        metrics: Names; the first is the headline.
        backbones: Families whose every member is a model of this task: ``"timm"``, ``"smp"``.
        recipe: Of every model that has none of its own; `recipes`: others to choose from, by name.
        published: What others state; `cautions`: what to know before comparing with it.
        demo: Settings of the demonstration.
        default_for: Shared datasets that are read for this task if none is named.
    """

    name: str
    title: str
    question: str
    inputs: tuple[InputSpec, ...]
    target: Target
    datasets: Mapping[str, str]
    head: str
    loss: str
    metrics: tuple[str, ...]
    recipe: Recipe
    demo: DemoConfig
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    scalars: tuple[Channel, ...] = ()
    predictors: tuple[Channel, ...] = ()
    backbones: tuple[Literal["timm", "smp"], ...] = ()
    published: tuple[Reference, ...] = ()
    cautions: tuple[str, ...] = ()
    citation: str = ""
    chinese: tuple[str, str] | None = None
    default_for: tuple[str, ...] = ()

    @property
    def dataset(self) -> str:
        """Name of the main data set: the first."""
        return next(iter(self.datasets))

    def available_recipes(self, model: ModelSpec) -> dict[str, Recipe]:
        """The recipes that a model of this task may be trained by: its own, called ``"default"``, and the
        others by name."""
        return {"default": model.recipe or self.recipe, **self.recipes, **model.recipes}


def resolve(reference: str) -> Any:
    """The object that ``"module:name"`` names.

    >>> resolve("geovision.errors:nearest").__name__
    'nearest'
    """
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
