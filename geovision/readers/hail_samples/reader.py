"""Reader of hail samples from NetCDF or Zarr.

It reads complete samples, single inputs of a model, or metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.readers.hail_samples.schema import (
    CHANNELS,
    NO_ECHO_DBZ,
    TIMED_SOURCES,
    HailSample,
    TimedSource,
    check_windows,
    sample_files,
)
from geovision.readers.hail_samples.writer import TIME_UNITS
from geovision.spec import InputSpec, SampleContext

__all__ = ["expand", "read_context", "read_header", "read_input", "read_sample", "to_arrays"]


def read_sample(path: str | Path) -> HailSample:
    """Read one complete sample.

    Args:
        path: Path of the sample.

    Returns:
        Sample.

    Raises:
        UnreadableFileError: The file cannot be read.
        InputError: The file is not a hail sample, or has other channels.
    """
    content = _load(Path(path))
    own = {*CHANNELS, *_REQUIRED_VARIABLES}
    return HailSample(
        time=content.values["time"].astype("datetime64[ns]"),
        latitude=content.values["latitude"],
        longitude=content.values["longitude"],
        sources={
            name: TimedSource(content.values[name], content.values[f"{name}_age"]) for name in TIMED_SOURCES
        },
        dem=content.values["dem"],
        label=content.values["hail"].astype(np.int8),
        extra={name: values for name, values in content.values.items() if name not in own},
        attributes=content.attributes,
    )


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the attributes and sizes of a sample.

    Args:
        path: Path of the sample.

    Returns:
        Attributes of the file; ``"sizes"`` contains the number of windows, rows and columns.

    Raises:
        UnreadableFileError: The file cannot be read.
        InputError: The file is not a hail sample.
    """
    content = _load(Path(path), ("time", "hail"))
    sizes = (*content.values["time"].shape, *content.values["hail"].shape)
    return {**content.attributes, "sizes": dict(zip(("time", "y", "x"), sizes, strict=True))}


def read_context(path: str | Path) -> SampleContext:
    """Read the coordinates and the last time of a sample.

    Label and prediction are for the last window.

    Args:
        path: Path of the sample.

    Returns:
        Latitudes, longitudes and time.

    Raises:
        UnreadableFileError: The file cannot be read.
        InputError: The file is not a hail sample.
    """
    values = _load(Path(path), ("time", "latitude", "longitude")).values
    return SampleContext(values["latitude"], values["longitude"], values["time"][-1])


