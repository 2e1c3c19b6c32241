"""Command `geovision grid`: predict fields of NetCDF or Zarr files and write one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from geovision.cli._key_value import parse_key_values
from geovision.cli._model_argument import open_model
from geovision.cli._output import examples_epilog, print_status

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `grid` to the application."""
    app.command(
        "grid",
        epilog=examples_epilog(
            "geovision grid runs/mine/model reanalysis.nc --out fine.nc",
            "geovision grid runs/mine pr.nc --field hus850=hus.nc --unit pr='kg m-2 s-1' --out fine.zarr",
            "geovision grid runs/mine/model pr.nc --out fine.nc --out-units 'kg m-2 s-1' --members 20",
        ),
    )(grid)


def grid(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    source: Annotated[
        str,
        typer.Argument(help="File, store, folder or pattern of the model's first field.", metavar="INPUT"),
    ],
    out: Annotated[Path, typer.Option(help="Output file, .nc or .zarr.")],
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="Further input field. May be repeated.")
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=UNIT",
            help="Unit of a file without units, such as pr='kg m-2 s-1'. May be repeated.",
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=AXIS:VALUE",
            help="Coordinate on an additional axis, such as hus850=plev:85000. May be repeated.",
        ),
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VARIABLE",
            help="Variable of a file with several candidates, such as pr=tp. May be repeated.",
        ),
    ] = None,
    pole: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LAT,LON",
            help="North pole of a rotated grid without grid mapping, in degrees. May be repeated.",
        ),
    ] = None,
    out_units: Annotated[
        str, typer.Option(help="Unit of the output. Default: the unit of the model's target.")
    ] = "",
    members: Annotated[int, typer.Option(min=0, help="Number of ensemble members; 0: one prediction.")] = 0,
    seed: Annotated[int, typer.Option(help="Random seed of the members.")] = 0,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Number of fields per forward pass. Default: chosen by the model."),
    ] = None,
) -> None:
    """Predict every field of a file, such as downscaled precipitation, and write one file.

    Coordinates, calendar, attributes and members are kept. Files are read and written in pieces
    and may be larger than memory. Days without valid cells remain missing.
    """
    from geovision.inference._predict_grid import predict_grid

    opened = open_model(model, weights)
    first = opened.inputs[0].channels[0].name
    files = {first: source, **parse_key_values(field or (), "--field", "NAME=FILE", str)}
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fields", total=None)
        summary = predict_grid(
            opened,
            files,
            out,
            units=parse_key_values(unit or (), "--unit", "NAME=UNIT", str),
            select=parse_key_values(select or (), "--select", "NAME=AXIS:VALUE", _parse_selection),
            variables=parse_key_values(variable or (), "--variable", "NAME=VARIABLE", str),
            poles=parse_key_values(pole or (), "--pole", "NAME=LAT,LON", _parse_pole),
            out_units=out_units,
            members=members,
            seed=seed,
            batch_size=batch_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if summary.alignment:
        print_status(summary.alignment)
    print_status(f"{summary.fields:,} fields, variables {', '.join(summary.variables)}")
    print(summary.out)


def _parse_pole(text: str) -> tuple[float, float]:
    lat, lon = text.split(",")
    return float(lat), float(lon)


def _parse_selection(text: str) -> dict[str, float]:
    axis, _, number = text.partition(":")
    return {axis: float(number)}
