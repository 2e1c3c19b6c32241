"""The store of hail samples: one NetCDF or Zarr a sample, every source on one grid and one clock.

`write_sample` and `read_sample` are the two ends; `read_header` tells what a sample is without its arrays.
Names say when and where, ``hail_20230617T083000_N3050_E11200.nc``: the time of the last window, and the
middle of the grid in hundredths of a degree.
"""

from __future__ import annotations

import datetime
import functools
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geovision import storage
from geovision.errors import InputError, MissingExtraError, StorageError, UnreadableFileError
from geovision.spec import InputSpec

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = [
    "CHANNELS",
    "LEVELS",
    "NO_ECHO_DBZ",
    "HailSample",
    "SampleName",
    "TimedSource",
    "arrays",
    "expand",
    "read",
    "read_header",
    "read_sample",
    "sample_files",
    "terrain_class",
    "write_sample",
]

LEVELS = (500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 5500, 6000, 7000, 8000, 9000, 10000,
          12000, 14000, 15500, 17000, 19000)  # fmt: skip
"""Heights of the 21 levels of reflectivity, m above mean sea level."""

CHANNELS: dict[str, dict[str, str]] = {
    "radar": {f"reflectivity_{level}m": "dBZ" for level in LEVELS},
    "fy4b": {f"brightness_temperature_{band}um": "K" for band in ("6.25", "6.95", "8.55", "10.8", "12.0")},
    "era5": {"freezing_level": "m", "minus20_level": "m", "cape": "J kg-1", "shear_0_6km": "m s-1",
             "dewpoint_2m": "K"},
    "dem": {"elevation": "m", "slope": "degree", "curvature": "m-1", "aspect": "degree",
            "flow_direction": "degree"},
}  # fmt: skip
"""Channels of each source, in order, with their units."""

NO_ECHO_DBZ = -33.0
"""What stands for no echo where a number has to: in files and in tensors. Reflectivity is above it."""

_TIMED = ("radar", "fy4b", "era5")
_RELIEF = 400.0  # m
_NAME = re.compile(r"^hail_(\d{8}T\d{6})_([NS])(\d{4})_([EW])(\d{5})$")


@dataclass(frozen=True)
class TimedSource:
    """One source in every window.

    Args:
        values: ``(time, channel, y, x)``; NaN is missing. Of radar NaN is not covered, ``-inf`` no echo.
        age: ``(time,)``, minutes by which the window is later than what stands in it (negative: earlier);
            NaN where it is missing.
    """

    values: NDArray[np.floating]
    age: NDArray[np.floating]


@dataclass(frozen=True)
class HailSample:
    """What stands in one file.

    Args:
        time: ``(time,)``, of the windows, UTC, ascending in even steps; the label is of the last.
        latitude, longitude: ``(y,)`` and ``(x,)``, degrees, ascending.
        sources: ``"radar"``, ``"fy4b"``, ``"era5"``.
        dem: ``(channel, y, x)``; NaN is missing, as an aspect where it is level.
        label: int8 ``(y, x)``: 1 hail, 0 none, -1 not known.
        extra: Other fields ``(y, x)`` by name, such as the answer of an oracle.
        attributes: Where it comes from, and how it was matched.
    """

    time: NDArray[np.datetime64]
    latitude: NDArray[np.floating]
    longitude: NDArray[np.floating]
    sources: Mapping[str, TimedSource]
    dem: NDArray[np.floating]
    label: NDArray[np.int8]
    extra: Mapping[str, NDArray] = field(default_factory=dict)
    attributes: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def name(self) -> SampleName:
        when = self.time[-1].astype("datetime64[s]").astype(datetime.datetime)
        return SampleName(when, float(self.latitude.mean()), float(self.longitude.mean()))


