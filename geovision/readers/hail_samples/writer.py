"""Atomic writer of hail samples to NetCDF or Zarr."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geovision import _atomic_io
from geovision.errors import MissingExtraError, StorageError
from geovision.readers.hail_samples.schema import (
    CHANNELS,
    NO_ECHO_DBZ,
    HailSample,
    check_shapes,
    terrain_class,
)
from geovision.readers.netcdf import write_netcdf

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["TIME_UNITS", "write_sample"]

TIME_UNITS = "seconds since 1970-01-01"

_LONG_NAMES = {
    "radar": f"radar reflectivity, {NO_ECHO_DBZ:g} is no echo, missing is not covered",
    "fy4b": "brightness temperature of AGRI",
    "era5": "environment",
    "dem": "ground",
}

_PACKED: dict[str, dict[str, Any]] = {
    "radar": {"dtype": "int16", "scale_factor": 0.1, "_FillValue": np.int16(-32768)},
    "fy4b": {"dtype": "int16", "scale_factor": 0.01, "add_offset": 250.0, "_FillValue": np.int16(-32768)},
    "time": {"dtype": "int64", "units": TIME_UNITS, "calendar": "proleptic_gregorian"},
}


def write_sample(sample: HailSample, folder: Path, *, kind: Literal["nc", "zarr"] = "nc") -> Path:
    """Write one sample under its name, completely or not at all.

    Reflectivity is packed in steps of 0.1 dB, and satellite temperatures in steps of 0.01 K.

    Args:
        sample: Hail sample.
        folder: Folder of the file.
        kind: ``"nc"`` for a NetCDF file; ``"zarr"`` for a Zarr store. Default: ``"nc"``.

    Returns:
        Path of the file or store.

    Raises:
        InputError: Shapes are inconsistent, or time steps are uneven.
        StorageError: The sample could not be written.
        MissingExtraError: xarray is not installed.
    """
    dataset = _dataset(sample)
    path = Path(folder) / f"{sample.name}.{kind}"
    if kind == "zarr":
        _write_zarr(dataset, path)
    else:
        _atomic_io.write_files(path.parent, {path.name: functools.partial(_write_netcdf, dataset)})
    return path


def _dataset(sample: HailSample) -> Dataset:
    check_shapes(sample)
    variables: dict[str, Any] = {}
    for name, source in sample.sources.items():
        values = source.values.astype(np.float32)
        if name == "radar":
            values = np.where(np.isneginf(values), np.float32(NO_ECHO_DBZ), values)
        variables[name] = (("time", f"{name}_channel", "y", "x"), values, _source_attributes(name))
        variables[f"{name}_age"] = (
            "time",
            source.age.astype(np.float32),
            {
                "long_name": f"minutes by which the window is later than its {name}",
                "units": "minutes",
            },
        )
    variables["dem"] = (("dem_channel", "y", "x"), sample.dem.astype(np.float32), _source_attributes("dem"))
    variables["hail"] = (
        ("y", "x"),
        sample.label.astype(np.int8),
        {
            "long_name": "hail at the ground",
            "flag_values": np.array([-1, 0, 1], np.int8),
            "flag_meanings": "not_known no_hail hail",
        },
    )
    variables |= {name: (("y", "x"), values) for name, values in sample.extra.items()}
    coordinates: dict[str, Any] = {
        "time": ("time", sample.time.astype("datetime64[ns]"), {"standard_name": "time"}),
        "latitude": (
            "y",
            np.asarray(sample.latitude, np.float64),
            {"standard_name": "latitude", "units": "degrees_north"},
        ),
        "longitude": (
            "x",
            np.asarray(sample.longitude, np.float64),
            {"standard_name": "longitude", "units": "degrees_east"},
        ),
    }
    about = {"Conventions": "CF-1.11", "terrain": terrain_class(sample.dem[0])}
    return _xarray().Dataset(variables, coordinates, about | dict(sample.attributes))


def _source_attributes(name: str) -> dict[str, str]:
    """Return the attributes of a source, with its channels.

    The channels are attributes because Zarr has no text arrays.
    """
    channels, units = CHANNELS[name], sorted(set(CHANNELS[name].values()))
    about = {
        "long_name": _LONG_NAMES[name],
        "channels": " ".join(channels),
        "channel_units": ", ".join(channels.values()),
    }
    return about | ({"units": units[0]} if len(units) == 1 else {})


def _write_netcdf(dataset: Dataset, path: Path) -> None:
    encoding = {
        str(name): {"zlib": True, "complevel": 4, "shuffle": True, **_PACKED.get(str(name), {})}
        for name in dataset.data_vars
        if dataset[name].ndim > 1
    } | {"time": _PACKED["time"]}
    write_netcdf(dataset, path, encoding)


def _write_zarr(dataset: Dataset, path: Path) -> None:
    partial = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.to_zarr(
            partial,
            encoding={name: dict(how) for name, how in _PACKED.items()},
            consolidated=False,
            zarr_format=3,
        )
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); free some disk space or choose "
            "another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _xarray() -> Any:
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    return xarray
