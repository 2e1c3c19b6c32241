"""Command `geovision hail-samples`: build hail samples from source files and labels."""

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
    """Methods that assign a measurement time to a window."""

    backward = "backward"
    nearest = "nearest"


class StoreFormat(enum.StrEnum):
    """Formats of a sample: NetCDF file or Zarr store."""

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
        Path,
        typer.Argument(
            help="Labels written by `geovision hail-labels`; each label time is the end of a sample."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder of the samples.")],
    radar: Annotated[
        list[str] | None,
        typer.Option(
            help="Radar volumes, or radar grids in NetCDF or Zarr; a quoted pattern. May be repeated."
        ),
    ] = None,
    agri: Annotated[
        list[str] | None, typer.Option(help="AGRI level-1 full disks, 4000M. May be repeated.")
    ] = None,
    era5: Annotated[
        list[str] | None,
        typer.Option(
            help="ERA5 files, NetCDF or GRIB: t, z, u, v on pressure levels; cape, d2m, u10, v10. "
            "May be repeated."
        ),
    ] = None,
    dem: Annotated[
        list[str] | None,
        typer.Option(help="Terrain heights: GeoTIFF, .hgt or zipped .hgt. May be repeated."),
    ] = None,
    center: Annotated[
        str,
        typer.Option(
            metavar="LAT,LON", help="Center of the samples, in degrees. Default: the center of the labels."
        ),
    ] = "",
    size: Annotated[int, typer.Option(help="Number of grid points per side.")] = 128,
    resolution: Annotated[float, typer.Option(help="Grid spacing, in degrees.")] = 0.01,
    windows: Annotated[int, typer.Option(help="Number of time windows in a sample.")] = 20,
    step: Annotated[float, typer.Option(help="Interval between time windows, in minutes.")] = 6.0,
    matching: Annotated[
        Matching,
        typer.Option(
            help="Time matching. backward: the last measurement that began by the window time, as in a "
            "forecast; nearest: the nearest measurement, also after the window time, as in the publication."
        ),
    ] = Matching.backward,
    max_time_offset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=MINUTES",
            help="Maximum age of a source, in minutes; older data are missing. May be repeated. "
            "Default: radar=6, agri=30, era5=120.",
        ),
    ] = None,
    only_hail: Annotated[
        bool, typer.Option("--only-hail", help="Skip label times without hail in the sample.")
    ] = False,
    store: Annotated[
        StoreFormat, typer.Option(help="Format of the samples: NetCDF files or Zarr stores.")
    ] = StoreFormat.nc,
) -> None:
    """Build hail samples: radar, satellite, reanalysis and terrain on one grid and time axis.

    One sample per label time is written. A source without files is missing in every sample.
    Unusable files are listed on standard error and treated as missing. Times without any data are
    listed and skipped. In both cases the exit code is 1. One row per sample is printed.
    """
    from geovision.cli._output import align_columns
    from geovision.datasets.hail_collocation import HailSources, SampleGrid, build_sample
    from geovision.readers.hail_samples import write_sample

    problems: list[str] = []

    def report_problem(problem: str) -> None:
        if problem not in problems:  # consecutive hours of one file have the same problem
            problems.append(problem)
            print_status(problem)

    known = _read_labels(labels)
    latitude, longitude = _parse_center(center, known)
    sources = HailSources(
        SampleGrid(latitude, longitude, (size, size), resolution),
        radar=_expand_patterns(radar, "--radar"),
        agri=_expand_patterns(agri, "--agri"),
        era5=_expand_patterns(era5, "--era5"),
        dem=_expand_patterns(dem, "--dem"),
        on_skip=report_problem,
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
            report_problem(str(error))
            continue
        hail = int((sample.label == 1).sum())
        if only_hail and not hail:
            continue
        path = write_sample(sample, out, kind=store.value)
        present = (str(int((sample.sources[name].age == sample.sources[name].age).sum())) for name in ages)
        rows.append([str(time)[:19], str(hail), *present, path.name])
    if len(rows) == 1:
        raise InputError(
            f"{labels}: no sample{' with hail' * only_hail} at any of its {known.sizes['time']} times; "
            "nothing was written"
        )
    for line in align_columns(rows):
        print(line)
    print_status(f"wrote {len(rows) - 1} samples to {out}")
    if problems:
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
            labels = dataset.load()
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableFileError(f"{path}: cannot be read as labels ({reason})") from error
    missing = [name for name in ("hail", "time", "latitude", "longitude") if name not in labels.variables]
    if missing:
        raise InputError(
            f"{path}: no variable {missing[0]!r}; expected a file written by `geovision hail-labels`"
        )
    return labels.sortby("time")


_SOURCES = {"radar": "radar", "agri": "fy4b", "era5": "era5"}
"""Names of the sources in samples, by their names on the command line."""


def _parse_max_ages(texts: list[str]) -> dict[str, float]:
    """Return the maximum age of each source, in minutes."""
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