@dataclass(frozen=True)
class SampleName:
    """When and where a sample is: the last window, UTC, and the middle of its grid, degrees."""

    time: datetime.datetime
    latitude: float
    longitude: float

    def __str__(self) -> str:
        north, east = round(100 * self.latitude), round(100 * self.longitude)
        return (f"hail_{self.time:%Y%m%dT%H%M%S}_{'S' if north < 0 else 'N'}{abs(north):04d}_"
                f"{'W' if east < 0 else 'E'}{abs(east):05d}")  # fmt: skip

    @classmethod
    def of(cls, path: Path) -> SampleName:
        """The name of a file.

        Raises:
            InputError: It is not named so.

        >>> SampleName.of(Path("hail_20230617T083000_N3050_E11200.nc")).storm_day
        '2023-06-17'
        """
        found = _NAME.match(path.stem)
        if not found:
            raise InputError(f"{path}: not named like hail_20230617T083000_N3050_E11200.nc, which says when "
                             "and where it is")  # fmt: skip
        when, south, north, west, east = found.groups()
        latitude, longitude = int(north) / 100, int(east) / 100
        return cls(datetime.datetime.strptime(when, "%Y%m%dT%H%M%S"),
                   -latitude if south == "S" else latitude, -longitude if west == "W" else longitude)  # fmt: skip

    @property
    def storm_day(self) -> str:
        """The day of the storm: from 6 to 6 hours of local solar time, since storms of the evening live on
        past midnight, local or Greenwich's."""
        local = self.time + datetime.timedelta(hours=self.longitude / 15 - 6)
        return f"{local:%Y-%m-%d}"


def terrain_class(elevation: NDArray[np.floating]) -> Literal["plain", "complex"]:
    """``"complex"`` where the heights, without the lowest and highest 5 %, span 400 m or more. Our choice:
    the published strata are not defined."""
    low, high = np.nanquantile(elevation, [0.05, 0.95])
    return "complex" if high - low >= _RELIEF else "plain"


def sample_files(root: Path) -> list[Path]:
    """The samples of a folder, by name."""
    return sorted(path for path in Path(root).glob("hail_*") if path.suffix in (".nc", ".zarr"))


# --- in and out ---------------------------------------------------------------------------------


def write_sample(sample: HailSample, folder: Path, *, kind: Literal["nc", "zarr"] = "nc") -> Path:
    """Write one sample, whole or not at all, under its name.

    Reflectivity is packed in tenths of a dB, temperatures of the satellite in hundredths of a kelvin.

    Raises:
        InputError: Shapes that do not fit one another, or times that are no even steps.
        StorageError: It could not be written.
        MissingExtraError: xarray is not installed.
    """
    dataset = _dataset(sample)
    path = Path(folder) / f"{sample.name}.{kind}"
    if kind == "zarr":
        _write_zarr(dataset, path)
    else:
        storage.write_files(path.parent, {path.name: functools.partial(_write_netcdf, dataset)})
    return path


def read_sample(path: str | Path) -> HailSample:
    """Read one sample whole.

    Raises:
        UnreadableFileError: It cannot be read.
        InputError: It is no sample of hail, or of other channels.
    """
    with _opened(Path(path)) as dataset:
        _check(dataset, Path(path))
        sources = {
            name: TimedSource(_values(dataset, name), dataset[f"{name}_age"].values) for name in _TIMED
        }
        own = {*CHANNELS, *(f"{name}_age" for name in _TIMED), "hail"}
        return HailSample(
            time=dataset["time"].values, latitude=dataset["latitude"].values,
            longitude=dataset["longitude"].values, sources=sources, dem=_values(dataset, "dem"),
            label=dataset["hail"].values.astype(np.int8),
            extra={str(name): dataset[name].values for name in dataset.data_vars if name not in own},
            attributes=dict(dataset.attrs),
        )  # fmt: skip


def arrays(sample: HailSample) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """By source, values as models take them and where they are missing: 0 where missing, and in the radar
    `NO_ECHO_DBZ` where there is no echo."""
    found = {}
    for name, values in (*((name, source.values) for name, source in sample.sources.items()),
                         ("dem", sample.dem)):  # fmt: skip
        missing = np.isnan(values)
        plain = np.where(missing, np.float32(0), values.astype(np.float32))
        found[name] = np.where(np.isneginf(plain), np.float32(NO_ECHO_DBZ), plain), missing
    return found


