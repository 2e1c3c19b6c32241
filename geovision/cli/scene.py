"""Command `geovision scene`: predict a radar scene with a sliding window."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geovision import api
from geovision.cli._model_argument import open_model
from geovision.cli._output import TableFormat, examples_epilog, print_status, write_rows
from geovision.cli._sar_options import Quantity, parse_bands, parse_db_range
from geovision.cli.explain import Method
from geovision.cli.predict import InferencePrecision, PrecisionOption

if TYPE_CHECKING:
    from geovision.sar import SceneSummary

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `scene` to the application."""
    app.command(
        "scene",
        epilog=examples_epilog(
            "geovision scene runs/polarlow pass.tif --out maps/pass --quantity db "
            "--db-range cross_pol=-36:-14,co_pol=-28:-2",
            "geovision scene runs/polarlow pass.tif --out maps/pass --quantity power "
            "--bands cross_pol=2,co_pol=1 --overlap 0.75 --land land.tif --ice ice.tif --explain layercam",
            "geovision scene runs/polarlow S1A_EW_GRDM_1SDH_20200110T050607_….SAFE --out maps/pass",
        ),
    )(scene)


def scene(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    source: Annotated[
        Path,
        typer.Argument(help="GeoTIFF with both polarizations, or Sentinel-1 SAFE folder.", metavar="INPUT"),
    ],
    out: Annotated[Path, typer.Option(help="Path prefix of the output files, such as maps/pass.")],
    quantity: Annotated[
        Quantity | None,
        typer.Option(
            help="Quantity of the values; it is never guessed. Not needed for SAFE folders, which declare it."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    db_range: Annotated[
        str | None,
        typer.Option(
            help="Backscatter of the counts 1 and 255, in dB, such as cross_pol=-36:-14,co_pol=-28:-2. "
            "Default: the range stored with the model."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Band numbers, such as cross_pol=2,co_pol=1. Default: bands are found by their names."
        ),
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="Missing value, in addition to that declared by the file.")
    ] = None,
    time: Annotated[
        datetime.datetime | None,
        typer.Option(help="Acquisition time, in UTC. Default: the time in the file."),
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option(
            help="Projection of the output with units of meters, such as EPSG:3413, or scene: the projection "
            "of the scene. Default: polar stereographic poleward of 60 degrees, otherwise the projection of "
            "the scene or UTM."
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(min=0, max=0.95, help="Overlap of adjacent windows, as a fraction of a window.")
    ] = 0.5,
    min_valid: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum fraction of valid pixels in a window.")
    ] = 0.25,
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1, help="Minimum probability of a detection.")
    ] = 0.5,
    separation: Annotated[
        float | None,
        typer.Option(min=0.001, help="Minimum distance of two detections, in km. Default: half a window."),
    ] = None,
    land: Annotated[Path | None, typer.Option(help="Land raster, nonzero over land.")] = None,
    ice: Annotated[Path | None, typer.Option(help="Sea ice raster, nonzero over sea ice.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of windows per forward pass.")] = 16,
    precision: PrecisionOption = InferencePrecision.auto,
    workers: Annotated[int, typer.Option(min=0, help="Number of Dask worker processes; 0: none.")] = 0,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="tcp://…", help="Address of a Dask scheduler, instead of local processes."),
    ] = None,
    explain_method: Annotated[
        Method | None,
        typer.Option(
            "--explain",
            help="Attribution method; one attribution figure for each of the 20 most probable detections.",
        ),
    ] = None,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the detections.")
    ] = TableFormat.table,
) -> None:
    """Predict a radar scene with a sliding window and list detections.

    The output files are a probability map, the number of windows per pixel, the detections and a
    figure. The detections are also printed. Memory use does not depend on the size of the scene.
    """
    opened = open_model(model, weights)
    from geovision.inference import ExecutorConfig
    from geovision.sar import SceneConfig, predict_scene

    declared = SceneConfig(
        None if quantity is None else quantity.value,
        bands=parse_bands(bands) if bands else None,
        db_range=parse_db_range(db_range) if db_range else {},
        nodata=nodata,
        time=None if time is None else time.replace(tzinfo=datetime.UTC),
        crs=crs,
    )
    masks = {name: path for name, path in (("land", land), ("ice", ice)) if path is not None}

    def explain_window(window: Any) -> Any:
        assert explain_method is not None
        return api.explain(opened, window, method=explain_method.value).plot()

    with _steps_progress() as progress:
        summary = predict_scene(
            opened,
            source,
            out,
            declared,
            overlap=overlap,
            min_valid=min_valid,
            threshold=threshold,
            separation=separation,
            masks=masks,
            batch_size=batch_size,
            precision=precision.value,
            executor_config=ExecutorConfig(workers, scheduler),
            progress=progress,
            explain_fn=explain_window if explain_method else None,
        )
    write_rows(_rows(summary), _columns(masks), output_format)
    _print_summary(summary)


def _columns(masks: dict[str, Path]) -> list[str]:
    return ["longitude", "latitude", "radius_km", "probability", "valid", *masks]


def _rows(summary: SceneSummary) -> Iterator[dict[str, Any]]:
    for each in summary.detections:
        yield {
            "longitude": round(each.longitude, 4),
            "latitude": round(each.latitude, 4),
            "radius_km": round(each.radius, 1),
            "probability": round(each.probability, 4),
            "valid": round(each.valid, 3),
            **{
                name: None if share is None else round(share, 3)
                for name, share in each.mask_fractions.items()
            },
        }


def _print_summary(summary: SceneSummary) -> None:
    predicted = summary.windows - summary.skipped
    skipped = f", {summary.skipped} skipped with too few valid pixels" if summary.skipped else ""
    print_status(f"{len(summary.detections)} detections in {predicted} windows{skipped}")
    for path in summary.files.values():
        print_status(f"wrote {path}")


@contextmanager
def _steps_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show one progress bar per step on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    steps: dict[str, TaskID] = {}

    def show(what: str, done: int, whole: int) -> None:
        if what not in steps:
            steps[what] = bars.add_task(what, total=whole)
        bars.update(steps[what], completed=done, total=whole)

    with bars:
        yield show
