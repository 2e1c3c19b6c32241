"""Command `geovision hail-labels`: compute hail products and labels from radar volumes."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geovision.cli._output import examples_epilog, print_status
from geovision.errors import InputError, OptionError

if TYPE_CHECKING:
    from xarray import Dataset


__all__ = ["register"]


class HailSizeMethod(enum.StrEnum):
    """Calibrations of the hail size."""

    witt = "witt"
    mesh75 = "mesh75"
    mesh95 = "mesh95"


class LabelRule(enum.StrEnum):
    """Rules that define a hail label."""

    two_stage = "two-stage"
    posh = "posh"


def register(app: typer.Typer) -> None:
    """Add `hail-labels` to the application."""
    app.command(
        "hail-labels",
        epilog=examples_epilog(
            "geovision hail-labels storm/*.h5 --out labels.nc --freezing-level 3200 --minus20-level 6300",
            "… --levels 1000:16000:500 --range 100000 --rule posh --figures maps/storm",
        ),
    )(hail_labels)


def hail_labels(
    volumes: Annotated[
        list[Path],
        typer.Argument(
            help="ODIM_H5 or NEXRAD level-2 volumes of one radar, in any order.", metavar="VOLUME..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output file, NetCDF.")],
    freezing_level: Annotated[
        float, typer.Option(help="Height of 0 degrees Celsius, in m above mean sea level.")
    ],
    minus20_level: Annotated[
        float,
        typer.Option("--minus20-level", help="Height of -20 degrees Celsius, in m above mean sea level."),
    ],
    resolution: Annotated[float, typer.Option(help="Grid spacing, in m.")] = 1000.0,
    max_range: Annotated[
        float, typer.Option("--range", help="Distance from the radar to the edge of the grid, in m.")
    ] = 150_000.0,
    levels: Annotated[
        str,
        typer.Option(help="Heights in m above mean sea level: first:last:step, or a comma-separated list."),
    ] = "500:20000:500",
    mesh: Annotated[HailSizeMethod, typer.Option(help="Calibration of the hail size.")] = HailSizeMethod.witt,
    vil_cap: Annotated[
        float,
        typer.Option(
            help="Upper limit of reflectivity in the vertically integrated liquid, in dBZ; 0: none."
        ),
    ] = 56.0,
    rule: Annotated[
        LabelRule,
        typer.Option(
            help="Label rule. two-stage: armed cells, labeled at touchdown; posh: probability of severe hail "
            "only."
        ),
    ] = LabelRule.two_stage,
    armed_height: Annotated[
        float,
        typer.Option(
            help="Minimum height of the largest reflectivity of an armed cell, in m above mean sea level."
        ),
    ] = 6000.0,
    quantity: Annotated[str, typer.Option(help="Name of the reflectivity in the files.")] = "DBZH",
    figures: Annotated[
        Path | None,
        typer.Option(help="Path prefix of a map of each volume; the time and .png are appended."),
    ] = None,
) -> None:
    """Label hail in radar volumes and write hail products, storm cells and labels.

    Volumes are sorted by time, and cells are tracked between volumes. Unreadable volumes are
    listed on standard error, the others are labeled, and the exit code is 1. One row per volume
    is printed.
    """
    from geovision.physics import hail
    from geovision.readers.radar import RadarGrid, grid_volume, read_volume

    _check_options(freezing_level, minus20_level, vil_cap)
    grid = RadarGrid(resolution=resolution, half_width=max_range, levels=_parse_heights(levels))
    products: list[Dataset] = []
    for path in volumes:
        try:
            volume = grid_volume(read_volume(path, quantity=quantity), grid)
            found = hail.hail_products(
                volume,
                freezing_level=freezing_level,
                minus20_level=minus20_level,
                calibration=mesh.value,
                cap_dbz=vil_cap or None,
            )
            _check_consistent(products, found, path)
        except InputError as error:
            print_status(str(error) if str(path) in str(error) else f"{path}: {error}")
        else:
            products.append(found)
            coverage = "" if found["maximum_reflectivity"].notnull().any() else "; no valid cell on the grid"
            print_status(f"{path}: {str(volume['time'].values)[:19]} UTC{coverage}")
    unreadable = len(volumes) - len(products)
    if not products:
        raise InputError("no volume could be labeled; nothing was written")
    chosen = hail.PoshRule() if rule is LabelRule.posh else hail.TwoStageRule(height=armed_height)
    labels = hail.hail_labels(hail.join_volumes(products), chosen)
    _write_labels(labels, out)
    if figures:
        _plot_labels(labels, figures)
    for line in _summary(labels):
        print(line)
    if unreadable:
        print_status(f"{unreadable} could not be labeled")
        raise typer.Exit(1)


def _check_options(freezing_level: float, minus20_level: float, vil_cap: float) -> None:
    # Invalid options fail here, before the volumes are read, which can take an hour.
    from geovision.physics.hail.checks import check_heights

    check_heights(freezing_level, minus20_level, "--freezing-level, --minus20-level")
    if not vil_cap >= 0:
        raise OptionError(f"--vil-cap {vil_cap:g}: expected dBZ above 0, such as 56, or 0 for no cap")


def _check_consistent(products: Sequence[Dataset], found: Dataset, path: Path) -> None:
    """Raise if a volume has a duplicate time or a different grid."""
    from geovision.physics.hail.products import check_same_grid

    time = found["time"].values
    if any(each["time"].values == time for each in products):
        raise InputError(f"{path}: there is already a volume of {str(time)[:19]}; pass each volume once")
    for first in products[:1]:
        check_same_grid(first, found, str(path))


def _parse_heights(text: str) -> tuple[float, ...]:
    """Parse heights of the form ``first:last:step`` or ``a,b,c``."""
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        first, last, step = (float(part) for part in text.split(":"))
        return tuple(first + step * k for k in range(int((last - first) / step + 1e-9) + 1))
    except (ValueError, ZeroDivisionError) as error:
        raise OptionError(
            f"--levels {text!r}: expected first:last:step in m, such as 500:20000:500, or heights with commas"
        ) from error


def _write_labels(labels: Dataset, out: Path) -> None:
    from geovision._atomic_io import write_files
    from geovision.readers.netcdf import write_netcdf

    packed = {str(name): {"zlib": True, "complevel": 4} for name in labels.data_vars}
    write_files(out.parent, {out.name: lambda path: write_netcdf(labels, path, packed)})
    print_status(f"wrote the labels to {out}")


def _plot_labels(labels: Dataset, prefix: Path) -> None:
    from geovision._atomic_io import write_files
    from geovision.datasets.hail_label_plot import plot_hail_maps

    for k, time in enumerate(labels["time"].values):
        stamp = str(time)[:19].replace("-", "").replace(":", "")
        draw = functools.partial(plot_hail_maps(labels.isel(time=[k])).savefig, format="png", dpi=100)
        write_files(prefix.parent, {f"{prefix.name}_{stamp}.png": draw})
    print_status(f"wrote the maps to {prefix}_*.png")


def _summary(labels: Dataset) -> list[str]:
    """Return a table with one row per volume: maxima, cells and hail points."""
    import numpy as np

    from geovision.cli._output import align_columns

    rows = [["time", "dBZ", "POSH %", "MESH mm", "VIL kg m-2", "cells", "armed", "hail points"]]
    for k, time in enumerate(labels["time"].values):
        volume = labels.isel(time=k)
        cells = volume["cell"].values if "cell" in volume else np.zeros(1)
        armed = cells[volume["armed"].values > 0] if "armed" in volume else np.zeros(1)
        rows.append(
            [
                str(time)[:19],
                *(
                    f"{float(volume[name].max()):.1f}"
                    for name in (
                        "maximum_reflectivity",
                        "probability_of_severe_hail",
                        "maximum_expected_size_of_hail",
                        "vertically_integrated_liquid",
                    )
                ),
                str(np.unique(cells[cells > 0]).size),
                str(np.unique(armed[armed > 0]).size),
                str(int((volume["hail"].values == 1).sum())),
            ]
        )
    return align_columns(rows)
