"""Reflectivity on the levels of hail samples, from volumes of a radar or from grids in NetCDF or Zarr."""

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

_MAX_LEVEL_OFFSET = 500.0  # m that a level may lie from the one that is asked for


@dataclass(frozen=True)
class VolumeReference:
    """One volume: where it lies, and when it began, UTC."""

    path: Path
    time: np.datetime64
    position: int | None = None
    """Along the time of a grid's file; None: the file is one volume."""


def list_volumes(
    paths: Sequence[str | Path], *, on_skip: Callable[[str], None] | None = None
) -> list[VolumeReference]:
    """The volumes of files, in the order of their times, however they came.

    Args:
        paths: Files.
        on_skip: Called with what is wrong with a file, which is left out; None: that is an error.

    Raises:
        UnreadableFileError: A file cannot be read.
        InputError: Two volumes of one time, or a grid without times.
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
    """Reflectivity at the nearest point and level.

    Args:
        volume: Of `list_volumes`.
        levels: m above mean sea level, ascending.
        latitude, longitude: ``(y,)`` and ``(x,)``, degrees.
        max_range: m from the radar within which volumes are gridded.

    Returns:
        ``(level, y, x)``, dBZ; ``-inf`` is no echo, NaN not covered, as where no level of a grid is within
        500 m.

    Raises:
        UnreadableFileError: It cannot be read.
        InputError: No reflectivity in dBZ, levels that do not ascend, no coordinates in degrees, or nothing
            of the grid is covered.
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
    chosen = near.take(values[closest.argmin(1)])
    chosen[closest.min(1) > _MAX_LEVEL_OFFSET] = np.nan
    return chosen.astype(np.float32)


def _unlisted_volumes(
    path: Path, known: Mapping[np.datetime64, VolumeReference]
) -> dict[np.datetime64, VolumeReference]:
    """The volumes of a file by their times, none of which is known."""
    found: dict[np.datetime64, VolumeReference] = {}
    for each in _list_file(path):
        before = known.get(each.time) or found.get(each.time)
        if before:
            raise InputError(f"{before.path} and {path} are both of {each.time}; give each volume once")
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
            f"{path}: not readable as a grid of radar ({str(error).partition(chr(10))[0]})"
        ) from error


def _reflectivity(dataset: Dataset, path: Path) -> DataArray:
    """The one field with levels, with an axis of time."""
    fields = [dataset[name] for name in dataset.data_vars if "level" in dataset[name].dims]
    named = [each for each in fields if each.name == "reflectivity"] or fields
    if len(named) != 1:
        raise InputError(
            f"{path}: {len(named)} fields with a dimension 'level'; expected one, 'reflectivity' in dBZ"
        )
    field = named[0]
    if "time" not in field.coords:
        raise InputError(f"{path}: no coordinate 'time'; a volume has to say when it began")
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
        f"{path}: no latitude and longitude; write them as coordinates (y, x), in whatever projection "
        "the grid is"
    )
