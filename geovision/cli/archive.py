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
    parse_frame_config,
    resolve_frame_config,
)
from geovision.cli._model_argument import find_entry, open_model
from geovision.cli._output import TableFormat, examples_epilog, print_status, write_rows
from geovision.cli.predict import InferencePrecision, PrecisionOption
from geovision.errors import OptionError

if TYPE_CHECKING:
    from geovision.inference import ArchiveProgress, ArchiveSummary, ExecutorConfig

__all__ = ["register"]

_MAX_FILES_LISTED = 20
"""So many bad files are named on the screen; the table names all."""

_PROGRESS_INTERVAL = 30.0
"""Seconds between two lines of progress where nobody sees a bar move."""


def register(app: typer.Typer) -> None:
    app.command(
        "archive",
        epilog=examples_epilog(
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
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="How to write the summary.")
    ] = TableFormat.table,
) -> None:
    """Answer for every frame of an archive, and write a table of Parquet by station and date.

    Frames that cannot be read are rows without a class; their files are named on standard error, and
    the exit code is 1. Interrupted, killed or finished, the same command goes on.
    """
    find_entry(model)
    who = _executor_config(workers, scheduler, memory)
    reading = parse_frame_config(pattern, channels, stretch, circle, site)
    opened = open_model(model, weights)
    reading = resolve_frame_config(reading, source, out, stretch, circle)
    try:
        with _progress_display() as progress:
            summary = api.predict_archive(
                opened,
                source,
                out,
                frame_config=reading,
                executor_config=who,
                shard_size=shard_size,
                batch_size=batch_size,
                precision=precision.value,
                progress=progress,
            )
    except KeyboardInterrupt:
        print_status(f"interrupted; what is finished stays in {out}, and the same command goes on")
        raise
    _print_summary(summary, output_format)
    if summary.unreadable_files or summary.failed_shards:
        raise typer.Exit(1)


def _executor_config(
    num_workers: int | None, scheduler: str | None, memory: str | None
) -> ExecutorConfig | None:
    from geovision.inference import ExecutorConfig
    from geovision.inference.executor import num_cpus

    if scheduler and (num_workers is not None or memory):
        raise OptionError("--scheduler has workers of its own; leave out --workers and --memory")
    if num_workers == 0 and memory:
        raise OptionError("--memory is of processes apart; with --workers 0 there is none")
    return ExecutorConfig(num_cpus() if num_workers is None else num_workers, scheduler, memory)


def _print_summary(summary: ArchiveSummary, output_format: TableFormat) -> None:
    for path, reason in list(summary.unreadable_files.items())[:_MAX_FILES_LISTED]:
        print_status(reason if path in reason else f"{path}: {reason}")
    if len(summary.unreadable_files) > _MAX_FILES_LISTED:
        print_status(
            f"and {len(summary.unreadable_files) - _MAX_FILES_LISTED} more; the table has them as rows "
            "that are unreadable"
        )
    for reason in summary.failed_shards.values():
        print_status(f"given up: {reason}")
    if summary.failed_shards:
        print_status("the same command tries again what was given up")
    row = {
        "table": str(summary.folder),
        "frames": summary.frames,
        "new": summary.new_frames,
        "bad_files": len(summary.unreadable_files),
        "given_up": len(summary.failed_shards),
        "seconds": round(summary.seconds, 1),
        "frames_per_s": round(summary.frames_per_second, 1),
    }
    write_rows([row], list(row), output_format)


# --- progress -----------------------------------------------------------------------------------


@contextmanager
def _progress_display() -> Iterator[Callable[[ArchiveProgress], None]]:
    """A bar on standard error, or a line now and then where that is no screen."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_progress()
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    bars = Bars(TextColumn("files"), BarColumn(), TextColumn("{task.fields[state]}"), console=console)
    with bars:
        task = bars.add_task("", total=None, state="listing")

        def show(progress: ArchiveProgress) -> None:
            bars.update(
                task, total=progress.total_files, completed=progress.files, state=_format_progress(progress)
            )

        yield show


def _line_progress() -> Callable[[ArchiveProgress], None]:
    told = time.monotonic()

    def show(progress: ArchiveProgress) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_INTERVAL:
            told = time.monotonic()
            print_status(_format_progress(progress))

    return show


def _format_progress(progress: ArchiveProgress) -> str:
    """``1,200 of 5,000 files, 310 frames/s, 0:04:12 left``."""
    parts = [f"{progress.files:,} of {progress.total_files:,} files"]
    if progress.new_frames:
        parts.append(f"{progress.frames_per_second:,.0f} frames/s")
    left = progress.remaining_seconds
    if left is not None:
        parts.append(f"{_format_duration(left)} left")
    if progress.failed_shards:
        parts.append(f"{progress.failed_shards} shards given up")
    return ", ".join(parts)


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
