"""`geovision grid`: coarse NetCDF or Zarr in, fine or corrected NetCDF or Zarr out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from geovision.cli._key_value import named
from geovision.cli._model_argument import open_model
from geovision.cli._output import examples, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command("grid", epilog=examples(
        "geovision grid runs/mine/model reanalysis.nc --out fine.nc",
        "geovision grid runs/mine/model pr.nc --field hus850=hus.nc --units pr='kg m-2 s-1' --out fine.zarr",
        "geovision grid runs/mine/model pr.nc --out fine.nc --out-units 'kg m-2 s-1' --members 20",
    ))(grid)  # fmt: skip


def grid(
    model: Annotated[str, typer.Argument(help="A model's name, or a folder with a trained model.")],
    rain: Annotated[str, typer.Argument(help="File, store, folder or pattern of the rain.", metavar="RAIN")],
    out: Annotated[Path, typer.Option(help="What is written, .nc or .zarr.")],
    field: Annotated[
        list[str] | None, typer.Option(help="A further field, NAME=FILE; may be repeated.")
    ] = None,
    units: Annotated[
        list[str] | None, typer.Option(help="Where a file does not say: NAME=UNIT, such as pr='kg m-2 s-1'.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Of further axes: NAME=AXIS:VALUE, such as hus850=plev:85000.")
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option(help="Where a file has several that it may be: NAME=VARIABLE, such as pr=tp."),
    ] = None,
    pole: Annotated[
        list[str] | None,
        typer.Option(help="North pole of a rotated grid that does not say so: NAME=LAT,LON."),
    ] = None,
    out_units: Annotated[str, typer.Option(help="Of the answer; mm day-1 if absent.")] = "",
    members: Annotated[int, typer.Option(min=0, help="Members of an ensemble; 0: one answer.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the members.")] = 0,
    weights: Annotated[str | None, typer.Option(help="Tag or folder; the default weights if absent.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Fields a forward pass; chosen by the model if absent.")
    ] = None,
) -> None:
    """Turn coarse rain into fine rain, or biased rain into corrected rain: files in, a file out.

    Coordinates, calendar, attributes and members are kept. Files are read and written piece by piece, so that
    they may be larger than memory. Days that are missing everywhere stay missing.
    """
    from geovision.inference._predict_grid import predict_grid

    opened = open_model(model, weights)
    files = {"precipitation": rain, **named(field or (), "--field", "NAME=FILE", str)}
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fields", total=None)
        summary = predict_grid(
            opened, files, out, units=named(units or (), "--units", "NAME=UNIT", str),
            select=named(select or (), "--select", "NAME=AXIS:NUMBER", _selection),
            variables=named(variable or (), "--variable", "NAME=VARIABLE", str),
            poles=named(pole or (), "--pole", "NAME=LAT,LON", _pole), out_units=out_units,
            members=members, seed=seed, batch_size=batch_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    if summary.alignment:
        say(summary.alignment)
    say(f"{summary.fields:,} fields, variables {', '.join(summary.variables)}")
    print(summary.out)


def _pole(text: str) -> tuple[float, float]:
    lat, lon = text.split(",")
    return float(lat), float(lon)


def _selection(text: str) -> dict[str, float]:
    axis, _, number = text.partition(":")
    return {axis: float(number)}
