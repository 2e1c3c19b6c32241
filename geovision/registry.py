"""Registry of tasks, models and datasets: data only, without torch.

A model is named ``task-architecture[.tag]``. The task ends at the first ``-``, and the text after the first
``.`` is the tag of weights. Registry entries come first. Tasks that accept timm backbones have each of them
as a model without an entry: ``cloud-convnext_tiny``. Tasks that accept segmentation-models-pytorch have
each network with each encoder, where the encoder follows the second ``-``: ``hail-unet-resnet18``,
``hail-fpn-tu-convnext_tiny``.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import geovision.tasks
from geovision.errors import OptionError, UnknownDatasetError, UnknownModelError, UnknownTaskError
from geovision.spec import ClassTarget, ModelSpec, Task

__all__ = [
    "CUSTOM_DATASETS",
    "PLUGIN_GROUP",
    "SmpNames",
    "dataset_reference",
    "find_model",
    "find_task",
    "list_datasets",
    "list_models",
    "list_tasks",
    "models",
    "smp_names",
    "split_name",
    "tasks",
    "timm_names",
]

PLUGIN_GROUP = "geovision.models"
"""Group of entry points; each refers to an iterable of `Task` and `ModelSpec`."""

CUSTOM_DATASETS: Mapping[str, str] = MappingProxyType(
    {"folder": "geovision.datasets.image_folder:ImageFolderDataset"}
)
"""Adapters of your own data, for every task with classes; they accept ``task=``."""


@functools.cache
def _load_entries() -> tuple[Mapping[str, Task], Mapping[str, ModelSpec]]:
    """Return all tasks and models: those of geovision first, then those of plugins."""
    found: list[Task | ModelSpec] = []
    for module_info in pkgutil.iter_modules(geovision.tasks.__path__):
        module = importlib.import_module(f"geovision.tasks.{module_info.name}")
        found += [module.TASK, *module.MODELS]
    for point in sorted(entry_points(group=PLUGIN_GROUP), key=lambda point: point.name):
        found += point.load()
    tasks: dict[str, Task] = {}
    models: dict[str, ModelSpec] = {}
    for entry in found:
        table: dict[str, Any] = tasks if isinstance(entry, Task) else models
        if entry.name in table:
            raise OptionError(f"two registry entries have the name {entry.name!r}; rename that of the plugin")
        table[entry.name] = entry
    for model in models.values():
        if model.task not in tasks or not model.name.startswith(f"{model.task}-"):
            raise OptionError(f"model {model.name!r} must begin with its task, one of {sorted(tasks)}")
    return MappingProxyType(tasks), MappingProxyType(models)


def tasks() -> Mapping[str, Task]:
    """Return all tasks by name."""
    return _load_entries()[0]


def models() -> Mapping[str, ModelSpec]:
    """Return all registry entries of models by name. Backbones without an entry are not included."""
    return _load_entries()[1]


@functools.cache
def timm_names() -> frozenset[str]:
    """Return the names of the architectures of the installed timm.

    They are read from the source of timm, since its import loads torch, which takes seconds.
    """
    folder = _package_dir("timm")
    if folder is None:
        return frozenset()
    registered = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)
    return frozenset(
        name
        for file in (folder / "models").glob("*.py")
        for name in registered.findall(file.read_text("utf-8"))
    )


class SmpNames(NamedTuple):
    """Names of segmentation-models-pytorch. It also accepts ``tu-`` with any timm name as encoder.

    Attributes:
        networks: Names of networks in lower case.
        encoders: Names of its own encoders.
    """

    networks: frozenset[str]
    encoders: frozenset[str]


@functools.cache
def smp_names() -> SmpNames:
    """Return the names of the installed segmentation-models-pytorch, read from its source."""
    folder = _package_dir("segmentation_models_pytorch")
    if folder is None:
        return SmpNames(frozenset(), frozenset())
    networks = {
        entry.id.lower()
        for name, value in _assignments(folder / "__init__.py")
        if name == "_MODEL_ARCHITECTURES" and isinstance(value, ast.List)
        for entry in value.elts
        if isinstance(entry, ast.Name)
    }
    encoders = {
        str(key.value)
        for file in (folder / "encoders").glob("*.py")
        for name, value in _assignments(file)
        if name.endswith("_encoders") and isinstance(value, ast.Dict)
        for key in value.keys
        # segmentation-models-pytorch deprecates names with "timm-" in favor of "tu-".
        if isinstance(key, ast.Constant) and not str(key.value).startswith("timm-")
    }
    return SmpNames(frozenset(networks), frozenset(encoders))


def _assignments(file: Path) -> Iterable[tuple[str, ast.expr]]:
    """Yield name and value of each assignment of a module."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _package_dir(package: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def split_name(name: str) -> tuple[str, str, str]:
    """Split a model name into task, architecture and tag.

    Args:
        name: Name of a model.

    Returns:
        Task, architecture, and tag; the tag is empty if the name has none.

    >>> split_name("cloud-mobilenetv2.ccsn")
    ('cloud', 'mobilenetv2', 'ccsn')
    """
    stem, _, tag = name.partition(".")
    task, _, architecture = stem.partition("-")
    return task, architecture, tag


def find_task(name: str) -> Task:
    """Return the task with a name.

    Args:
        name: Name of the task.

    Raises:
        UnknownTaskError: No task has this name; the message contains the nearest names.
    """
    try:
        return tasks()[name]
    except KeyError:
        hint = f"Tasks: {', '.join(tasks())}."
        raise UnknownTaskError(name, tasks(), hint) from None


