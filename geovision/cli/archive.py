"""Command `geovision archive`: predict the frames of an archive and append to a table."""

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
"""Maximum number of bad files that are printed; the table contains all of them."""

_PROGRESS_INTERVAL = 30.0
"""Seconds between two progress lines if standard error is not a terminal."""


def register(app: typer.Typer) -> None:
    """Add `archive` to the application."""
    app.command(
        "archive",
        epilog=examples_epilog(
            "geovision archive runs/aurora photos/ --pattern '{station}_%Y%m%d_%H%M%S.jpg' --out winter",
            "geovision archive runs/aurora themis/2014 --out winter --channels grey --stretch estimate "
            "--circle find --site gill=56.38,-94.64",
            "# The same command continues after an interruption and adds new frames.",
            "geovision archive runs/aurora list.txt --out winter --scheduler tcp://10.0.0.1:8786",
        ),
    )(archive)


def archive(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Folders, files, glob patterns, text files of paths, or fsspec URLs."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the table. An existing table is continued.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    pattern: PatternOption = None,
    channels: ChannelsOption = None,
    stretch: StretchOption = None,
    circle: CircleOption = None,
    site: SiteOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Number of Dask worker processes; 0: none. Default: one per CPU."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="tcp://…", help="Address of a Dask scheduler, instead of local processes."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT", help="Memory limit of a local process, such as 2GiB. Default: no limit."
        ),
    ] = None,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Number of files predicted and written together.")
    ] = 128,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Number of frames per forward pass. Default: chosen by the model."),
    ] = None,
    precision: PrecisionOption = InferencePrecision.auto,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the summary.")
    ] = TableFormat.table,
) -> None:
    """Predict every frame of an archive and write a Parquet table by station and date.

    Unreadable frames become rows without a class. Their files are listed on standard error, and
    the exit code is 1. After an interruption, a kill or a completed run, the same command
    continues the table.
    """
    find_entry(model)
    executor_config = _executor_config(workers, scheduler, memory)
    frame_config = parse_frame_config(pattern, channels, stretch, circle, site)
    opened = open_model(model, weights)
    frame_config = resolve_frame_config(frame_config, source, out, stretch, circle)
    try:
        with _progress_display() as progress:
            summary = api.predict_archive(
                opened,
                source,
                out,
                frame_config=frame_config,
                executor_config=executor_config,
                shard_size=shard_size,
                batch_size=batch_size,
                precision=precision.value,
                progress=progress,
            )
    except KeyboardInterrupt:
        print_status(f"interrupted; {out} contains the finished shards. Run the same command to continue")
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
        raise OptionError("--scheduler uses its own workers; omit --workers and --memory")
    if num_workers == 0 and memory:
        raise OptionError("--memory limits worker processes, and --workers 0 starts none; omit one of them")
    return ExecutorConfig(num_cpus() if num_workers is None else num_workers, scheduler, memory)


def _print_summary(summary: ArchiveSummary, output_format: TableFormat) -> None:
    for path, reason in list(summary.unreadable_files.items())[:_MAX_FILES_LISTED]:
        print_status(reason if path in reason else f"{path}: {reason}")
    if len(summary.unreadable_files) > _MAX_FILES_LISTED:
        print_status(
            f"and {len(summary.unreadable_files) - _MAX_FILES_LISTED} more unreadable files; "
            "the table contains them as unreadable rows"
        )
    for reason in summary.failed_shards.values():
        print_status(f"failed shard: {reason}")
    if summary.failed_shards:
        print_status("run the same command to retry the failed shards")
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
    """Show a progress bar on standard error, or lines if it is not a terminal."""
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
    printed = time.monotonic()

    def show(progress: ArchiveProgress) -> None:
        nonlocal printed
        if time.monotonic() - printed >= _PROGRESS_INTERVAL:
            printed = time.monotonic()
            print_status(_format_progress(progress))

    return show


def _format_progress(progress: ArchiveProgress) -> str:
    """Format progress as ``1,200 of 5,000 files, 310 frames/s, 0:04:12 left``."""
    parts = [f"{progress.files:,} of {progress.total_files:,} files"]
    if progress.new_frames:
        parts.append(f"{progress.frames_per_second:,.0f} frames/s")
    left = progress.remaining_seconds
    if left is not None:
        parts.append(f"{_format_duration(left)} left")
    if progress.failed_shards:
        parts.append(f"{progress.failed_shards} shards failed")
    return ", ".join(parts)


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
