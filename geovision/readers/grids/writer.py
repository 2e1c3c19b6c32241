"""Atomic writer of fields to CF NetCDF or Zarr."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovision._atomic_io import write_files
from geovision.errors import MissingExtraError, OptionError, StorageError
from geovision.readers.grids.units import unit_conversion
from geovision.readers.grids.variables import GLOBAL_ATTRIBUTES, VARIABLES
from geovision.readers.netcdf import write_netcdf

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["write_grid", "write_grids"]

_AXES = {
    "lat": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"},
    "time": {"standard_name": "time", "long_name": "time"},
    "member": {"standard_name": "realization", "long_name": "ensemble member"},
}


def write_grid(
    field: xr.DataArray, path: str | Path, *, units: str = "", title: str = "", north_first: bool = False
) -> Path:
    """Write one field as CF NetCDF-4 (``.nc``) or Zarr (``.zarr``).

    Args:
        field: Field as returned by `open_grid`; a dask array is computed and written chunk by chunk.
        path: Path of the file; an existing file is replaced once the new file is complete.
        units: Unit in the file. Default: ``""``, the unit of the field.
        title: Title of the file. Default: ``""``.
        north_first: Whether latitudes run from north to south. Default: False.

    Returns:
        Path of the file.

    Raises:
        OptionError: The suffix is not ``.nc`` or ``.zarr``.
        StorageError: The file could not be written; an existing file is unchanged.
        MissingExtraError: xarray or the library of the format is not installed.
    """
    return write_grids([field], path, units=units, title=title, north_first=north_first)


def write_grids(
    fields: Sequence[xr.DataArray],
    path: str | Path,
    *,
    units: str = "",
    title: str = "",
    north_first: bool = False,
) -> Path:
    """Write several fields on one grid as variables of one file.

    A field of integers, such as a mask, keeps its type.

    Args:
        fields: Fields as returned by `open_grid`, on one grid.
        path: Path of the file; an existing file is replaced once the new file is complete.
        units: Unit in the file, except for fields that are fractions. Default: ``""``, the units of the
            fields.
        title: Title of the file. Default: ``""``.
        north_first: Whether latitudes run from north to south. Default: False.

    Returns:
        Path of the file.

    Raises:
        OptionError: The suffix is not ``.nc`` or ``.zarr``.
        StorageError: The file could not be written; an existing file is unchanged.
        MissingExtraError: xarray or the library of the format is not installed.
    """
    place = Path(path)
    parts = [
        _as_cf(field, units if field.attrs["units"] != "1" else "", title, north_first) for field in fields
    ]
    dataset = parts[0]
    for part in parts[1:]:
        dataset = dataset.assign(part.data_vars)
    encoding: Any = {name: _encoding(field) for name, field in dataset.data_vars.items()}
    try:
        if place.suffix == ".nc":
            for each in encoding.values():
                each |= {"zlib": True, "complevel": 4, "shuffle": True}
            write_files(place.parent, {place.name: lambda part: write_netcdf(dataset, part, encoding)})
        elif place.suffix == ".zarr":
            _write_zarr(dataset, place, encoding)
        else:
            raise OptionError(f"{place}: fields are written as .nc or .zarr; change the suffix")
    except ModuleNotFoundError as error:
        raise MissingExtraError("h5netcdf or zarr", "geo") from error
    return place


def _encoding(field: xr.DataArray) -> dict[str, Any]:
    if field.dtype.kind in "iu":
        return {"dtype": str(field.dtype), "_FillValue": None}
    return {"dtype": "float32", "_FillValue": np.float32(np.nan)}


def _as_cf(field: xr.DataArray, units: str, title: str, north_first: bool) -> xr.Dataset:
    own = str(field.attrs["units"])
    attributes = dict(field.attrs)
    if units and units != own:
        factor, offset = unit_conversion(units, own)
        field = (field.astype(np.float64) - offset) / factor
        attributes |= {"units": units}
        if field.name == "precipitation" and unit_conversion(units, own) != (1.0, 0.0) and "kg" in units:
            attributes |= {"standard_name": "precipitation_flux"}  # CF has another name for a mass flux
    attributes.setdefault("long_name", str(field.name).replace("_", " "))
    if field.name in VARIABLES:
        attributes.setdefault("standard_name", VARIABLES[str(field.name)].standard_names[0])
    field = (field if field.dtype.kind in "iu" else field.astype(np.float32)).assign_attrs(attributes)
    if (
        field.chunks is not None
    ):  # Zarr needs chunks of equal size, but concatenated files end in smaller ones
        field = field.chunk({axis: max(pieces) for axis, pieces in field.chunksizes.items()})
    field.encoding = {}
    if north_first and field["lat"].ndim == 1:
        field = field.isel(lat=slice(None, None, -1))
    for name, described in _AXES.items():
        if name in field.coords:
            field[name].attrs = {**field[name].attrs, **described}
            field[name].encoding = {
                k: v for k, v in field[name].encoding.items() if k in ("units", "calendar")
            }
    dataset = field.to_dataset()
    own_attributes = dataset[field.name].attrs
    global_attributes = {key: own_attributes.pop(key) for key in GLOBAL_ATTRIBUTES if key in own_attributes}
    dataset.attrs = {"Conventions": "CF-1.11", **global_attributes, **({"title": title} if title else {})}
    return dataset


def _write_zarr(dataset: xr.Dataset, place: Path, encoding: Any) -> None:
    part = place.parent / f".{place.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Version 2 is supported by every Zarr reader and includes consolidated metadata.
        dataset.to_zarr(part, mode="w", encoding=encoding, zarr_format=2, consolidated=True)
        if place.exists():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        part.rename(place)
    except OSError as error:
        raise StorageError(
            f"{place}: could not be written ({error.strerror or error}); free some disk space or choose "
            "another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
