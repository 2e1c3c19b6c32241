"""Reflectivity on the levels of hail samples.

The data are radar volumes, or grids in NetCDF or Zarr.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.physics.hail.checks import check_volume
from geovision.readers.nearest_neighbor import NearestNeighborIndex
from geovision.readers.radar.gridding import RadarGrid, grid_volume
from geovision.readers.radar.volume import read_volume

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["VolumeReference", "list_volumes", "read_reflectivity"]

_MAX_LEVEL_OFFSET = 500.0  # m, largest distance of a level from the requested one


@dataclass(frozen=True)
class VolumeReference:
    """Reference to one volume.

    Attributes:
        path: Path of the file.
        time: Start of the volume, UTC.
        position: Index along the time axis of a gridded file; None if the file is one volume.
    """

    path: Path
    time: np.datetime64
    position: int | None = None


def list_volumes(
    paths: Sequence[str | Path], *, on_skip: Callable[[str], None] | None = None
) -> list[VolumeReference]:
    """List the volumes of files in the order of their times.

    Args:
        paths: Paths of the files, in any order.
        on_skip: Function called with the error of an unusable file, which is then skipped. Default: None,
            the error is raised.

    Returns:
        References to the volumes.

    Raises:
        UnreadableFileError: A file cannot be read.
        InputError: Two volumes have the same time, or a grid has no times.
    """
    found: dict[np.datetime64, VolumeReference] = {}
    for path in map(Path, paths):
        try:
            new = _unlisted_volumes(path, found)
        except InputError as error:
            if on_skip is None:
                raise
            on_skip(str(error))
        else:
            found |= new
    return [found[time] for time in sorted(found)]


def read_reflectivity(
    volume: VolumeReference,
    levels: Sequence[float],
    latitude: ArrayLike,
    longitude: ArrayLike,
    *,
    max_range: float = 150_000.0,
) -> NDArray[np.float32]:
    """Read reflectivity at the nearest point and level.

    Args:
        volume: Reference from `list_volumes`.
        levels: Heights in m above mean sea level, ascending.
        latitude: Latitudes in degrees north, shape ``(y,)``.
        longitude: Longitudes in degrees east, shape ``(x,)``.
        max_range: Distance from the radar to which volumes are gridded, in m. Default: 150000.0.

    Returns:
        Reflectivity in dBZ, shape ``(level, y, x)``. ``-inf`` is no echo; NaN is not covered, or no level
        of a grid is within 500 m.

    Raises:
        UnreadableFileError: The file cannot be read.
        InputError: There is no reflectivity in dBZ, levels do not ascend, coordinates are not in degrees,
            or no point of the grid is covered.
    """
    if volume.position is None:
        field = grid_volume(read_volume(volume.path), RadarGrid(half_width=max_range, levels=tuple(levels)))
    else:
        with _grid(volume.path) as dataset:
            field = _reflectivity(dataset, volume.path).isel(time=volume.position).load()
    heights, values = _checked(field, volume.path)
    north, east = _coordinates(field, volume.path)
    near = NearestNeighborIndex.build(north, east, latitude, longitude, where=str(volume.path))
    closest = np.abs(heights[None, :] - np.asarray(levels, float)[:, None])
    selected = near.take(values[closest.argmin(1)])
    selected[closest.min(1) > _MAX_LEVEL_OFFSET] = np.nan
    return selected.astype(np.float32)


def _unlisted_volumes(
    path: Path, known: Mapping[np.datetime64, VolumeReference]
) -> dict[np.datetime64, VolumeReference]:
    """Return volumes of a file by time; raise if already listed."""
    found: dict[np.datetime64, VolumeReference] = {}
    for each in _list_file(path):
        before = known.get(each.time) or found.get(each.time)
        if before:
            raise InputError(f"{before.path} and {path} both have {each.time}; give each volume once")
        found[each.time] = each
    return found


def _list_file(path: Path) -> list[VolumeReference]:
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file")
    if path.suffix not in (".nc", ".nc4", ".zarr"):
        return [VolumeReference(path, read_volume(path).time.astype("datetime64[s]"))]
    with _grid(path) as dataset:
        times = _reflectivity(dataset, path)["time"].values.astype("datetime64[s]")
    return [VolumeReference(path, time, number) for number, time in enumerate(times)]


def _grid(path: Path) -> Dataset:
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    engine: Any = "zarr" if path.suffix == ".zarr" else "h5netcdf"
    try:
        return xarray.open_dataset(path, engine=engine)
    except (OSError, ValueError) as error:
        raise UnreadableFileError(
            f"{path}: not readable as a radar grid ({str(error).partition(chr(10))[0]})"
        ) from error


def _reflectivity(dataset: Dataset, path: Path) -> DataArray:
    """Return the only field with levels, with a time axis."""
    fields = [dataset[name] for name in dataset.data_vars if "level" in dataset[name].dims]
    named = [each for each in fields if each.name == "reflectivity"] or fields
    if len(named) != 1:
        raise InputError(
            f"{path}: {len(named)} fields with a dimension 'level'; expected one, 'reflectivity' in dBZ"
        )
    field = named[0]
    if "time" not in field.coords:
        raise InputError(f"{path}: no coordinate 'time'; add the start of the volume")
    return field if "time" in field.dims else field.expand_dims("time")


def _checked(field: DataArray, path: Path) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    unit = str(field.attrs.get("units", "dBZ"))
    if unit.lower() != "dbz":
        raise InputError(f"{path}: units are {unit!r}; expected dBZ, which is 10 * log10 of Z in mm6 m-3")
    values, heights = field.transpose("level", ...).values, np.asarray(field["level"].values, float)
    check_volume(values, heights, str(path))
    return heights, values


def _coordinates(field: DataArray, path: Path) -> tuple[NDArray, NDArray]:
    for north, east in (("latitude", "longitude"), ("lat", "lon")):
        if north in field.coords and east in field.coords:
            return field[north].values, field[east].values
    raise InputError(
        f"{path}: no latitude and longitude; add them as coordinates (y, x), for any projection of the grid"
    )
