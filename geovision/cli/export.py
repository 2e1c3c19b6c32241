"""`geovision export`: a model as one file that needs no torch."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from geovision.cli._key_value import AxisOption, parse_axis_lengths
from geovision.cli._model_argument import find_entry, open_model
from geovision.cli._output import examples_epilog, print_status
from geovision.errors import OptionError

__all__ = ["ExportPrecision", "register"]


class ExportPrecision(enum.StrEnum):
    """Arithmetic of exported files."""

    float32 = "float32"
    int8 = "int8"


class ExportFormat(enum.StrEnum):
    """Formats of exported files."""

    onnx = "onnx"
    web = "web"


def register(app: typer.Typer) -> None:
    """Add `export` to the application."""
    app.command(
        "export",
        epilog=examples_epilog(
            "geovision export cloud-mobilenetv2 --out clouds.onnx",
            "geovision export cloud-mobilenetv2 --precision int8 --with-runtime --out phone/clouds.onnx",
            "geovision export runs/mine --precision int8 --calibration photos/ --out mine.onnx",
            "geovision export cloud-mobilenetv2 --format web --out site",
        ),
    )(export)


def export(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    out: Annotated[Path, typer.Option(help="The file to write; for web the folder.")],
    export_format: Annotated[
        ExportFormat,
        typer.Option("--format", help="onnx: one file. web: a page that answers in the browser."),
    ] = ExportFormat.onnx,
    precision: Annotated[
        ExportPrecision, typer.Option(help="int8: 8-bit weights and activations, a quarter of the size.")
    ] = ExportPrecision.float32,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="With --precision int8: files, folders or patterns with typical values; may be "
            "repeated. Generated samples if absent."
        ),
    ] = None,
    axis: AxisOption = None,
    with_runtime: Annotated[
        bool, typer.Option("--with-runtime", help="Lay runtime.py beside it, which needs no geovision.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
) -> None:
    """Write a model as one ONNX file: units in, calibrated answers out, what it is in its metadata.

    It is compared with the model before it is kept. `python runtime.py FILE.onnx PHOTO` answers from it with
    onnxruntime, numpy and Pillow alone. With --format web it lies in a folder with a page around it, static
    files for any web server, that answers pictures on the phone itself.
    """
    int8 = precision is ExportPrecision.int8
    if calibration and not int8:
        raise OptionError("--calibration has no effect with --precision float32; add --precision int8")
    if export_format is ExportFormat.web and (axis or with_runtime):
        raise OptionError("--axis and --with-runtime are for --format onnx")
    axes = parse_axis_lengths(axis or [])

    # Before anybody trains weights that cannot be exported.
    if entry := find_entry(model):
        entry.check_exportable()
    opened = open_model(model, weights)

    from geovision.export import calibration_inputs, copy_runtime
    from geovision.export import export_onnx as write

    ranges = calibration_inputs(opened, calibration or None) if int8 else None
    if export_format is ExportFormat.web:
        from geovision.web import write_model_site

        print_status(f"{write_model_site(opened, out, calibration=ranges)}: hand it out by HTTPS")
        return
    written = write(opened, out, axes=axes, calibration=ranges)
    print_status(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
    if with_runtime:
        print_status(f"{copy_runtime(written.parent)}: python runtime.py {written.name} FILE")
