"""From files to one field in the unit of its variable, on axes of known names and order."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.readers.grids.axes import standardize_axes
from geovision.readers.grids.checks import check_values
from geovision.readers.grids.times import check_times, step_days
from geovision.readers.grids.units import unit_conversion
from geovision.readers.grids.variables import GLOBAL_ATTRIBUTES, GridVariable, find_variable

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["expand_paths", "open_grid"]

_CHUNK_THRESHOLD = 64 * 1024**2
"""Bytes of a field above which it is read in pieces, where dask is there."""


def open_grid(
    paths: str | Path | Sequence[str | Path],
    field: str | GridVariable,
    *,
    name: str = "",
    units: str = "",
    select: Mapping[str, float] | None = None,
    pole: tuple[float, float] | None = None,
) -> xr.DataArray:
    """Open one field of NetCDF files or Zarr stores.

    Args:
        paths: A file, a store, a folder or pattern of them, or a list; several follow each other in time.
        field: A `GridVariable`, or the name of one in `VARIABLES`.
        name: Of the variable in the file; found by its standard name or its usual names where empty.
        units: In which the file is, where it does not say; what it says is an error to contradict.
        select: Values of further axes, such as ``{"plev": 85000}``; the nearest that is there is taken.
        pole: (latitude, longitude) of the north pole of a rotated grid, degrees, for a file whose axes are
            rotated and which does not say so.

    Returns:
        float32 ``(time, [member,] lat, lon)`` or ``(…, y, x)`` with two-dimensional ``lat`` and ``lon``,
        in the unit of the variable, NaN where missing, axes ascending, attributes kept; without ``time``
        where the variable is static. Large fields are dask arrays in pieces along time.

    Raises:
        UnreadableFileError: No such file, or not NetCDF or Zarr.
        InputError: No such variable, axes or units; times that are double or out of order; values that
            cannot be in that unit, with the unit that they may be in.
        MissingExtraError: xarray or what it reads with is not installed.
    """
    wanted = field if isinstance(field, GridVariable) else find_variable(field)
    parts = [_open_one(path, wanted, name, units, select or {}, pole) for path in expand_paths(paths)]
    if wanted.static and len(parts) > 1:
        raise InputError(
            f"{parts[1].encoding['source']}: {wanted.name} is the same on all days, and "
            f"{parts[0].encoding['source']} has it already; give one file"
        )
    joined = parts[0] if len(parts) == 1 else _concatenate(parts)
    return check_values(joined.compute() if joined.nbytes <= _CHUNK_THRESHOLD else joined, wanted)


# --- files --------------------------------------------------------------------------------------


def expand_paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files and stores that `open_grid` takes for these.

    Raises:
        UnreadableFileError: There are none.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    found = [path for each in several for path in _expanded(Path(each))]
    if not found:
        raise UnreadableFileError("no files of grids were given")
    return found


def _expanded(path: Path) -> list[Path]:
    if path.suffix == ".zarr" or (path / "zarr.json").is_file() or (path / ".zgroup").is_file():
        matches = [path] if path.exists() else []
    elif path.is_dir():
        matches = sorted(each for each in path.iterdir() if each.suffix in (".nc", ".nc4", ".zarr"))
    else:
        matches = sorted(Path(each) for each in glob.glob(str(path))) or ([path] if path.exists() else [])  # noqa: PTH207
    if not matches:
        raise UnreadableFileError(f"{path}: no NetCDF file and no Zarr store is there")
    return matches


def _opened(path: Path) -> xr.Dataset:
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    coder = xr.coders.CFDatetimeCoder(use_cftime=None)
    try:
        return xr.open_dataset(path, engine=_engine(path), decode_times=coder, decode_timedelta=False)
    except ModuleNotFoundError as error:
        raise MissingExtraError("h5netcdf, zarr or scipy", "geo") from error
    except Exception as error:  # decoders raise anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableFileError(f"{path}: not readable as NetCDF or Zarr ({reason[:200]})") from error


def _engine(path: Path) -> Any:
    """By what the file is, since the engines do not share one HDF5 library well."""
    if path.is_dir():
        return "zarr"
    with path.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(b"CDF"):
        return "scipy"
    if start.startswith(b"\x89HDF"):
        return "h5netcdf"
    raise UnreadableFileError(f"{path}: neither NetCDF nor Zarr: it begins with {start!r}")


# --- one file -----------------------------------------------------------------------------------


def _open_one(
    path: Path,
    wanted: GridVariable,
    name: str,
    units: str,
    select: Mapping[str, float],
    pole: tuple[float, float] | None,
) -> xr.DataArray:
    import xarray as xr

    dataset = _opened(path)
    field = dataset[_find_name(dataset, wanted, name, path)]
    field = standardize_axes(dataset, field, select, pole, static=wanted.static, where=str(path))
    step = None
    if not wanted.static:
        check_times(field, where=str(path))
        field, step = _chunk(field), step_days(field)
    unit = _unit_of(field, wanted, units, where=str(path))
    try:
        factor, offset = unit_conversion(unit, wanted.unit, step_days=step)
    except InputError as error:
        raise InputError(f"{path}: {field.name!r}: {error}") from error
    attributes = {name: dataset.attrs[name] for name in GLOBAL_ATTRIBUTES if name in dataset.attrs} | dict(
        field.attrs
    )
    if (factor, offset) != (1.0, 0.0):
        field = xr.apply_ufunc(
            _convert,
            field,
            kwargs={"factor": factor, "offset": offset},
            dask="parallelized",
            output_dtypes=[np.float32],
        )
    field = field.astype(np.float32).rename(wanted.name)
    field.attrs = {**attributes, "standard_name": wanted.standard_names[0], "units": wanted.unit}
    field.encoding = {"source": str(path), "source_units": unit}
    return field


def _convert(values: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """In double precision, so that a conversion there and back gives the same floats."""
    if offset:
        return (values.astype(np.float64) * factor + offset).astype(np.float32)
    found = np.empty(values.shape, np.float32)
    return np.multiply(values, factor, out=found, dtype=np.float64, casting="same_kind")


def _find_name(dataset: xr.Dataset, wanted: GridVariable, name: str, path: Path) -> str:
    gridded = [str(each) for each in dataset.data_vars if dataset[each].ndim >= 2]
    if name:
        if name in gridded:
            return name
        raise InputError(f"{path}: no variable {name!r}; it has {', '.join(gridded) or 'no gridded one'}")
    by_standard = [v for v in gridded if dataset[v].attrs.get("standard_name") in wanted.standard_names]
    by_name = [v for v in gridded if v in wanted.names or v == wanted.name]
    found = by_standard or by_name
    if len(found) == 1:
        return found[0]
    what = "none of them is surely" if not found else f"{' and '.join(found)} may each be"
    raise InputError(
        f"{path}: it has {', '.join(gridded) or 'no gridded variable'}; {what} {wanted.name}; "
        "say which with name=, or --variable"
    )


def _unit_of(field: xr.DataArray, wanted: GridVariable, declared: str, where: str) -> str:
    said = str(field.attrs.get("units", "")).strip()
    if not said and not declared:
        choices = ", ".join(repr(unit) for unit in (wanted.unit, *wanted.other_units))
        raise InputError(
            f"{where}: {field.name!r} has no units; declare them with units=, or "
            f"--unit, for instance {choices}"
        )
    if (
        said
        and declared
        and unit_conversion(said, wanted.unit, step_days=1.0)
        != unit_conversion(declared, wanted.unit, step_days=1.0)
    ):
        raise InputError(
            f"{where}: {field.name!r} says {said!r} and was declared {declared!r}; if the "
            "file is wrong, correct its units attribute"
        )
    return said or declared


def _chunk(field: xr.DataArray) -> xr.DataArray:
    """As a dask array along time; as it is where there is no dask."""
    try:
        import dask  # noqa: F401
    except ImportError:
        return field
    each = max(field.nbytes / field.sizes["time"], 1)
    return field.chunk({"time": max(1, int(_CHUNK_THRESHOLD / 4 / each))})


def _concatenate(parts: list[xr.DataArray]) -> xr.DataArray:
    import xarray as xr

    parts = sorted(parts, key=lambda part: part.indexes["time"][0])
    first = parts[0]
    for part in parts[1:]:
        for axis in ("lat", "lon"):
            if not np.array_equal(part[axis], first[axis]):
                raise InputError(
                    f"{part.encoding['source']}: its {axis} is not that of "
                    f"{first.encoding['source']}; files of one field have one grid"
                )
        if part.indexes["time"].dtype != first.indexes["time"].dtype:
            raise InputError(f"{part.encoding['source']}: another calendar than {first.encoding['source']}")
    joined = xr.concat(parts, dim="time", join="exact", combine_attrs="drop_conflicts")
    where = f"{first.encoding['source']} and {len(parts) - 1} more"
    check_times(joined, where=where)
    joined.encoding = {**first.encoding, "source": where}
    return joined
