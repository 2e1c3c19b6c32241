"""Hail samples from NetCDF or Zarr: whole, in part for a model, or what stands at their head."""

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
    """Read one sample whole.

    Raises:
        UnreadableFileError: It cannot be read.
        InputError: It is no sample of hail, or of other channels.
    """
    held = _load(Path(path))
    own = {*CHANNELS, *_REQUIRED_VARIABLES}
    return HailSample(
        time=held.values["time"].astype("datetime64[ns]"),
        latitude=held.values["latitude"],
        longitude=held.values["longitude"],
        sources={name: TimedSource(held.values[name], held.values[f"{name}_age"]) for name in TIMED_SOURCES},
        dem=held.values["dem"],
        label=held.values["hail"].astype(np.int8),
        extra={name: values for name, values in held.values.items() if name not in own},
        attributes=held.attributes,
    )


def read_header(path: str | Path) -> dict[str, Any]:
    """Attributes of a sample, and under ``"sizes"`` how many windows, rows and columns it has.

    Raises:
        UnreadableFileError: It cannot be read.
        InputError: It is no sample of hail.
    """
    held = _load(Path(path), ("time", "hail"))
    sizes = (*held.values["time"].shape, *held.values["hail"].shape)
    return {**held.attributes, "sizes": dict(zip(("time", "y", "x"), sizes, strict=True))}


def read_context(path: str | Path) -> SampleContext:
    """Where the cells of a sample lie and when its last window is, which its label and an answer are of.

    Raises:
        UnreadableFileError: It cannot be read.
        InputError: It is no sample of hail.
    """
    held = _load(Path(path), ("time", "latitude", "longitude")).values
    return SampleContext(held["latitude"], held["longitude"], held["time"][-1])


def to_arrays(sample: HailSample) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """By source, values as models take them and where they are missing: 0 where missing, and in the radar
    `NO_ECHO_DBZ` where there is no echo."""
    found = {name: _without_gaps(source.values) for name, source in sample.sources.items()}
    return found | {"dem": _without_gaps(sample.dem)}


def _without_gaps(values: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    missing = np.isnan(values)
    plain = np.where(missing, np.float32(0), values.astype(np.float32))
    return np.where(np.isneginf(plain), np.float32(NO_ECHO_DBZ), plain), missing


def read_input(path: str | Path, spec: InputSpec, size: tuple[int, int] | None = None) -> np.ma.MaskedArray:
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
    if spec.name not in CHANNELS:
        raise InputError(f"{path}: no source {spec.name!r}; a sample has {', '.join(CHANNELS)}")
    values, missing = _without_gaps(_load(Path(path), (spec.name, "time")).values[spec.name])
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
            raise UnreadableFileError(
                f"{path}: no samples of hail, which are named like hail_20230617T083000_N3050_E11200.nc"
            )
        found += inside
    return found


# --- files --------------------------------------------------------------------------------------

_REQUIRED_VARIABLES = (*(f"{name}_age" for name in TIMED_SOURCES), "hail", "time", "latitude", "longitude")


@dataclass(frozen=True)
class _RawSample:
    """Of a file, values of variables, attributes of all of them, and of the whole."""

    values: dict[str, NDArray]
    variable_attributes: dict[str, dict[str, Any]]
    attributes: dict[str, Any]


def _load(path: Path, names: Sequence[str] = ()) -> _RawSample:
    """The values of the variables that are named, or of all, checked."""
    if not path.exists():
        raise UnreadableFileError(f"{path}: does not exist")
    try:
        held = (_from_zarr if path.suffix == ".zarr" else _from_hdf5)(path, names)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableFileError(f"{path}: cannot be read as a sample of hail ({reason})") from error
    _check_variables(held, path)
    if "time" in held.values:
        check_windows(held.values["time"], str(path))
    if "radar" in held.values:
        radar = held.values["radar"]
        radar[np.abs(radar - NO_ECHO_DBZ) < 0.01] = -np.inf
    return held


def _check_variables(held: _RawSample, path: Path) -> None:
    lacking = [name for name in (*CHANNELS, *_REQUIRED_VARIABLES) if name not in held.variable_attributes]
    if lacking:
        raise InputError(
            f"{path}: no {lacking[0]!r} in it; expected a sample as `geovision hail-samples` writes it"
        )
    for name, channels in CHANNELS.items():
        said = str(held.variable_attributes[name].get("channels", "")).split()
        if said != list(channels):
            other = next((each for each in said if each not in channels), "another order")
            raise InputError(
                f"{path}: {name} has {len(said)} channels, among them {other}; expected {', '.join(channels)}"
            )


def _from_hdf5(path: Path, names: Sequence[str]) -> _RawSample:
    # Not by way of xarray, which takes ten times as long to open a file as its values take to be read.
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "geo") from error
    with h5py.File(path) as file:
        found = {str(name): each for name, each in file.items()}
        about = {name: _attributes(each) for name, each in found.items()}
        # A dimension without values of its own is a variable to HDF5, and says so.
        bare = {
            name for name, own in about.items() if str(own.get("NAME", "")).startswith("This is a netCDF dim")
        }
        values = {
            name: _decode(each[()], about[name])
            for name, each in found.items()
            if name not in bare and (not names or name in names)
        }
        return _RawSample(values, about, _attributes(file))


def _attributes(node: Any) -> dict[str, Any]:
    """Attributes as text and numbers; the links between variables are left out, and what the writing program
    notes about itself."""
    spare = ("DIMENSION_LIST", "REFERENCE_LIST", "_NCProperties")
    plain = {name: node.attrs[name] for name in node.attrs if name not in spare}
    return {name: _plain(each) for name, each in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value


def _decode(values: NDArray, attributes: Mapping[str, Any]) -> NDArray:
    """Numbers as they are meant: times, and what has a scale, an offset and a number for what is missing."""
    if attributes.get("units") == TIME_UNITS:
        return np.datetime64(0, "s") + values.astype("timedelta64[s]")
    if "scale_factor" not in attributes:
        return values
    plain = values * np.float32(attributes["scale_factor"]) + np.float32(attributes.get("add_offset", 0.0))
    plain[values == attributes.get("_FillValue")] = np.nan
    return plain


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
