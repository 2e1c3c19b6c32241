"""Command `geovision export`: export a model as ONNX file or web page."""

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
    out: Annotated[Path, typer.Option(help="Output file; with --format web, output folder.")],
    export_format: Annotated[
        ExportFormat,
        typer.Option("--format", help="onnx: one file. web: a page that predicts in the browser."),
    ] = ExportFormat.onnx,
    precision: Annotated[
        ExportPrecision,
        typer.Option(help="Numeric precision. int8: 8-bit weights and activations, a quarter of the size."),
    ] = ExportPrecision.float32,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="Calibration inputs for --precision int8: files, folders or patterns with typical values. "
            "May be repeated. Default: generated samples."
        ),
    ] = None,
    axis: AxisOption = None,
    with_runtime: Annotated[
        bool,
        typer.Option("--with-runtime", help="Also write runtime.py, which predicts without geovision."),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
) -> None:
    """Export a model as one ONNX file or as a static web page.

    The file reads physical units, returns calibrated predictions and contains the description of
    the model as metadata. Its predictions are compared with those of the model before the file is
    written. `python runtime.py FILE.onnx PHOTO` predicts with onnxruntime, numpy and Pillow only.
    --format web writes a folder of static files for any web server; the page predicts images on
    the phone.
    """
    int8 = precision is ExportPrecision.int8
    if calibration and not int8:
        raise OptionError("--calibration has no effect with --precision float32; add --precision int8")
    if export_format is ExportFormat.web and (axis or with_runtime):
        raise OptionError("--axis and --with-runtime require --format onnx; omit them or --format web")
    axes = parse_axis_lengths(axis or [])

    # An entry that cannot be exported fails here, before its weights are requested.
    if entry := find_entry(model):
        entry.check_exportable()
    opened = open_model(model, weights)

    from geovision.export import calibration_inputs, copy_runtime
    from geovision.export import export_onnx as write

    ranges = calibration_inputs(opened, calibration or None) if int8 else None
    if export_format is ExportFormat.web:
        from geovision.web import write_model_site

        print_status(f"{write_model_site(opened, out, calibration=ranges)}: serve this folder over HTTPS")
        return
    written = write(opened, out, axes=axes, calibration=ranges)
    print_status(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
    if with_runtime:
        print_status(f"{copy_runtime(written.parent)}: python runtime.py {written.name} FILE")