def find_model(name: str) -> ModelSpec:
    """Return the model with a name: a registry entry, or a backbone that its task accepts.

    Args:
        name: Name of the model, with or without a tag.

    Raises:
        UnknownModelError: No model has this name; the message contains the nearest names.
        OptionError: The model has no weights with this tag.
    """
    task_name, architecture, tag = split_name(name)
    stem = name.partition(".")[0]
    spec = models().get(stem) or _backbone_spec(task_name, architecture)
    if spec is None:
        hint = "`geovision list` shows all models."
        if stem in tasks():
            hint = f"It is a task: `geovision list --task {stem}` shows its models."
        elif task_name not in tasks():
            hint = f"A model name begins with its task, one of: {', '.join(tasks())}. {hint}"
        raise UnknownModelError(stem, dict.fromkeys(_candidate_names(task_name)), hint)
    if tag and spec.find_weights(tag) is None:
        known = ", ".join(weight.tag for weight in spec.weights) or "none"
        raise OptionError(
            f"{stem!r} has no weights tagged {tag!r}; known tags: {known}. "
            "Use backbone_weights= for tags of timm."
        )
    return spec


def _backbone_spec(task_name: str, architecture: str) -> ModelSpec | None:
    task = tasks().get(task_name)
    if task and "timm" in task.backbones and architecture in timm_names():
        return ModelSpec(
            f"{task_name}-{architecture}",
            task_name,
            "geovision.models.timm_backbone:build",
            {"backbone": architecture},
            note="timm backbone with the recipe of the task",
        )
    network, _, encoder = architecture.partition("-")
    if task and "smp" in task.backbones and network in smp_names().networks and _is_encoder(encoder):
        return ModelSpec(
            f"{task_name}-{architecture}",
            task_name,
            "geovision.models.smp_network:build",
            {"network": network, "encoder": encoder},
            note="network of segmentation-models-pytorch with the recipe of the task",
        )
    return None


def _is_encoder(name: str) -> bool:
    return name in smp_names().encoders or (name.startswith("tu-") and name[3:] in timm_names())


def _candidate_names(task_name: str) -> Iterable[str]:
    """Yield all names that may be meant, registry entries first."""
    yield from models()
    for task in tasks().values():
        # Several hundred backbones: only those of the requested task are candidates.
        if "timm" in task.backbones and task.name == task_name:
            yield from (f"{task.name}-{name}" for name in sorted(timm_names()))
        if "smp" in task.backbones and task.name == task_name:
            yield from _smp_model_names(task_name)


def _smp_model_names(task_name: str) -> Iterable[str]:
    """Yield each network with each encoder of segmentation-models-pytorch."""
    known = smp_names()
    for network in sorted(known.networks):
        yield from (f"{task_name}-{network}-{encoder}" for encoder in sorted(known.encoders))


def list_tasks() -> list[str]:
    """Return the names of all tasks."""
    return list(tasks())


def list_models(
    pattern: str = "*",
    *,
    task: str | None = None,
    pretrained: bool | None = None,
    backbones: bool = False,
) -> list[str]:
    """Return the names of models that match a wildcard pattern, in the order of the registry.

    Args:
        pattern: Wildcard pattern, such as ``"cloud-*"``. Default: all names.
        task: Name of a task. Default: all tasks.
        pretrained: True: models with weights of geovision; False: models without. Default: both.
        backbones: Whether to include backbones without a registry entry, several hundred names. Default:
            False.

    >>> "cloud-vit" in list_models("cloud-v*")
    True
    """
    if task is not None:
        find_task(task)
    names = [
        name
        for name, spec in models().items()
        if (task is None or spec.task == task) and (pretrained is None or bool(spec.weights) == pretrained)
    ]
    if backbones and not pretrained:
        names += [
            f"{each.name}-{name}"
            for each in tasks().values()
            if "timm" in each.backbones and task in (None, each.name)
            for name in sorted(timm_names())
            if f"{each.name}-{name}" not in models()
        ]
        names += [
            name
            for each in tasks().values()
            if "smp" in each.backbones and task in (None, each.name)
            for name in _smp_model_names(each.name)
            if name not in models()
        ]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def list_datasets(task: str | None = None) -> list[str]:
    """Return the names of all datasets, in the order of their tasks.

    Args:
        task: Name of a task. Default: all tasks.
    """
    chosen = [find_task(task)] if task else list(tasks().values())
    own = CUSTOM_DATASETS if any(isinstance(each.target, ClassTarget) for each in chosen) else ()
    return [*(name for each in chosen for name in each.datasets), *own]


def dataset_reference(name: str, task: str | None = None) -> tuple[Task, str]:
    """Return the task of a dataset and the reference of its adapter class.

    Args:
        name: Name of the dataset.
        task: Task of your own data. Default: the task that declares the dataset in `default_for`.

    Returns:
        Task, and reference such as ``"geovision.datasets.ccsn:CCSN"``.

    Raises:
        UnknownDatasetError: No dataset has this name.
        OptionError: The dataset does not belong to `task`.
    """
    for each in tasks().values():
        if name in each.datasets and task in (None, each.name):
            return each, each.datasets[name]
    if name not in list_datasets():
        raise UnknownDatasetError(name, list_datasets(), f"Datasets: {', '.join(list_datasets())}.")
    defaults = [each for each in tasks().values() if name in each.default_for]
    if task is None and not defaults:
        raise OptionError(f"dataset {name!r} belongs to no task; choose one with task=")
    owner = find_task(task) if task else defaults[0]
    if name in CUSTOM_DATASETS and isinstance(owner.target, ClassTarget):
        return owner, CUSTOM_DATASETS[name]
    raise OptionError(
        f"{name!r} is not a dataset of task {task!r}; its datasets: {', '.join(list_datasets(task))}"
    )
