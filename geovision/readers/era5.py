"""Reader of the ERA5 fields for hail, from NetCDF or GRIB.

NetCDF files may have the variable names before or since August 2024. `time` and `level` of older files are
`valid_time` and `pressure_level` in newer ones. Variables may be in several files: pressure levels in one,
single levels in another, and hours in any number of files.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.readers.nearest_neighbor import NearestNeighborIndex

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["Era5", "height_of_temperature", "open_era5"]

_GRAVITY = 9.80665  # m s-2; the ERA5 geopotential divided by it is a height
_NAMES = {
    "valid_time": "time",
    "pressure_level": "level",
    "isobaricInhPa": "level",
    "plev": "level",
    "lat": "latitude",
    "lon": "longitude",
    "2d": "d2m",
    "10u": "u10",
    "10v": "v10",
}
_ON_LEVELS, _SINGLE = ("t", "z", "u", "v"), ("cape", "d2m", "u10", "v10")
_EXPECTED_RANGES = {
    "t": (150, 340),
    "d2m": (180, 320),
    "cape": (0, 12000),
    "u": (-150, 150),
    "v": (-150, 150),
    "u10": (-70, 70),
    "v10": (-70, 70),
    "z": (-8000, 600_000),
}


@dataclass(frozen=True)
class Era5:
    """Fields of ERA5 by name, in the units of ERA5.

    Attributes:
        fields: Fields by name: ``t``, ``z``, ``u``, ``v`` with dimensions ``(time, level, latitude,
            longitude)``, levels upward, and ``cape``, ``d2m``, ``u10``, ``v10`` with dimensions
            ``(time, latitude, longitude)``.
        where: Names of the files, for messages.
    """

    fields: Mapping[str, DataArray]
    where: str

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Hours at which all fields are present, UTC, ascending."""
        common = functools.reduce(np.intersect1d, [each["time"].values for each in self.fields.values()])
        return common.astype("datetime64[s]")

    def environment(
        self, time: np.datetime64, latitude: ArrayLike, longitude: ArrayLike, ground: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return the hail environment of one hour at the nearest grid points.

        The channels are:

        - height of the freezing level, in m above mean sea level
        - height of the level of -20 degrees Celsius, in m above mean sea level
        - CAPE, in J kg-1
        - magnitude of the wind difference between 6 km above the ground and 10 m, in m s-1
        - dewpoint at 2 m, in K

        Args:
            time: Hour, one of `times`.
            latitude: Latitudes in degrees north, shape ``(y,)``.
            longitude: Longitudes in degrees east, shape ``(x,)``.
            ground: Height of the ground in m, shape ``(y, x)``; NaN counts as 0.

        Returns:
            Channels, float32, shape ``(channel, y, x)``. NaN where the lowest level is colder than the
            temperature of the channel, or where the reanalysis does not cover the grid.

        Raises:
            InputError: The files do not cover the grid.
            MissingExtraError: scipy is not installed.
        """
        at = {name: each.sel(time=time) for name, each in self.fields.items()}
        first = next(iter(at.values()))
        near = NearestNeighborIndex.build(
            first["latitude"], first["longitude"], latitude, longitude, where=self.where
        )
        values = {name: near.take(each.values) for name, each in at.items()}
        height = values["z"] / _GRAVITY
        aloft = 6000 + np.nan_to_num(ground)
        wind = [
            interpolate_to_height(values[name], height, aloft) - values[f"{name}10"] for name in ("u", "v")
        ]
        return np.stack(
            [
                height_of_temperature(values["t"], height, 273.15),
                height_of_temperature(values["t"], height, 253.15),
                values["cape"],
                np.hypot(*wind),
                values["d2m"],
            ]
        ).astype(np.float32)


def height_of_temperature(
    temperature: NDArray[np.floating], height: NDArray[np.floating], value: float
) -> NDArray[np.floating]:
    """Return the greatest height at which the temperature falls below a value.

    Heights between levels are interpolated linearly.

    Args:
        temperature: Temperature in K, shape ``(level, y, x)``, levels upward.
        height: Height of the levels in m, same shape.
        value: Temperature of the level, in K.

    Returns:
        Height in m, shape ``(y, x)``; NaN where no two consecutive levels enclose the value.
    """
    found = np.full(temperature.shape[1:], np.nan)
    for low, high, below, above in zip(temperature, temperature[1:], height, height[1:], strict=False):
        here = (low >= value) & (high < value)
        fraction = (low[here] - value) / (low[here] - high[here])
        found[here] = below[here] + fraction * (above[here] - below[here])
    return found


def interpolate_to_height(
    values: NDArray[np.floating], height: NDArray[np.floating], target_height: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Interpolate values linearly to a height; NaN outside the levels.

    Args:
        values: Values, shape ``(level, y, x)``, levels upward.
        height: Height of the levels in m, same shape.
        target_height: Requested height in m, shape ``(y, x)``.

    Returns:
        Interpolated values, shape ``(y, x)``.
    """
    found = np.full(target_height.shape, np.nan)
    for low, high, below, above in zip(values, values[1:], height, height[1:], strict=False):
        here = (below <= target_height) & (target_height <= above)
        fraction = (target_height[here] - below[here]) / (above[here] - below[here])
        found[here] = low[here] + fraction * (high[here] - low[here])
    return found


def open_era5(paths: Sequence[str | Path], *, on_skip: Callable[[str], None] | None = None) -> Era5:
    """Open files of ERA5, NetCDF or GRIB.

    Args:
        paths: Paths of the files.
        on_skip: Function called with the error of an unreadable file, which is then skipped. Default:
            None, the error is raised.

    Returns:
        Fields of all files.

    Raises:
        UnreadableFileError: A file cannot be read.
        InputError: A variable is in none of the files, its values are outside the range of its unit, or
            its files have different grids.
        MissingExtraError: xarray or cfgrib is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    parts: dict[str, list[DataArray]] = {}
    for path in map(Path, paths):
        try:
            loaded = _load_fields(path)
        except InputError as error:
            if on_skip is None:
                raise
            on_skip(str(error))
        else:
            for name, field in loaded:
                parts.setdefault(name, []).append(field)
    where = ", ".join(Path(path).name for path in paths) or "no files"
    lacking = [name for name in (*_ON_LEVELS, *_SINGLE) if name not in parts]
    if lacking:
        raise InputError(
            f"{where}: no {', '.join(lacking)} among the fields ({', '.join(parts) or 'none'}); download "
            "t, z, u, v on pressure levels and cape, d2m, u10, v10 on single levels"
        )
    fields = {}
    for name, several in parts.items():
        try:
            joined = xarray.concat(several, "time", join="exact", coords="minimal", compat="override")
        except ValueError as error:
            raise InputError(
                f"{where}: files with {name} on different grids or levels; give the files of one download"
            ) from error
        fields[name] = joined.sortby("time").drop_duplicates("time")
    return Era5(fields, where)


def _load_fields(path: Path) -> list[tuple[str, DataArray]]:
    """Load and check the required fields of a file."""
    return [
        (name, _checked(dataset[name], name, path))
        for dataset in _datasets(path)
        for name in (*_ON_LEVELS, *_SINGLE)
        if name in dataset and ("level" in dataset[name].dims) == (name in _ON_LEVELS)
    ]


def _datasets(path: Path) -> list[Dataset]:
    """Open the datasets of a file, with the older names.

    GRIB files are split into several datasets.
    """
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            # xarray tries the plugins of other formats; unreadable files raise an error anyway.
            warnings.simplefilter("ignore")
            found = _grib(path) if _is_grib(path) else [_netcdf(path)]
    except MissingExtraError:
        raise
    except Exception as error:  # decoders raise anything on a damaged file
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableFileError(f"{path}: cannot be read as NetCDF or GRIB ({reason})") from error
    return [_rename_legacy(each) for each in found]


def _is_grib(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"GRIB"


def _netcdf(path: Path) -> Dataset:
    import xarray

    engine: Any = "zarr" if path.is_dir() else "h5netcdf"
    if not path.is_dir():
        with path.open("rb") as stream:
            engine = "scipy" if stream.read(3) == b"CDF" else "h5netcdf"
    with xarray.open_dataset(path, engine=engine, decode_timedelta=False) as dataset:
        return dataset.load()


def _grib(path: Path) -> list[Dataset]:
    # ecCodes contains its own PROJ: if loaded first, pyproj does not find its database.
    with contextlib.suppress(ImportError):
        import pyproj  # noqa: F401
    try:
        import cfgrib
    except ImportError as error:
        raise MissingExtraError("cfgrib", "geo") from error
    found = []
    for dataset in cfgrib.open_datasets(str(path), backend_kwargs={"indexpath": ""}):
        found.append(dataset.load())
        dataset.close()
    return found


def _rename_legacy(dataset: Dataset) -> Dataset:
    # GRIB contains the time of the analysis in addition to the valid time.
    if "valid_time" in dataset.coords and "time" in dataset.coords:
        kept = "time" if "time" in dataset.dims else "valid_time"
        dataset = dataset.drop_vars("valid_time" if kept == "time" else "time")
    given = {old: new for old, new in _NAMES.items() if old in dataset.variables or old in dataset.dims}
    dataset = dataset.rename(given)
    spare = [name for name in dataset.coords if name not in ("time", "level", "latitude", "longitude")]
    dataset = dataset.drop_vars(spare)
    if "time" in dataset.coords and "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    # Descending pressure is ascending height.
    return dataset.sortby("level", ascending=False) if "level" in dataset.dims else dataset


def _checked(field: DataArray, name: str, path: Path) -> DataArray:
    expected = ("time", *(["level"] if name in _ON_LEVELS else []), "latitude", "longitude")
    if set(field.dims) != set(expected) or any(axis not in field.coords for axis in expected):
        raise InputError(
            f"{path}: {name} along {', '.join(map(str, field.dims))}; expected {', '.join(expected)}, each "
            "with coordinates, on a grid in degrees as downloaded from ERA5"
        )
    field = field.transpose(*expected)
    low, high = _EXPECTED_RANGES[name]
    least, most = float(field.min()), float(field.max())
    if low > least or most > high:  # false for NaN: a field may be missing everywhere
        raise InputError(
            f"{path}: {name} from {least:g} to {most:g}; expected {low:g} to {high:g} in the unit of ERA5"
        )
    return field
