"""`geovision archive`: a model over every frame of an archive, as a table that grows with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geovision import api
from geovision.cli._frame_options import (
    ChannelsOption,
    CircleOption,
    PatternOption,
    SiteOption,
    StretchOption,
    declared,
    surveyed,
)
from geovision.cli._model_argument import check_name, open_model
from geovision.cli._output import TableFormat, examples, say, write_rows
from geovision.cli.predict import InferencePrecision, PrecisionOption
from geovision.errors import OptionError

if TYPE_CHECKING:
    from geovision.inference import ArchiveProgress, ArchiveSummary, ExecutorConfig

__all__ = ["register"]

_NAMED = 20
"""So many bad files are named on the screen; the table names all."""

_BETWEEN = 30.0
"""Seconds between two lines of progress where nobody sees a bar move."""


def register(app: typer.Typer) -> None:
    app.command(
        "archive",
        epilog=examples(
            "geovision archive runs/aurora photos/ --pattern '{station}_%Y%m%d_%H%M%S.jpg' --out winter",
            "geovision archive runs/aurora themis/2014 --out winter --channels grey --stretch estimate "
            "--circle find --site gill=56.38,-94.64",
            "the same again goes on after an interruption, and takes in what is new",
            "geovision archive runs/aurora list.txt --out winter --scheduler tcp://10.0.0.1:8786",
        ),
    )(archive)


def archive(
    model: Annotated[str, typer.Argument(help="A model's name, or a folder with a trained model.")],
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Folders, files, patterns, text files of paths, or fsspec addresses."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the table; one that is there is gone on with.")],
    weights: Annotated[str | None, typer.Option(help="Tag or folder; the default weights if absent.")] = None,
    pattern: PatternOption = None,
    channels: ChannelsOption = None,
    stretch: StretchOption = None,
    circle: CircleOption = None,
    site: SiteOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Dask worker processes; 0: none. Default: the number of processors."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="tcp://…", help="A Dask scheduler instead of local processes.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT", help="That a local process may take, such as 2GiB; no limit if absent."
        ),
    ] = None,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Number of files predicted and written together.")
    ] = 128,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Frames a forward pass; what suits the model if absent."),
    ] = None,
    precision: PrecisionOption = InferencePrecision.auto,
    form: Annotated[
        TableFormat, typer.Option("--format", help="How to write the summary.")
    ] = TableFormat.table,
) -> None:
    """Answer for every frame of an archive, and write a table of Parquet by station and date.

    Frames that cannot be read are rows without a class; their files are named on standard error, and
    the exit code is 1. Interrupted, killed or finished, the same command goes on.
    """
    check_name(model)
    who = _workers(workers, scheduler, memory)
    reading = declared(pattern, channels, stretch, circle, site)
    opened = open_model(model, weights)
    reading = surveyed(reading, source, out, stretch, circle)
    try:
        with _shown() as progress:
            summary = api.predict_archive(
                opened,
                source,
                out,
                frame_config=reading,
                executor=who,
                shard_size=shard_size,
                batch_size=batch_size,
                precision=precision.value,
                progress=progress,
            )
    except KeyboardInterrupt:
        say(f"interrupted; what is finished stays in {out}, and the same command goes on")
        raise
    _tell(summary, form)
    if summary.bad or summary.failed:
        raise typer.Exit(1)


def _workers(count: int | None, scheduler: str | None, memory: str | None) -> ExecutorConfig | None:
    from geovision.inference import ExecutorConfig
    from geovision.inference.executor import cores

    if scheduler and (count is not None or memory):
        raise OptionError("--scheduler has workers of its own; leave out --workers and --memory")
    if count == 0 and memory:
        raise OptionError("--memory is of processes apart; with --workers 0 there is none")
    return ExecutorConfig(cores() if count is None else count, scheduler, memory)


def _tell(summary: ArchiveSummary, form: TableFormat) -> None:
    for path, reason in list(summary.bad.items())[:_NAMED]:
        say(reason if path in reason else f"{path}: {reason}")
    if len(summary.bad) > _NAMED:
        say(f"and {len(summary.bad) - _NAMED} more; the table has them as rows that are unreadable")
    for reason in summary.failed.values():
        say(f"given up: {reason}")
    if summary.failed:
        say("the same command tries again what was given up")
    row = {
        "table": str(summary.folder),
        "frames": summary.frames,
        "new": summary.frames_now,
        "bad_files": len(summary.bad),
        "given_up": len(summary.failed),
        "seconds": round(summary.seconds, 1),
        "frames_per_s": round(summary.rate, 1),
    }
    write_rows([row], list(row), form)


# --- progress -----------------------------------------------------------------------------------


@contextmanager
def _shown() -> Iterator[Callable[[ArchiveProgress], None]]:
    """A bar on standard error, or a line now and then where that is no screen."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    bars = Bars(TextColumn("files"), BarColumn(), TextColumn("{task.fields[state]}"), console=console)
    with bars:
        task = bars.add_task("", total=None, state="listing")

        def show(progress: ArchiveProgress) -> None:
            bars.update(task, total=progress.files_in_all, completed=progress.files, state=_state(progress))

        yield show


def _lines() -> Callable[[ArchiveProgress], None]:
    told = time.monotonic()

    def show(progress: ArchiveProgress) -> None:
        nonlocal told
        if time.monotonic() - told >= _BETWEEN:
            told = time.monotonic()
            say(_state(progress))

    return show


def _state(progress: ArchiveProgress) -> str:
    """``1,200 of 5,000 files, 310 frames/s, 0:04:12 left``."""
    parts = [f"{progress.files:,} of {progress.files_in_all:,} files"]
    if progress.frames_now:
        parts.append(f"{progress.rate:,.0f} frames/s")
    left = progress.seconds_left
    if left is not None:
        parts.append(f"{_clock(left)} left")
    if progress.failed:
        parts.append(f"{progress.failed} shards given up")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
