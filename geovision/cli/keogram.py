"""Command `geovision keogram`: plot a slice of the frames of one camera over time."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from geovision.cli._frame_options import (
    PREFIX_HELP,
    BeginOption,
    CircleOption,
    EndOption,
    PatternOption,
    SiteOption,
    StationOption,
    StretchOption,
    parse_frame_config,
    parse_frame_selection,
    resolve_frame_config,
)
from geovision.cli._output import examples_epilog, print_status
from geovision.errors import OptionError

__all__ = ["register"]


class MeridianKind(enum.StrEnum):
    """Meridians of a keogram."""

    geographic = "geographic"
    magnetic = "magnetic"


class EastSide(enum.StrEnum):
    """Side of east in a frame with north at its top."""

    left = "left"
    right = "right"


def register(app: typer.Typer) -> None:
    """Add `keogram` to the application."""
    app.command(
        "keogram",
        epilog=examples_epilog(
            "geovision keogram winter --station gill --date 2014-03-10 --out gill-0310",
            "geovision keogram 'themis/2014/*.pgm.gz' --stretch estimate --circle find --out gill",
            "geovision keogram winter --station gill --from 2014-03-10T04:00 --to 2014-03-10T08:00 "
            "--north 12 --meridian magnetic --out substorm",
        ),
    )(keogram)


def keogram(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Folder of a table, or frames in any form that `geovision archive` accepts.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="PREFIX", help=PREFIX_HELP)],
    station: StationOption = None,
    device: Annotated[str | None, typer.Option(help="Code of the camera.")] = None,
    date: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Day in UTC.")] = None,
    begin: BeginOption = None,
    end: EndOption = None,
    north: Annotated[
        float | None,
        typer.Option(
            help="Direction of geographic north in the frames, in degrees clockwise from the top. Default: "
            "the middle column is plotted."
        ),
    ] = None,
    meridian: Annotated[
        MeridianKind,
        typer.Option(
            help="Meridian of the slice. magnetic: toward the pole of a dipole, approximate; needs the site."
        ),
    ] = MeridianKind.geographic,
    east: Annotated[
        EastSide,
        typer.Option(help="Side of east in a frame with north at the top. left: the view from below."),
    ] = EastSide.left,
    pattern: PatternOption = None,
    stretch: StretchOption = None,
    circle: CircleOption = None,
    site: SiteOption = None,
) -> None:
    """Plot one slice of each frame over time, with the classes stored in a table.

    Frames of a table are read with the options stored in the table. The paths of the figure and
    of its CSV file are printed.
    """
    from geovision.allsky._keogram import Meridian
    from geovision.allsky._keogram import keogram as collect
    from geovision.inference.table import ArchiveTable

    chosen = parse_frame_selection(station, device, date, begin, end)
    frame_config = parse_frame_config(pattern, None, stretch, circle, site)
    is_table = len(source) == 1 and ArchiveTable(Path(source[0])).exists()
    if is_table and (pattern or stretch or circle):
        raise OptionError(
            f"{source[0]} is a table with stored frame options; omit --pattern, --stretch and --circle"
        )
    if not is_table:
        frame_config = resolve_frame_config(frame_config, source, out, stretch, circle)
    with _files_progress() as progress:
        result = collect(
            source[0] if is_table else source,
            selection=chosen,
            frame_config=frame_config,
            meridian=Meridian(north, meridian.value, east.value),
            progress=progress,
        )
    for reason in result.missing.values():
        print_status(reason)
    for path in result.save(out):
        print(path)
    if result.missing:
        print_status(f"{len(result.missing)} files are unreadable, partly or completely")
        raise typer.Exit(1)


@contextmanager
def _files_progress() -> Iterator[Any]:
    """Show a progress bar of files on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("files", total=None)

        def show(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield show
