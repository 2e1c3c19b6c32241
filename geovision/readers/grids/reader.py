"""Reader of one gridded field from files.

The field has the unit of its variable and standard axes.
"""

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
"""Size of a field in bytes above which it is read in chunks, if dask is installed."""


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
        paths: File, store, folder or glob pattern, or a list of these; several files are concatenated in
            time.
        field: Variable, or its name in `VARIABLES`.
        name: Name of the variable in the file. Default: ``""``, found by its standard name or its usual
            names.
        units: Unit of a file without units. A different unit in the file raises an error. Default:
            ``""``, the unit of the file.
        select: Values of further axes, such as ``{"plev": 85000}``; the nearest value is selected.
            Default: None.
        pole: Latitude and longitude of the north pole of a rotated grid, in degrees, for a file without
            this information. Default: None.

    Returns:
        Field in the unit of the variable, float32, dimensions ``(time, [member,] lat, lon)``, or
        ``(…, y, x)`` with two-dimensional ``lat`` and ``lon``. Missing values are NaN, axes are ascending,
        and attributes are kept. A static variable has no ``time``. Large fields are dask arrays with
        chunks along time.

    Raises:
        UnreadableFileError: A file is missing, or not NetCDF or Zarr.
        InputError: The variable, its axes or its units are missing, times are duplicated or out of order,
            or values are outside the range of the unit. The message then names a plausible unit.
        MissingExtraError: xarray or the library of the format is not installed.
    """
    variable = field if isinstance(field, GridVariable) else find_variable(field)
    parts = [_open_one(path, variable, name, units, select or {}, pole) for path in expand_paths(paths)]
    if variable.static and len(parts) > 1:
        raise InputError(
            f"{parts[1].encoding['source']}: {variable.name} is constant in time and already in "
            f"{parts[0].encoding['source']}; give one file"
        )
    joined = parts[0] if len(parts) == 1 else _concatenate(parts)
    return check_values(joined.compute() if joined.nbytes <= _CHUNK_THRESHOLD else joined, variable)


# --- files --------------------------------------------------------------------------------------


def expand_paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Expand files, folders and patterns to files and stores.

    `open_grid` reads the same files.

    Args:
        paths: File, store, folder or glob pattern, or a list of these.

    Returns:
        Paths of files and stores.

    Raises:
        UnreadableFileError: No file or store is found.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    found = [path for each in several for path in _expanded(Path(each))]
    if not found:
        raise UnreadableFileError("no grid files were given; give at least one")
    return found


def _expanded(path: Path) -> list[Path]:
    if path.suffix == ".zarr" or (path / "zarr.json").is_file() or (path / ".zgroup").is_file():
        matches = [path] if path.exists() else []
    elif path.is_dir():
        matches = sorted(each for each in path.iterdir() if each.suffix in (".nc", ".nc4", ".zarr"))
    else:
        matches = sorted(Path(each) for each in glob.glob(str(path))) or ([path] if path.exists() else [])  # noqa: PTH207
    if not matches:
        raise UnreadableFileError(f"{path}: no NetCDF file or Zarr store; check the path")
    return matches


def _open_dataset(path: Path) -> xr.Dataset:
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
    """Return the engine for the format of a file.

    The format is detected, because the engines conflict on one HDF5 library.
    """
    if path.is_dir():
        return "zarr"
    with path.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(b"CDF"):
        return "scipy"
    if start.startswith(b"\x89HDF"):
        return "h5netcdf"
    raise UnreadableFileError(f"{path}: not NetCDF or Zarr; its first bytes are {start!r}")


# --- one file -----------------------------------------------------------------------------------


def _open_one(
    path: Path,
    variable: GridVariable,
    name: str,
    units: str,
    select: Mapping[str, float],
    pole: tuple[float, float] | None,
) -> xr.DataArray:
    import xarray as xr

    dataset = _open_dataset(path)
    field = dataset[_find_name(dataset, variable, name, path)]
    field = standardize_axes(dataset, field, select, pole, static=variable.static, where=str(path))
    step = None
    if not variable.static:
        check_times(field, where=str(path))
        field, step = _chunk(field), step_days(field)
    unit = _unit_of(field, variable, units, where=str(path))
    try:
        factor, offset = unit_conversion(unit, variable.unit, step_days=step)
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
    field = field.astype(np.float32).rename(variable.name)
    field.attrs = {**attributes, "standard_name": variable.standard_names[0], "units": variable.unit}
    field.encoding = {"source": str(path), "source_units": unit}
    return field


def _convert(values: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """Convert values in double precision.

    A conversion and its inverse then give the same floats.
    """
    if offset:
        return (values.astype(np.float64) * factor + offset).astype(np.float32)
    found = np.empty(values.shape, np.float32)
    return np.multiply(values, factor, out=found, dtype=np.float64, casting="same_kind")


def _find_name(dataset: xr.Dataset, variable: GridVariable, name: str, path: Path) -> str:
    gridded = [str(each) for each in dataset.data_vars if dataset[each].ndim >= 2]
    if name:
        if name in gridded:
            return name
        raise InputError(
            f"{path}: no variable {name!r}; it has {', '.join(gridded) or 'no gridded variable'}"
        )
    by_standard = [v for v in gridded if dataset[v].attrs.get("standard_name") in variable.standard_names]
    by_name = [v for v in gridded if v in variable.names or v == variable.name]
    found = by_standard or by_name
    if len(found) == 1:
        return found[0]
    problem = "none is identified as" if not found else f"{' and '.join(found)} may each be"
    raise InputError(
        f"{path}: it has {', '.join(gridded) or 'no gridded variable'}; {problem} {variable.name}. "
        "Choose one with name= or --variable"
    )


def _unit_of(field: xr.DataArray, variable: GridVariable, declared: str, where: str) -> str:
    stored = str(field.attrs.get("units", "")).strip()
    if not stored and not declared:
        choices = ", ".join(repr(unit) for unit in (variable.unit, *variable.other_units))
        raise InputError(
            f"{where}: {field.name!r} has no units; declare them with units=, or --unit, for instance "
            f"{choices}"
        )
    if (
        stored
        and declared
        and unit_conversion(stored, variable.unit, step_days=1.0)
        != unit_conversion(declared, variable.unit, step_days=1.0)
    ):
        raise InputError(
            f"{where}: {field.name!r} has units {stored!r} but was declared {declared!r}; if the "
            "file is wrong, correct its units attribute"
        )
    return stored or declared


def _chunk(field: xr.DataArray) -> xr.DataArray:
    """Split into dask chunks along time; unchanged without dask."""
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
                    f"{part.encoding['source']}: its {axis} differs from that of "
                    f"{first.encoding['source']}; all files of a field must have the same grid"
                )
        if part.indexes["time"].dtype != first.indexes["time"].dtype:
            raise InputError(
                f"{part.encoding['source']}: its calendar differs from that of {first.encoding['source']}; "
                "convert one of them"
            )
    joined = xr.concat(parts, dim="time", join="exact", combine_attrs="drop_conflicts")
    where = f"{first.encoding['source']} and {len(parts) - 1} more"
    check_times(joined, where=where)
    joined.encoding = {**first.encoding, "source": where}
    return joined
