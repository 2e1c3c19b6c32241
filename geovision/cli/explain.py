"""`geovision explain`: what in one's own files speaks for an answer."""

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
    """Ways to explain an answer."""

    gradcam = "gradcam"
    layercam = "layercam"
    integrated_gradients = "integrated-gradients"
    deeplift = "deeplift"
    occlusion = "occlusion"


_COLUMNS = ["source", "class", "probability", "logit", "peak_row", "peak_column", "picture"]
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
            help="gradcam, layercam: where a layer's maps speak for the class. "
            "integrated-gradients: what each value contributes. "
            "deeplift: what each channel of a layer contributes. "
            "occlusion: what is lost without each patch."
        ),
    ] = Method.gradcam,
    out: Annotated[Path, typer.Option(help="Folder for a picture and an archive of arrays a file.")] = Path(
        "explanations"
    ),
    target: Annotated[
        str | None, typer.Option(help="Class to explain; the one looked for, or the likeliest, if absent.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Of gradcam, layercam and deeplift; a wrong name gets the list.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of integrated gradients; 200 to 800 if absent.")] = None,
    window: Annotated[
        int | None, typer.Option(help="Cells a side of occlusion's patch; an eighth of the input if absent.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Cells from one patch to the next; half a window if absent.")
    ] = None,
    orientations: Annotated[
        int, typer.Option(help="Averaged: 1 as it is, 2 also mirrored, 8 also turned by quarters.")
    ] = 1,
    batch_size: Annotated[int, typer.Option(help="Number of modified inputs per forward pass.")] = 8,
    group_by: Annotated[
        str | None, typer.Option(help="Attribute of the files that groups their means, such as terrain.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the output.")
    ] = TableFormat.table,
) -> None:
    """Show what in photos or other files speaks for an answer: a picture with a map, and the arrays.

    The map lies where the network looked. A file that cannot be read is named on standard error, the
    others are explained, and the exit code is 1. Of several files whose contributions add up,
    means.METHOD.csv and .png have what each channel adds on the mean, and what is lost without each source.
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
    names, unreadable, tally = FileNames(f".{method.value}"), [], AttributionSummary()

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
                print_status(_is_incomplete(found))
            tally.add(found, group or found.label)  # what speaks for one class is no mean with another
            picture, _ = found.save(out, names.unique_name(source.name))
            yield (
                _make_row(found, picture)
                if output_format is not TableFormat.jsonl
                else _make_document(found, picture)
            )

    with_error = settings.method in COMPLETE_METHODS
    write_rows(rows(), [*_COLUMNS[:-1], *([_ERROR] if with_error else []), _COLUMNS[-1]], output_format)
    if tally.num_samples > 1 or (group_by and tally.num_samples):
        table, bars = tally.save(out, f"means.{method.value}")
        print_status(f"means over {tally.num_samples} files: {table}, {bars}")
    if unreadable:
        print_status(f"{len(unreadable)} could not be read")
        raise typer.Exit(1)


def _is_incomplete(found: Explanation) -> str:
    error = found.completeness.relative_error if found.completeness else 0.0
    missed = f"the contributions miss {100 * error:.1f} % of what they explain"
    if found.config.method == "deeplift":
        return f"{found.source}: {missed}; integrated-gradients may do better"
    return f"{found.source}: after {found.config.steps} steps {missed}; more --steps may help"


def _make_row(explanation: Explanation, picture: Path) -> dict[str, Any]:
    row, column = explanation.first_input.peak() or (None, None)
    whole = explanation.completeness
    return {
        "source": explanation.source,
        "class": explanation.label,
        "probability": explanation.probability,
        "logit": explanation.logit,
        "peak_row": row,
        "peak_column": column,
        _ERROR: whole.relative_error if whole else None,
        "picture": str(picture),
    }


def _make_document(explanation: Explanation, picture: Path) -> dict[str, Any]:
    return explanation.as_dict() | {"picture": str(picture), "arrays": str(picture.with_suffix(".npz"))}
