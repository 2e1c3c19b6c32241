"""Command `geovision explain`: compute attribution maps of predictions."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geovision.cli._model_argument import open_model
from geovision.cli._output import FileNames, TableFormat, examples_epilog, print_status, write_rows

if TYPE_CHECKING:
    from geovision.attribution import Explanation

__all__ = ["register"]


class Method(enum.StrEnum):
    """Attribution methods."""

    gradcam = "gradcam"
    layercam = "layercam"
    integrated_gradients = "integrated-gradients"
    deeplift = "deeplift"
    occlusion = "occlusion"


_COLUMNS = ["source", "class", "probability", "logit", "peak_row", "peak_column", "figure"]
_ERROR = "completeness_error"


def register(app: typer.Typer) -> None:
    """Add `explain` to the application."""
    app.command(
        "explain",
        epilog=examples_epilog(
            "geovision explain cloud-mobilenetv2 sky.jpg",
            "geovision explain runs/polarlow scene.png --method layercam --orientations 8",
            "geovision explain runs/polarlow scenes/ --method integrated-gradients --target pos --out why",
            "geovision explain cloud-mobilenetv2 sky.jpg --method occlusion --window 32 --stride 8",
            "geovision explain runs/hail samples/ --method deeplift --group-by terrain",
        ),
    )(explain)


def explain(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    inputs: Annotated[list[str], typer.Argument(help="Files, folders or glob patterns.", metavar="INPUT...")],
    method: Annotated[
        Method,
        typer.Option(
            help="Attribution method. gradcam, layercam: class-activation map of a layer. "
            "integrated-gradients: contribution of each input value. "
            "deeplift: contribution of each channel of a layer. "
            "occlusion: change of the score without each patch."
        ),
    ] = Method.gradcam,
    out: Annotated[
        Path, typer.Option(help="Output folder; one figure and one array archive per input.")
    ] = Path("explanations"),
    target: Annotated[
        str | None,
        typer.Option(
            help="Class to explain. Default: the positive class if the task has one, otherwise the most "
            "probable class."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Layer of gradcam, layercam or deeplift. An unknown name prints the list."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps of integrated gradients. Default: 200 to 800.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Side of the occlusion patch, in cells. Default: an eighth of the input."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Distance between patches, in cells. Default: half the patch side.")
    ] = None,
    orientations: Annotated[
        int,
        typer.Option(
            help="Number of averaged orientations. 1: original; 2: also mirrored; 8: also rotated by "
            "multiples of 90 degrees."
        ),
    ] = 1,
    batch_size: Annotated[int, typer.Option(help="Number of modified inputs per forward pass.")] = 8,
    group_by: Annotated[
        str | None, typer.Option(help="File attribute that groups the means, such as terrain.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the output.")
    ] = TableFormat.table,
) -> None:
    """Explain predictions with attribution maps, written as figures and arrays.

    The map is aligned with the input of the network. Unreadable files are listed on standard
    error, the others are explained, and the exit code is 1. For several inputs and a method with
    additive contributions, means.METHOD.csv and .png contain the mean contribution of each
    channel and the loss without each source.
    """
    from geovision.attribution import (
        COMPLETE_METHODS,
        TOLERANCE,
        AttributionConfig,
        AttributionSummary,
        explain_item,
        validate_explanation,
    )
    from geovision.models.input_items import iter_input_items, read_attribute

    settings = AttributionConfig(method.value, layer, steps, window, stride, batch_size, orientations)
    opened = open_model(model, weights)
    validate_explanation(opened, target=target, config=settings)
    names, unreadable, summary = FileNames(f".{method.value}"), [], AttributionSummary()

    def rows() -> Iterator[dict[str, Any]]:
        from geovision.errors import InputError

        for source in iter_input_items(inputs, opened.inputs):
            try:
                group = read_attribute(source, group_by, opened.inputs[0]) if group_by else None
                found = explain_item(opened, source, target=target, config=settings)
            except InputError as error:
                unreadable.append(source.name)
                print_status(str(error))
                continue
            if found.completeness and found.completeness.relative_error > TOLERANCE:
                print_status(_incomplete_message(found))
            summary.add(found, group or found.label)  # means of one class only: classes are not comparable
            figure, _ = found.save(out, names.unique_name(source.name))
            yield (
                _make_row(found, figure)
                if output_format is not TableFormat.jsonl
                else _make_document(found, figure)
            )

    with_error = settings.method in COMPLETE_METHODS
    write_rows(rows(), [*_COLUMNS[:-1], *([_ERROR] if with_error else []), _COLUMNS[-1]], output_format)
    if summary.num_samples > 1 or (group_by and summary.num_samples):
        table, bars = summary.save(out, f"means.{method.value}")
        print_status(f"means over {summary.num_samples} files: {table}, {bars}")
    if unreadable:
        print_status(f"unreadable files: {len(unreadable)}")
        raise typer.Exit(1)


def _incomplete_message(found: Explanation) -> str:
    error = found.completeness.relative_error if found.completeness else 0.0
    deviation = f"the sum of the contributions differs by {100 * error:.1f} % from the explained difference"
    if found.config.method == "deeplift":
        return f"{found.source}: {deviation}; --method integrated-gradients may be more accurate"
    return f"{found.source}: {deviation} after {found.config.steps} steps; increase --steps"


def _make_row(explanation: Explanation, figure: Path) -> dict[str, Any]:
    row, column = explanation.first_input.peak() or (None, None)
    completeness = explanation.completeness
    return {
        "source": explanation.source,
        "class": explanation.label,
        "probability": explanation.probability,
        "logit": explanation.logit,
        "peak_row": row,
        "peak_column": column,
        _ERROR: completeness.relative_error if completeness else None,
        "figure": str(figure),
    }


def _make_document(explanation: Explanation, figure: Path) -> dict[str, Any]:
    return explanation.as_dict() | {"figure": str(figure), "arrays": str(figure.with_suffix(".npz"))}
