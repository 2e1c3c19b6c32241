"""Command `geovision polarlow-samples`: build a dataset from tracks and radar scenes."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from geovision.cli._output import TableFormat, examples_epilog, print_status, write_rows
from geovision.cli._sar_options import Quantity, parse_bands, parse_db_range

__all__ = ["register"]

_COLUMNS = ["picture", "folder", "scene", "latitude", "longitude", "track", "minutes_apart", "with_data"]


def register(app: typer.Typer) -> None:
    """Add `polarlow-samples` to the application."""
    app.command(
        "polarlow-samples",
        epilog=examples_epilog(
            "geovision polarlow-samples tracks.csv 'scenes/*.tif' --out mine --quantity db "
            "--db-range cross_pol=-36:-14,co_pol=-28:-2",
            "geovision train polarlow-xception --dataset polar-lows --data mine",
        ),
    )(polar_low_samples)


def polar_low_samples(
    tracks: Annotated[
        Path,
        typer.Argument(
            help="CSV file with the columns time, latitude and longitude, and optionally track and label "
            "(pos, neg)."
        ),
    ],
    scenes: Annotated[
        list[str],
        typer.Argument(help="GeoTIFF or COG files, each with both polarizations.", metavar="SCENE..."),
    ],
    out: Annotated[Path, typer.Option(help="Output folder of the dataset.")],
    quantity: Annotated[
        Quantity, typer.Option(help="Quantity of the values of the scenes; it is never guessed.")
    ],
    db_range: Annotated[
        str | None,
        typer.Option(
            help="Backscatter of the counts 1 and 255, in dB, such as cross_pol=-36:-14,co_pol=-28:-2."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Band numbers, such as cross_pol=2,co_pol=1. Default: bands are found by their names."
        ),
    ] = None,
    max_time_offset: Annotated[
        float, typer.Option(min=0, help="Maximum time between a scene and a track, in minutes.")
    ] = 90,
    pixel_size: Annotated[float, typer.Option(min=1, help="Side of a pixel, in m.")] = 500,
    extent: Annotated[float, typer.Option(min=1, help="Side of an image, in km.")] = 400,
    split: Annotated[str, typer.Option(help="Split of labeled images: train or test.")] = "train",
    min_valid: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum fraction of valid pixels in an image.")
    ] = 0.3,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the list.")
    ] = TableFormat.table,
) -> None:
    """Extract images of tracked polar lows from radar scenes.

    Images without a label are written to OUT/unsorted. Inspect them and move them to
    OUT/train/pos and OUT/train/neg.
    """
    from geovision.datasets.polar_low_collocation import collocate, read_tracks, write_samples
    from geovision.readers.images import expand
    from geovision.readers.sar import open_scene

    points = read_tracks(tracks)
    opened = [
        open_scene(
            path,
            ("cross_pol", "co_pol"),
            quantity=quantity.value,
            bands=parse_bands(bands) if bands else None,
        )
        for path in expand(list(scenes))
    ]
    for scene in opened:
        scene.check_values()
    found = list(collocate(opened, points, max_time_offset=datetime.timedelta(minutes=max_time_offset)))
    matches = f"{len(found)} matches within {max_time_offset:g} minutes"
    print_status(f"{len(points)} points and {len(opened)} scenes: {matches}")
    written = write_samples(
        found,
        out,
        parse_db_range(db_range) if db_range else None,
        split=split,
        pixel_size=pixel_size,
        extent=extent,
        min_valid=min_valid,
    )
    write_rows(written, _COLUMNS, output_format)
    print_status(
        f"wrote {len(written)} images to {out}; skipped {len(found) - len(written)} with too few valid pixels"
    )