def read(path: str | Path, spec: InputSpec, size: tuple[int, int] | None = None) -> np.ma.MaskedArray:
    """One input of a sample, as `predict` asks for it.

    Args:
        path: Of a sample.
        spec: The input: its name is the source.
        size: (height, width) of the middle part; None: all of it.

    Returns:
        float32, axes as in the input's layout; what is missing is masked.

    Raises:
        UnreadableFileError: It cannot be read.
        InputError: It is no sample, smaller than `size`, or has no such source.
    """
    found = arrays(read_sample(path))
    if spec.name not in found:
        raise InputError(f"{path}: no source {spec.name!r}; a sample has {', '.join(found)}")
    values, missing = found[spec.name]
    taken = np.ma.MaskedArray(values, missing)
    if size is None:
        return taken
    height, width = values.shape[-2:]
    if height < size[0] or width < size[1]:
        raise InputError(f"{path}: {height} x {width} points; the model takes {size[0]} x {size[1]}")
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return taken[..., top : top + size[0], left : left + size[1]]


def expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Samples, folders of samples and globs as a list of samples.

    Raises:
        UnreadableFileError: Something that is named is not there, or holds no samples.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    found: list[Path] = []
    for path in map(Path, given):
        if path.suffix in (".nc", ".zarr") and path.exists():
            found.append(path)
            continue
        inside = sample_files(path) if path.is_dir() else sorted(path.parent.glob(path.name))
        if not inside:
            raise UnreadableFileError(f"{path}: no samples of hail, which are named like "
                                      "hail_20230617T083000_N3050_E11200.nc")  # fmt: skip
        found += inside
    return found


def read_header(path: str | Path) -> dict[str, Any]:
    """Attributes of a sample, and under ``"sizes"`` how many windows, rows and columns it has.

    Raises:
        UnreadableFileError: It cannot be read.
        InputError: It is no sample of hail.
    """
    with _opened(Path(path)) as dataset:
        _check(dataset, Path(path))
        return {**dataset.attrs, "sizes": {name: dataset.sizes[name] for name in ("time", "y", "x")}}


def _dataset(sample: HailSample) -> Dataset:
    xarray = _xarray()
    _check_shapes(sample)
    variables: dict[str, Any] = {}
    for name, source in sample.sources.items():
        values = source.values.astype(np.float32)
        if name == "radar":
            values = np.where(np.isneginf(values), np.float32(NO_ECHO_DBZ), values)
        variables[name] = (("time", f"{name}_channel", "y", "x"), values, _ABOUT[name])
        variables[f"{name}_age"] = ("time", source.age.astype(np.float32), {
            "long_name": f"minutes by which the window is later than its {name}", "units": "minutes",
        })  # fmt: skip
    variables["dem"] = (("dem_channel", "y", "x"), sample.dem.astype(np.float32), _ABOUT["dem"])
    variables["hail"] = (("y", "x"), sample.label.astype(np.int8), {
        "long_name": "hail at the ground", "flag_values": np.array([-1, 0, 1], np.int8),
        "flag_meanings": "not_known no_hail hail",
    })  # fmt: skip
    variables |= {name: (("y", "x"), values) for name, values in sample.extra.items()}
    coordinates: dict[str, Any] = {
        "time": ("time", sample.time.astype("datetime64[ns]"), {"standard_name": "time"}),
        "latitude": ("y", np.asarray(sample.latitude, np.float64),
                     {"standard_name": "latitude", "units": "degrees_north"}),
        "longitude": ("x", np.asarray(sample.longitude, np.float64),
                      {"standard_name": "longitude", "units": "degrees_east"}),
    }  # fmt: skip
    for name, channels in CHANNELS.items():
        coordinates[f"{name}_channel"] = (f"{name}_channel", list(channels),
                                          {"channel_units": ", ".join(channels.values())})  # fmt: skip
    about = {"Conventions": "CF-1.11", "terrain": terrain_class(sample.dem[0])}
    return xarray.Dataset(variables, coordinates, about | dict(sample.attributes))


