"""Commands `geovision list` and `geovision info`, which read the registry without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from geovision import registry
from geovision.cli._output import (
    DocumentFormat,
    TableFormat,
    align_columns,
    examples_epilog,
    print_status,
    write_json,
    write_rows,
)
from geovision.spec import (
    Channel,
    ClassTarget,
    FieldTarget,
    InputSpec,
    MaskTarget,
    ModelSpec,
    Recipe,
    Reference,
    Target,
    Task,
)

__all__ = ["model_info", "register"]

_COLUMNS = ("model", "parameters", "weights", "note")


def register(app: typer.Typer) -> None:
    """Add `list` and `info` to the application."""
    app.command(
        "list",
        epilog=examples_epilog(
            "geovision list 'cloud-*'",
            "geovision list --pretrained",
            "geovision list --backbones '*convnext*' --format csv",
        ),
    )(list_models)
    app.command(
        "info",
        epilog=examples_epilog(
            "geovision info cloud-mobilenetv2",
            "geovision info cloud-convnext_tiny --format json",
        ),
    )(info)


def list_models(
    pattern: Annotated[str, typer.Argument(help="Glob pattern of names, such as 'cloud-*'.")] = "*",
    task: Annotated[str | None, typer.Option(help="Name of a task. Default: all tasks.")] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained/--not-pretrained",
            help="Only models with, or without, geovision weights. Default: both.",
        ),
    ] = None,
    backbones: Annotated[
        bool,
        typer.Option("--backbones", help="Also list the models of every backbone that a task accepts."),
    ] = False,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the output.")
    ] = TableFormat.table,
) -> None:
    """List models with their trainable parameters, weights and notes."""
    names = registry.list_models(pattern, task=task, pretrained=pretrained, backbones=backbones)
    if not names:
        print_status(f"no model matches {pattern!r}; `geovision list --backbones` lists all names")
        raise typer.Exit(1)
    write_rows(map(_row, names), _COLUMNS, output_format)


def _row(name: str) -> dict[str, Any]:
    spec = registry.find_model(name)
    return {
        "model": name,
        "task": spec.task,
        "parameters": spec.num_parameters,
        "weights": [weight.tag for weight in spec.weights],
        "fit": spec.fit,
        "note": spec.note,
    }


def info(
    name: Annotated[str, typer.Argument(help="Name of a model, as printed by `geovision list`.")],
    output_format: Annotated[
        DocumentFormat, typer.Option("--format", help="Format of the printed report.")
    ] = DocumentFormat.table,
) -> None:
    """Show one model: task, inputs with units, classes, recipe, weights and published results."""
    spec = registry.find_model(name)
    task = registry.find_task(spec.task)
    if output_format is DocumentFormat.json:
        write_json(model_info(spec, task))
    else:
        print("\n".join(_render_info(spec, task)))


def model_info(spec: ModelSpec, task: Task) -> dict[str, Any]:
    """Return the description of a model and its task as plain data.

    Args:
        spec: Registry entry of the model.
        task: Task of the model.

    Returns:
        JSON-serializable dictionary.
    """
    return {
        "model": spec.name,
        "task": task.name,
        "question": task.question,
        "inputs": [dataclasses.asdict(each) for each in spec.inputs or task.inputs],
        "optional_measurements": [dataclasses.asdict(channel) for channel in task.scalars],
        "target": dataclasses.asdict(task.target),
        "parameters": spec.num_parameters,
        "fit": spec.fit,
        "architecture": dict(spec.model_args),
        "architecture_mark": spec.evidence,
        "note": spec.note,
        "capabilities": sorted(spec.capabilities),
        "recipe": dataclasses.asdict(spec.recipe or task.recipe) if spec.fit == "gradient" else None,
        "weights": [dataclasses.asdict(weight) for weight in spec.weights],
        "published": [dataclasses.asdict(each) for each in _published_results(spec, task)],
        "datasets": list(task.datasets),
        "metrics": list(task.metrics),
        "citation": task.citation,
    }


def _published_results(spec: ModelSpec, task: Task) -> list[Reference]:
    return [reference for reference in task.published if reference.model == spec.name]


def _render_info(spec: ModelSpec, task: Task) -> Iterator[str]:
    yield spec.name
    yield task.question
    size = (
        f"{spec.num_parameters:,} trainable parameters"
        if spec.num_parameters
        else "number of parameters unknown"
    )
    yield f"{size}; {spec.note}" if spec.note else size
    yield f"architecture: {spec.evidence}"
    yield from _section("inputs", [line for each in spec.inputs or task.inputs for line in _input(each)])
    yield from _section("optional measurements", [_channel(channel) for channel in task.scalars])
    yield from _section("prediction", _target(task.target))
    yield from _section("recipe", _recipes(spec, task))
    yield from _section("weights", _weights(spec, task))
    yield from _section("published results", [_reference(each) for each in _published_results(spec, task)])
    yield from _section("datasets", [" ".join(task.datasets)])
    yield from _section("metrics", [" ".join(task.metrics)])


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def _input(spec: InputSpec) -> list[str]:
    size = f", {spec.size[0]} x {spec.size[1]}" if spec.size else ""
    optional = ", optional" if spec.optional else ""
    return [f"{spec.name} ({spec.layout}{size}{optional})", *(f"  {_channel(c)}" for c in spec.channels)]


def _channel(channel: Channel) -> str:
    low, high = channel.valid_range
    unit = "" if channel.unit == "1" else f" {channel.unit}"
    return f"{channel.name}: {low:g} to {high:g}{unit}"


def _target(target: Target) -> list[str]:
    match target:
        case ClassTarget(cards=cards) if cards:
            return align_columns([[card.code, card.name.en, card.name.zh, card.level] for card in cards])
        case ClassTarget(classes=classes):
            return [" ".join(classes)]
        case MaskTarget(name=name, threshold=threshold):
            return [f"mask: {name}, probability of at least {threshold:g}"]
        case FieldTarget(channel=channel):
            return [f"field: {_channel(channel)}"]


def _recipes(spec: ModelSpec, task: Task) -> list[str]:
    """Format the recipe of the model, then the other recipes of its task."""
    if spec.fit != "gradient":
        return ["none: fitted in closed form" if spec.fit == "closed_form" else "none: no fitted parameters"]
    own, *_ = (recipes := task.available_recipes(spec)).values()
    lines = _recipe(own)
    for name, recipe in recipes.items():
        if recipe != own:
            lines += [f"--recipe {name}:", *(f"  {line}" for line in _recipe(recipe))]
    return lines


def _recipe(recipe: Recipe) -> list[str]:
    lines = []
    for number, stage in enumerate(recipe.stages, 1):
        size = f", at {stage.size[0]} x {stage.size[1]}" if stage.size else ""
        parameters = "all parameters" if stage.train == "all" else "the head only"
        head = "" if stage.head_lr is None else f" (head {stage.head_lr:g})"
        lines.append(
            f"{number}. {stage.epochs} epochs of {parameters}: {stage.optimizer}, learning rate "
            f"{stage.lr:g}{head}, weight decay {stage.weight_decay:g}, batch size {stage.batch_size}, "
            f"schedule {stage.schedule}{size}"
        )
    return [*lines, f"label smoothing {recipe.label_smoothing:g}; {recipe.evidence}"]


def _weights(spec: ModelSpec, task: Task) -> list[str]:
    lines = [
        f"{weight.tag}: {weight.license}; trained on {weight.trained_on}; "
        + ", ".join(f"{metric} {value:.3g}" for metric, value in weight.metrics.items())
        for weight in spec.weights
    ]
    command = f"geovision train {spec.name} --dataset {task.dataset} --data ROOT --out FOLDER"
    return lines or [f"none; {command}"]


def _reference(reference: Reference) -> str:
    note = f"; {reference.note}" if reference.note else ""
    return f"{reference.metric} {reference.value:g} ({reference.evidence}: {reference.source}{note})"
