"""`geovision scene`: a model over a whole radar scene."""

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
        typer.Argument(help="GeoTIFF of both polarisations, or a Sentinel-1 SAFE folder.", metavar="INPUT"),
    ],
    out: Annotated[Path, typer.Option(help="Folder and first part of the names of the results.")],
    quantity: Annotated[
        Quantity | None, typer.Option(help="What its numbers are; never guessed. A SAFE folder says it.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    db_range: Annotated[
        str | None,
        typer.Option(
            help="Decibels of the counts 1 and 255, such as cross_pol=-36:-14,co_pol=-28:-2. "
            "Default: those stored with the model."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Numbers of the bands, such as cross_pol=2,co_pol=1; by their names if absent."),
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="A value that stands for no data, beside what the file declares.")
    ] = None,
    time: Annotated[
        datetime.datetime | None, typer.Option(help="When it was taken, UTC; as the file says if absent.")
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option(
            help="Projection of the result in metres, such as EPSG:3413, or scene: the scene's own. "
            "Polar stereographic from 60 degrees on if absent."
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(min=0, max=0.95, help="Fraction of a window that its neighbour covers too.")
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
    land: Annotated[Path | None, typer.Option(help="A raster that is not 0 over land.")] = None,
    ice: Annotated[Path | None, typer.Option(help="A raster that is not 0 over sea ice.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of windows per forward pass.")] = 16,
    precision: PrecisionOption = InferencePrecision.auto,
    workers: Annotated[int, typer.Option(min=0, help="Dask worker processes; 0: none.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler instead.")] = None,
    explain_method: Annotated[
        Method | None,
        typer.Option(
            "--explain", help="Draw what speaks for each detection, by this method; the first 20 at most."
        ),
    ] = None,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the detections.")
    ] = TableFormat.table,
) -> None:
    """Ask a model about a whole radar scene, window by window: a map of probabilities, how many windows
    it was made of, detections, a picture.

    Prints the detections. Memory does not grow with the scene.
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

    def why(window: Any) -> Any:
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
            explain_fn=why if explain_method else None,
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
    asked = summary.windows - summary.skipped
    skipped = f", {summary.skipped} skipped for want of data" if summary.skipped else ""
    print_status(f"{len(summary.detections)} detections in {asked} windows{skipped}")
    for path in summary.files.values():
        print_status(f"wrote {path}")


@contextmanager
def _steps_progress() -> Iterator[Callable[[str, int, int], None]]:
    """One progress bar a step on standard error."""
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
