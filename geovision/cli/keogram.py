"""`geovision keogram` and `geovision occurrence`: what an archive shows, at a glance and counted."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geovision.cli._frame_options import (
    CircleOption,
    PatternOption,
    SiteOption,
    StretchOption,
    declared,
    parse_sites,
    surveyed,
)
from geovision.cli._output import Format, examples, say, write_rows
from geovision.errors import OptionError

if TYPE_CHECKING:
    from geovision.allsky._keogram import Chosen

__all__ = ["register"]


class Kind(enum.StrEnum):
    """Meridians."""

    geographic = "geographic"
    magnetic = "magnetic"


class Side(enum.StrEnum):
    """Of a frame with north at its top."""

    left = "left"
    right = "right"


class Group(enum.StrEnum):
    """What occurrence is told by."""

    hour = "hour"
    mlt = "mlt"
    month = "month"
    station = "station"


_OUT = "Path without extension: PREFIX.png and PREFIX.csv are written."
_STATION = typer.Option(help="Code of the station.")
_FROM = typer.Option("--from", metavar="TIME", help="UTC, such as 2014-03-10T06:00.")
_TO = typer.Option("--to", metavar="TIME", help="UTC, not included.")


def register(app: typer.Typer) -> None:
    app.command("keogram", epilog=examples(
        "geovision keogram winter --station gill --date 2014-03-10 --out gill-0310",
        "geovision keogram 'themis/2014/*.pgm.gz' --stretch estimate --circle find --out gill",
        "geovision keogram winter --station gill --from 2014-03-10T04:00 --to 2014-03-10T08:00 "
        "--north 12 --meridian magnetic --out substorm",
    ))(keogram)  # fmt: skip
    app.command("occurrence", epilog=examples(
        "geovision occurrence winter --by mlt --out winter-mlt",
        "geovision occurrence winter --by month --station gill --exclude unreadable --exclude moon_up",
    ))(occurrence)  # fmt: skip


def keogram(
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="The folder of a table, or frames as for `archive`."),
    ],
    out: Annotated[Path, typer.Option(metavar="PREFIX", help=_OUT)],
    station: Annotated[str | None, _STATION] = None,
    device: Annotated[str | None, typer.Option(help="Code of the camera.")] = None,
    date: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="One day of UTC.")] = None,
    begin: Annotated[str | None, _FROM] = None,
    end: Annotated[str | None, _TO] = None,
    north: Annotated[
        float | None,
        typer.Option(
            help="Where geographic north is in the frames, degrees clockwise from their top. If absent, "
            "the middle column is drawn."
        ),
    ] = None,
    meridian: Annotated[
        Kind, typer.Option(help="magnetic: towards the pole of a dipole, approximate; needs the site.")
    ] = Kind.geographic,
    east: Annotated[
        Side, typer.Option(help="Where east is with north at the top; left as seen from below.")
    ] = Side.left,
    pattern: PatternOption = None,
    stretch: StretchOption = None,
    circle: CircleOption = None,
    site: SiteOption = None,
) -> None:
    """Draw one slice of every frame side by side in time, over the classes that a table has of them.

    Of a table, frames are read as it was made. Prints the paths of the figure and of its numbers.
    """
    from geovision.allsky._keogram import Meridian
    from geovision.allsky._keogram import keogram as collect
    from geovision.inference.table import Table

    chosen = _chosen(station, device, date, begin, end)
    reading = declared(pattern, None, stretch, circle, site)
    of_table = len(source) == 1 and Table(Path(source[0])).begun()
    if of_table and (pattern or stretch or circle):
        raise OptionError(f"{source[0]} says how its frames are read; leave out how")
    if not of_table:
        reading = surveyed(reading, source, out, stretch, circle)
    with _files() as progress:
        made = collect(
            source[0] if of_table else source, chosen=chosen, reading=reading,
            meridian=Meridian(north, meridian.value, east.value), progress=progress,
        )  # fmt: skip
    for reason in made.missing.values():
        say(reason)
    for path in made.save(out):
        print(path)
    if made.missing:
        say(f"{len(made.missing)} files could not be read, in part or at all")
        raise typer.Exit(1)


def occurrence(
    table: Annotated[Path, typer.Argument(help="Folder that `geovision archive` wrote.")],
    by: Annotated[Group, typer.Option(help="Groups; mlt is approximate and needs the site.")] = Group.hour,
    out: Annotated[Path | None, typer.Option(metavar="PREFIX", help=_OUT)] = None,
    station: Annotated[str | None, _STATION] = None,
    begin: Annotated[str | None, _FROM] = None,
    end: Annotated[str | None, _TO] = None,
    site: SiteOption = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FLAG",
            help="Frames with this flag do not count; may be repeated. If absent: unreadable, dark and "
            "twilight.",
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Of the intervals; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    form: Annotated[Format, typer.Option("--format", help="How to write the rows.")] = Format.table,
) -> None:
    """Tell how often each class occurs: shares of frames, with bootstrap intervals over nights."""
    from geovision.allsky._occurrence import EXCLUDED
    from geovision.allsky._occurrence import occurrence as count

    found = count(
        table, by.value, sites=parse_sites(site), exclude=exclude or EXCLUDED,
        where=_chosen(station, None, None, begin, end).where(readable=False),
        resamples=resamples, seed=seed,
    )  # fmt: skip
    for reason, number in found.left_out.items():
        say(f"{number:,} frames left out: {reason}")
    for flag, number in found.unknown.items():
        say(f"{number:,} frames count for which {flag} is not known" + _HINTS.get(flag, ""))
    write_rows(found.rows, list(found.rows[0]), form)
    if out:
        png, numbers = found.save(out)
        say(f"drawn in {png}, the rows are in {numbers}")


_HINTS = {"twilight": "; give --site"}


def _chosen(
    station: str | None, device: str | None, date: str | None, begin: str | None, end: str | None
) -> Chosen:
    from geovision.allsky._keogram import Chosen

    if date and (begin or end):
        raise OptionError("--date is a whole day; leave it out, or --from and --to")
    if date:
        day = _time("--date", date)
        return Chosen(station, device, day, day + datetime.timedelta(days=1))
    first, last = (
        _time(option, text) if text else None for option, text in (("--from", begin), ("--to", end))
    )
    if first and last and first >= last:
        raise OptionError(f"--from {begin} is not before --to {end}")
    return Chosen(station, device, first, last)


def _time(option: str, text: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise OptionError(
            f"{option} {text!r} is no time; give it as 2014-03-10 or 2014-03-10T06:00"
        ) from error
    return time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)


@contextmanager
def _files() -> Iterator[Any]:
    """A bar of files on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("files", total=None)

        def show(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield show
