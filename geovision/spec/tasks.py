"""Tasks, with their models, weights and published scores."""

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
"""Properties of a model.

- ``exportable``: can be exported to other formats.
- ``differentiable``: has gradients with respect to its inputs.
- ``any_size``: accepts fields of any height and width.
- ``grid_bound``: is fitted to one grid and predicts on that grid only.
- ``whole_period``: the prediction of a day depends on the whole period that is passed.
- ``unpaired``: is fitted to distributions only, so inputs and target may be of different days.
- ``first_channel``: uses the first channel only, so the others need not be given.
"""

Fit = Literal["gradient", "closed_form", "none"]


@dataclass(frozen=True)
class Reference:
    """Published or measured score with its source.

    Args:
        metric: Name of the metric.
        value: Value of the metric.
        model: Name of the model.
        evidence: Level of evidence.
        source: Publication or study that contains the value.
        note: Conditions of the value, such as the split. Default: none.
    """

    metric: str
    value: float
    model: str
    evidence: EvidenceLevel
    source: str
    note: str = ""


@dataclass(frozen=True)
class WeightSpec:
    """Available trained weights of a model.

    Args:
        tag: Part after the dot in ``task-architecture.tag``.
        location: ``"package:NAME"`` for a folder inside geovision, or ``"hf:owner/repo@revision"``.
        license: License of the weights, an SPDX identifier.
        trained_on: Data set of the training, with its terms.
        metrics: Values by metric name; the card contains intervals and the command. Default: none.
    """

    tag: str
    location: str
    license: str
    trained_on: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSpec:
    """Registry entry of a model.

    Args:
        name: Name of the model, ``task-architecture``.
        task: Name of the task.
        builder: Function that takes the resolved spec and returns the network, as ``"module:function"``.
        model_args: Options of the builder. Default: none.
        fit: Kind of training: ``"gradient"``, ``"closed_form"`` (the network has ``fit(data)`` or the head
            ``fit(features, labels)``) or ``"none"``. Default: ``"gradient"``.
        inputs: Inputs of the model. Default: those of the task.
        head: Class of the head, as ``"module:class"``. Default: that of the task.
        head_args: Keyword arguments of the head. Default: none.
        capabilities: Properties that tests and engines rely on. Default: exportable and differentiable.
        not_exportable_reason: Reason why the model cannot be exported; empty if it can. Default: empty.
        drop_rate: Default dropout rate before the last layer, 0-1. Default: 0.
        recipe: Recipe of the model. Default: None, that of the task.
        recipes: Named recipes that replace or extend those of the task. Default: none.
        weights: Available trained weights; ``pretrained=True`` loads the first. Default: none.
        tiny_args: Options of the builder for a small model in tests and demonstrations. Default: none.
        num_parameters: Number of trainable parameters with the target of the task, verified by a test.
            Default: None, unknown.
        evidence: Source of the architecture. Default: ``"our choice"``.
        note: Notes on the architecture. Default: none.
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
        """Validate that models of this entry can be exported to other formats.

        Raises:
            ExportError: They cannot; the message contains the reason.
        """
        if "exportable" not in self.capabilities:
            raise ExportError(f"{self.name} cannot be exported: {self.not_exportable_reason}")

    @property
    def architecture(self) -> str:
        """Name of the model without its task."""
        return self.name.removeprefix(f"{self.task}-")

    def find_weights(self, tag: str) -> WeightSpec | None:
        """Return the weights with a tag, or None if missing.

        Args:
            tag: Tag of the weights.
        """
        return next((weight for weight in self.weights if weight.tag == tag), None)


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the demonstration of a task by `geovision demo`.

    It trains a small model on seeded synthetic data for a short time.

    Args:
        model: Name of the model in the registry.
        samples: Number of generated samples, training and validation together.
        recipe: Recipe of the training.
        size: Height and width of the first input, in cells. Default: None, the size of the model.
        seed: Seed of the data, the split and the model. Default: 0.
        photos: Whether users can pass their own photos, which the trained weights of the task classify.
            Default: False.
    """

    model: str
    samples: int
    recipe: Recipe
    size: tuple[int, int] | None = None
    seed: int = 0
    photos: bool = False


@dataclass(frozen=True)
class Task:
    """Task with its inputs, target, datasets, heads, metrics and recipes.

    Args:
        name: Name of the task, which is also its file name in `geovision.tasks` and the first word of the
            name of each of its models.
        title: Title in English.
        question: Question that the task addresses, in the words of a user.
        inputs: Inputs of the models, in physical units.
        target: Target of the models.
        datasets: Dataset adapters as ``"module:class"``, by name; the first is the main one.
        head: Class of the head, as ``"module:class"``.
        loss: Function of (values, target, valid), as ``"module:function"``; empty if the heads have their
            own loss.
        metrics: Names of the metrics; the first is the main one.
        recipe: Recipe of models without their own.
        demo: Settings of the demonstration.
        recipes: Further recipes, by name. Default: none.
        heads: Further classes of heads, as ``"module:class"``, by name. Default: none.
        scalars: Optional scalar measurements in addition to the first input. Default: none.
        predictors: Optional channels in addition to those of the first input, on the same grid.
            Default: none.
        backbones: Libraries whose models are all models of this task, ``"timm"`` or ``"smp"``.
            Default: none.
        published: Published scores. Default: none.
        cautions: Limitations of a comparison with the published scores. Default: none.
        citation: Publication of the task. Default: none.
        chinese: Title and question in Chinese, for bilingual pages. Default: None.
        default_for: Names of shared datasets that are read for this task if none is named. Default: none.
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
        """Name of the main data set, the first one."""
        return next(iter(self.datasets))

    def available_recipes(self, model: ModelSpec) -> dict[str, Recipe]:
        """Return the recipes of a model of this task by name.

        The name of the model's own recipe, or of the task's if it has none, is ``"default"``.

        Args:
            model: Registry entry of the model.
        """
        return {"default": model.recipe or self.recipe, **self.recipes, **model.recipes}


def resolve(reference: str) -> Any:
    """Import and return the object that ``"module:name"`` refers to.

    Args:
        reference: Module and name, separated by a colon.

    >>> resolve("geovision.errors:nearest").__name__
    'nearest'
    """
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
