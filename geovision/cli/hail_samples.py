"""`geovision hail-samples`: files of each source and labels to hail samples."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geovision.cli._key_value import parse_key_values
from geovision.cli._output import examples_epilog, print_status
from geovision.errors import InputError, OptionError

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["register"]


class Matching(enum.StrEnum):
    """How a window finds its value in time."""

    backward = "backward"
    nearest = "nearest"


class StoreFormat(enum.StrEnum):
    """What is written."""

    nc = "nc"
    zarr = "zarr"


def register(app: typer.Typer) -> None:
    """Add `hail-samples` to the application."""
    app.command(
        "hail-samples",
        epilog=examples_epilog(
            "geovision hail-samples labels.nc --radar 'volumes/*.h5' --agri 'agri/*.HDF' "
            "--era5 'era5/*.nc' --dem 'dem/*.hgt.zip' --out samples",
            "… --center 30.5,112.0 --size 128 --matching nearest --only-hail",
        ),
    )(hail_samples)


def hail_samples(
    labels: Annotated[
        Path, typer.Argument(help="What `geovision hail-labels` wrote: a sample ends at each of its times.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the samples.")],
    radar: Annotated[
        list[str] | None,
        typer.Option(help="Volumes, or grids in NetCDF or Zarr; a pattern in quotes, may be given again."),
    ] = None,
    agri: Annotated[list[str] | None, typer.Option(help="AGRI full discs of level 1, 4000M.")] = None,
    era5: Annotated[
        list[str] | None,
        typer.Option(help="ERA5, NetCDF or GRIB: t, z, u, v on pressure levels; cape, d2m, u10, v10."),
    ] = None,
    dem: Annotated[
        list[str] | None, typer.Option(help="Heights of the ground: GeoTIFF, .hgt, zipped .hgt.")
    ] = None,
    center: Annotated[
        str, typer.Option(help="Middle of the samples, latitude,longitude; else that of the labels.")
    ] = "",
    size: Annotated[int, typer.Option(help="Points a side.")] = 128,
    resolution: Annotated[float, typer.Option(help="Degrees between points.")] = 0.01,
    windows: Annotated[int, typer.Option(help="Windows of a sample.")] = 20,
    step: Annotated[float, typer.Option(help="Minutes between them.")] = 6.0,
    matching: Annotated[
        Matching,
        typer.Option(
            help="backward: the last that began by then, as a forecaster "
            "has it; nearest: as published, from the future "
            "too."
        ),
    ] = Matching.backward,
    max_time_offset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=MINUTES",
            help="Largest age of a source: radar=6, agri=30, era5=120. "
            "Older data are missing. May be repeated.",
        ),
    ] = None,
    only_hail: Annotated[
        bool, typer.Option("--only-hail", help="Leave out times without hail in the sample.")
    ] = False,
    store: Annotated[StoreFormat, typer.Option(help="Files or folders.")] = StoreFormat.nc,
) -> None:
    """Bring radar, satellite, reanalysis and terrain to one grid and one clock, a sample for each label.

    A source that is not given is missing in every sample. A file that cannot be used is named on standard
    error and missing, a time for which there is nothing is named and left out, and the exit code is 1.
    Prints a row a sample.
    """
    from geovision.cli._output import align_columns
    from geovision.datasets.hail_collocation import HailSources, SampleGrid, build_sample
    from geovision.readers.hail_samples import write_sample

    troubles: list[str] = []

    def told(trouble: str) -> None:
        if trouble not in troubles:  # an hour of one file has the trouble of the next
            troubles.append(trouble)
            print_status(trouble)

    known = _read_labels(labels)
    latitude, longitude = _parse_center(center, known)
    sources = HailSources(
        SampleGrid(latitude, longitude, (size, size), resolution),
        radar=_expand_patterns(radar, "--radar"),
        agri=_expand_patterns(agri, "--agri"),
        era5=_expand_patterns(era5, "--era5"),
        dem=_expand_patterns(dem, "--dem"),
        on_skip=told,
    ).prepare()
    ages = _parse_max_ages(max_time_offset or [])
    rows = [["time", "hail points", *(f"{name} windows" for name in ages), "file"]]
    for number, time in enumerate(known["time"].values):
        label = known["hail"].values[number]
        if only_hail and not (label == 1).any():
            continue
        try:
            sample = build_sample(
                sources,
                time,
                label,
                known["latitude"].values,
                known["longitude"].values,
                windows=windows,
                step=step,
                method=matching.value,
                maximum_age=ages,
            )
        except InputError as error:
            told(str(error))
            continue
        hail = int((sample.label == 1).sum())
        if only_hail and not hail:
            continue
        path = write_sample(sample, out, kind=store.value)
        present = (str(int((sample.sources[name].age == sample.sources[name].age).sum())) for name in ages)
        rows.append([str(time)[:19], str(hail), *present, path.name])
    if len(rows) == 1:
        raise InputError(
            f"{labels}: none of its {known.sizes['time']} times gave a sample{' with hail' * only_hail}; "
            "nothing was written"
        )
    for line in align_columns(rows):
        print(line)
    print_status(f"{len(rows) - 1} samples are in {out}")
    if troubles:
        raise typer.Exit(1)


def _expand_patterns(patterns: list[str] | None, option: str) -> list[Path]:
    import glob

    found: list[Path] = []
    for pattern in patterns or []:
        matches = sorted(Path(each) for each in glob.glob(pattern)) or [Path(pattern)]  # noqa: PTH207
        if not matches[0].exists():
            raise OptionError(f"{option} {pattern!r}: no such file")
        found += matches
    return found


def _read_labels(path: Path) -> Dataset:
    from geovision.errors import MissingExtraError, UnreadableFileError

    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    try:
        with xarray.open_dataset(path, engine="h5netcdf") as dataset:
            held = dataset.load()
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableFileError(f"{path}: cannot be read as labels ({reason})") from error
    lacking = [name for name in ("hail", "time", "latitude", "longitude") if name not in held.variables]
    if lacking:
        raise InputError(f"{path}: no {lacking[0]!r} in it; expected what `geovision hail-labels` writes")
    return held.sortby("time")


_SOURCES = {"radar": "radar", "agri": "fy4b", "era5": "era5"}
"""Source on the command line to its name in samples."""


def _parse_max_ages(texts: list[str]) -> dict[str, float]:
    """Return the largest age of each source, in minutes."""
    ages = {"radar": 6.0, "fy4b": 30.0, "era5": 120.0}
    for name, minutes in parse_key_values(texts, "--max-time-offset", "SOURCE=MINUTES", float).items():
        if name not in _SOURCES:
            raise OptionError(f"--max-time-offset {name}: unknown source; known: {', '.join(_SOURCES)}")
        ages[_SOURCES[name]] = minutes
    return ages


def _parse_center(text: str, labels: Dataset) -> tuple[float, float]:
    if not text:
        return float(labels["latitude"].mean()), float(labels["longitude"].mean())
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(
            f"--center {text!r}: expected latitude,longitude in degrees, such as 30.5,112.0"
        ) from error
    return latitude, longitude