_ABOUT = {
    "radar": {"long_name": "radar reflectivity", "units": "dBZ",
              "comment": f"{NO_ECHO_DBZ:g} is no echo; missing is not covered"},
    "fy4b": {"long_name": "brightness temperature of AGRI", "units": "K"},
    "era5": {"long_name": "environment", "comment": "units of the channels are in channel_units"},
    "dem": {"long_name": "ground", "comment": "units of the channels are in channel_units"},
}  # fmt: skip

_PACKED: dict[str, dict[str, Any]] = {
    "radar": {"dtype": "int16", "scale_factor": 0.1, "_FillValue": np.int16(-32768)},
    "fy4b": {"dtype": "int16", "scale_factor": 0.01, "add_offset": 250.0, "_FillValue": np.int16(-32768)},
}


def _check_shapes(sample: HailSample) -> None:
    windows, grid = len(sample.time), (len(sample.latitude), len(sample.longitude))
    steps = np.diff(sample.time.astype("datetime64[s]").astype(np.int64))
    if windows < 1 or (len(steps) and (steps[0] <= 0 or (steps != steps[0]).any())):
        raise InputError("times of the windows: expected even steps, ascending; what is missing is NaN, not left out")
    if sorted(sample.sources) != sorted(_TIMED):
        raise InputError(f"sources {', '.join(sample.sources)}; expected {', '.join(_TIMED)}, of NaN where one is missing")
    expected = {name: (windows, len(CHANNELS[name]), *grid) for name in _TIMED}
    found = {name: source.values.shape for name, source in sample.sources.items()}
    found |= {"dem": sample.dem.shape, "label": sample.label.shape}
    expected |= {"dem": (len(CHANNELS["dem"]), *grid), "label": grid}
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(f"{name} of shape {found[name]}; expected {shape}")


def _check(dataset: Dataset, path: Path) -> None:
    lacking = [name for name in (*CHANNELS, "hail") if name not in dataset]
    if lacking:
        raise InputError(f"{path}: no {lacking[0]!r} in it; expected a sample as `geovision hail-samples` writes it")
    for name, channels in CHANNELS.items():
        held = [str(each) for each in dataset[f"{name}_channel"].values]
        if held != list(channels):
            other = next((each for each in held if each not in channels), "another order")
            raise InputError(f"{path}: {name} has {len(held)} channels, among them {other}; expected "
                             f"{', '.join(channels)}")  # fmt: skip


def _values(dataset: Dataset, name: str) -> NDArray[np.float32]:
    values = dataset[name].values.astype(np.float32)
    if name == "radar":
        values[np.abs(values - np.float32(NO_ECHO_DBZ)) < 0.01] = -np.inf
    return values


def _write_netcdf(dataset: Dataset, path: Path) -> None:
    encoding = {
        str(name): {"zlib": True, "complevel": 4, "shuffle": True, **_PACKED.get(str(name), {})}
        for name in dataset.data_vars
        if dataset[name].ndim > 1
    }
    dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)


def _write_zarr(dataset: Dataset, path: Path) -> None:
    partial = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.to_zarr(partial, encoding={name: dict(how) for name, how in _PACKED.items()}, consolidated=False,
                        zarr_format=3)  # fmt: skip
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _opened(path: Path) -> Dataset:
    xarray = _xarray()
    if not path.exists():
        raise UnreadableFileError(f"{path}: does not exist")
    opening: Callable[[], Dataset] = (
        functools.partial(xarray.open_zarr, path, consolidated=False) if path.suffix == ".zarr"
        else functools.partial(xarray.open_dataset, path, engine="h5netcdf")
    )  # fmt: skip
    try:
        return opening()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableFileError(f"{path}: cannot be read as a sample of hail ({reason})") from error


def _xarray() -> Any:
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    return xarray