def to_arrays(sample: HailSample) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Convert a sample to the arrays of a model.

    Args:
        sample: Hail sample.

    Returns:
        Values and mask of missing values by source. Values are 0 where missing; the radar has
        `NO_ECHO_DBZ` where there is no echo.
    """
    found = {name: _without_gaps(source.values) for name, source in sample.sources.items()}
    return found | {"dem": _without_gaps(sample.dem)}


def _without_gaps(values: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    missing = np.isnan(values)
    filled = np.where(missing, np.float32(0), values.astype(np.float32))
    return np.where(np.isneginf(filled), np.float32(NO_ECHO_DBZ), filled), missing


def read_input(path: str | Path, spec: InputSpec, size: tuple[int, int] | None = None) -> np.ma.MaskedArray:
    """Read one input of a sample, for `predict`.

    Args:
        path: Path of the sample.
        spec: Specification of the input; its name is the source.
        size: Height and width of the central window, in points. Default: None, the whole sample.

    Returns:
        Values, float32, axes as in the layout of the input; missing values are masked.

    Raises:
        UnreadableFileError: The file cannot be read.
        InputError: The file is not a hail sample, is smaller than `size`, or has no such source.
    """
    if spec.name not in CHANNELS:
        raise InputError(f"{path}: no source {spec.name!r}; a sample has {', '.join(CHANNELS)}")
    values, missing = _without_gaps(_load(Path(path), (spec.name, "time")).values[spec.name])
    found = np.ma.MaskedArray(values, missing)
    if size is None:
        return found
    height, width = values.shape[-2:]
    if height < size[0] or width < size[1]:
        raise InputError(f"{path}: {height} x {width} points; the model expects {size[0]} x {size[1]}")
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return found[..., top : top + size[0], left : left + size[1]]


def expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Expand samples, folders and glob patterns to a list of samples.

    Args:
        paths: One or several samples, folders or glob patterns.

    Returns:
        Paths of samples.

    Raises:
        UnreadableFileError: A path does not exist or contains no samples.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    found: list[Path] = []
    for path in map(Path, given):
        if path.suffix in (".nc", ".zarr") and path.exists():
            found.append(path)
            continue
        inside = sample_files(path) if path.is_dir() else sorted(path.parent.glob(path.name))
        if not inside:
            raise UnreadableFileError(
                f"{path}: no hail samples; expected names such as hail_20230617T083000_N3050_E11200.nc"
            )
        found += inside
    return found


# --- files --------------------------------------------------------------------------------------

_REQUIRED_VARIABLES = (*(f"{name}_age" for name in TIMED_SOURCES), "hail", "time", "latitude", "longitude")


@dataclass(frozen=True)
class _RawSample:
    """Values, attributes of variables, and global attributes of a file."""

    values: dict[str, NDArray]
    variable_attributes: dict[str, dict[str, Any]]
    attributes: dict[str, Any]


def _load(path: Path, names: Sequence[str] = ()) -> _RawSample:
    """Load and check the requested variables of a file, or all."""
    if not path.exists():
        raise UnreadableFileError(f"{path}: does not exist; check the path")
    try:
        content = (_from_zarr if path.suffix == ".zarr" else _from_hdf5)(path, names)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableFileError(f"{path}: cannot be read as a hail sample ({reason})") from error
    _check_variables(content, path)
    if "time" in content.values:
        check_windows(content.values["time"], str(path))
    if "radar" in content.values:
        radar = content.values["radar"]
        radar[np.abs(radar - NO_ECHO_DBZ) < 0.01] = -np.inf
    return content


def _check_variables(content: _RawSample, path: Path) -> None:
    lacking = [name for name in (*CHANNELS, *_REQUIRED_VARIABLES) if name not in content.variable_attributes]
    if lacking:
        raise InputError(
            f"{path}: no variable {lacking[0]!r}; expected a sample written by `geovision hail-samples`"
        )
    for name, channels in CHANNELS.items():
        found = str(content.variable_attributes[name].get("channels", "")).split()
        if found != list(channels):
            other = next((each for each in found if each not in channels), "another order")
            raise InputError(
                f"{path}: {name} has {len(found)} channels, among them {other}; expected "
                f"{', '.join(channels)}"
            )


def _from_hdf5(path: Path, names: Sequence[str]) -> _RawSample:
    # h5py instead of xarray, which takes ten times as long to open a file as to read its values.
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "geo") from error
    with h5py.File(path) as file:
        found = {str(name): each for name, each in file.items()}
        about = {name: _attributes(each) for name, each in found.items()}
        # HDF5 stores a dimension without coordinates as a variable with this name.
        dimensions = {
            name for name, own in about.items() if str(own.get("NAME", "")).startswith("This is a netCDF dim")
        }
        values = {
            name: _decode(each[()], about[name])
            for name, each in found.items()
            if name not in dimensions and (not names or name in names)
        }
        return _RawSample(values, about, _attributes(file))


def _attributes(node: Any) -> dict[str, Any]:
    """Return attributes as text and numbers.

    Links between variables and library versions are omitted.
    """
    excluded = ("DIMENSION_LIST", "REFERENCE_LIST", "_NCProperties")
    attributes = {name: node.attrs[name] for name in node.attrs if name not in excluded}
    return {name: _to_python(each) for name, each in attributes.items()}


def _to_python(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value


def _decode(values: NDArray, attributes: Mapping[str, Any]) -> NDArray:
    """Decode times and packed values with scale, offset and fill value."""
    if attributes.get("units") == TIME_UNITS:
        return np.datetime64(0, "s") + values.astype("timedelta64[s]")
    if "scale_factor" not in attributes:
        return values
    decoded = values * np.float32(attributes["scale_factor"]) + np.float32(attributes.get("add_offset", 0.0))
    decoded[values == attributes.get("_FillValue")] = np.nan
    return decoded


def _from_zarr(path: Path, names: Sequence[str]) -> _RawSample:
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    with xarray.open_zarr(path, consolidated=False) as dataset:
        found = {str(name): dataset[name] for name in dataset.variables}
        values = {name: np.array(each.values) for name, each in found.items() if not names or name in names}
        return _RawSample(
            values, {name: dict(each.attrs) for name, each in found.items()}, dict(dataset.attrs)
        )
