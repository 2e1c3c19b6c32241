"""Command `geovision occurrence`: compute class rates of a table by hour, month or station."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from geovision.cli._frame_options import (
    PREFIX_HELP,
    BeginOption,
    EndOption,
    SiteOption,
    StationOption,
    parse_frame_selection,
    parse_sites,
)
from geovision.cli._output import TableFormat, examples_epilog, print_status, write_rows

__all__ = ["register"]


class GroupByOption(enum.StrEnum):
    """Variables that group the frames."""

    hour = "hour"
    mlt = "mlt"
    month = "month"
    station = "station"


_HINTS = {"twilight": "; pass --site"}


def register(app: typer.Typer) -> None:
    """Add `occurrence` to the application."""
    app.command(
        "occurrence",
        epilog=examples_epilog(
            "geovision occurrence winter --group-by mlt --out winter-mlt",
            "geovision occurrence winter --group-by month --station gill --exclude dark --exclude moon_up",
        ),
    )(occurrence)


def occurrence(
    table: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Folder of a table that `geovision archive` wrote.")
    ],
    group_by: Annotated[
        GroupByOption,
        typer.Option(help="Grouping variable. mlt: magnetic local time, approximate; requires the site."),
    ] = GroupByOption.hour,
    out: Annotated[Path | None, typer.Option(metavar="PREFIX", help=PREFIX_HELP)] = None,
    station: StationOption = None,
    begin: BeginOption = None,
    end: EndOption = None,
    site: SiteOption = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FLAG",
            help="Flag of frames that are excluded. May be repeated. Default: unreadable, dark, twilight.",
        ),
    ] = None,
    n_bootstrap: Annotated[
        int, typer.Option(min=0, help="Number of bootstrap resamples; 0: no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the output.")
    ] = TableFormat.table,
) -> None:
    """Compute the fraction of frames of each class, with bootstrap intervals over nights."""
    from geovision.allsky._occurrence import DEFAULT_EXCLUDED
    from geovision.allsky._occurrence import occurrence as count

    found = count(
        table,
        group_by.value,
        sites=parse_sites(site),
        exclude=exclude or DEFAULT_EXCLUDED,
        where=parse_frame_selection(station, None, None, begin, end).to_filter(readable_only=False),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    for reason, number in found.excluded_frames.items():
        print_status(f"{number:,} frames excluded: {reason}")
    for flag, number in found.unknown_flags.items():
        print_status(f"{number:,} frames included with unknown flag {flag}" + _HINTS.get(flag, ""))
    write_rows(found.rows, list(found.rows[0]), output_format)
    if out:
        png, numbers = found.save(out)
        print_status(f"wrote the figure to {png} and the rows to {numbers}")
