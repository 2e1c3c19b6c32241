"""Reader of brightness temperatures of AGRI on FY-4B.

Full disks of level 1 are read by satpy (``agri_fy4b_l1``). This reader has not been tested on a real file.
The format is that of satpy's reader, and the tests write a file that satpy reads.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision._logging import suppress_logging
from geovision.errors import InputError, MissingExtraError, UnreadableFileError

__all__ = ["BANDS", "AgriScan", "read_agri", "scan_time"]

BANDS = ("C09", "C10", "C12", "C13", "C14")
"""Channels used: 6.25, 6.95, 8.55, 10.8 and 12.0 um."""

_NAME = re.compile(r"^FY4B-_AGRI--_N_[A-Z]+_(\d{4})[EW]_L1-_FDI-_MULT_NOM_(\d{14})_\d{14}_4000M_.+\.HDF$")
_MAX_SLOT_OFFSET = 1.0  # degrees, largest distance of a satellite from the longitude of its slot


@dataclass(frozen=True)
class AgriScan:
    """Scan of AGRI on a grid.

    Attributes:
        time: Start of the scan, UTC.
        satellite_longitude: Longitude of the satellite in degrees east, from the file: 133 until February
            2024, 105 since.
        temperatures: Brightness temperature in K, shape ``(channel, y, x)``, in the order of `BANDS`; NaN
            outside the disk.
    """

    time: np.datetime64
    satellite_longitude: float
    temperatures: NDArray[np.float32]


def scan_time(path: str | Path) -> np.datetime64:
    """Return the UTC start of a scan from its file name.

    Args:
        path: Path of the file.

    Raises:
        InputError: The name does not follow the convention of the National Satellite Meteorological Center.
    """
    return _parse_name(Path(path))[1]


def _parse_name(path: Path) -> tuple[float, np.datetime64]:
    """Return the longitude of the slot and the start of the scan."""
    found = _NAME.match(path.name)
    if found is None:
        raise InputError(
            f"{path}: not named like FY4B-_AGRI--_N_DISK_1330E_L1-_FDI-_MULT_NOM_20230617081500_"
            "20230617082959_4000M_V0001.HDF, which satpy requires; restore the original name"
        )
    slot, begin = found.groups()
    date = f"{begin[:4]}-{begin[4:6]}-{begin[6:8]}T{begin[8:10]}:{begin[10:12]}:{begin[12:]}"
    return int(slot) / 10, np.datetime64(date, "s")


def read_agri(path: str | Path, latitude: ArrayLike, longitude: ArrayLike) -> AgriScan:
    """Read brightness temperatures at the nearest pixel of each grid point.

    Args:
        path: Full disk of 4000 m, under its original name.
        latitude: Latitudes in degrees north, shape ``(y,)``.
        longitude: Longitudes in degrees east, shape ``(x,)``.

    Returns:
        Scan on the grid.

    Raises:
        UnreadableFileError: satpy cannot read the file.
        InputError: The file name is invalid, the satellite is not at the longitude of the name, or its
            disk does not cover the grid.
        MissingExtraError: satpy is not installed.
    """
    path = Path(path)
    slot, time = _parse_name(path)
    scene = _scene(path)
    area = scene[BANDS[0]].attrs["area"]
    east = float(area.crs.to_cf()["longitude_of_projection_origin"])
    if abs((east - slot + 180) % 360 - 180) > _MAX_SLOT_OFFSET:
        raise InputError(
            f"{path}: the satellite is at {east:.2f} E, but the file name has {slot:.1f} E. It may be "
            "moving between slots, which misplaces pixels; exclude the file"
        )
    rows, columns, visible = _pixels(area, latitude, longitude)
    if not visible.any():
        raise InputError(f"{path}: no grid point is on the disk visible from {east:.1f} E; check the grid")
    found = []
    for band in BANDS:
        values = scene[band].values
        found.append(np.where(visible, values[rows, columns], np.nan))
    return AgriScan(time, east, np.stack(found).astype(np.float32))


def _scene(path: Path) -> Any:
    try:
        from satpy import Scene
    except ImportError as error:
        raise MissingExtraError("satpy", "satellite") from error
    if not path.is_file():
        raise UnreadableFileError(f"{path}: no such file")
    try:
        with _suppress_warnings():
            scene = Scene([str(path)], reader="agri_fy4b_l1")
            scene.load(list(BANDS), calibration="brightness_temperature")
            missing = [band for band in BANDS if band not in scene]
    except Exception as error:  # a damaged file makes satpy raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableFileError(f"{path}: cannot be read as AGRI level 1 ({reason})") from error
    if missing:
        raise UnreadableFileError(f"{path}: no channel {', '.join(missing)}; expected {', '.join(BANDS)}")
    return scene


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Suppress PROJ warnings and the tracebacks that satpy logs."""
    with suppress_logging("satpy", below=logging.CRITICAL + 1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _pixels(
    area: Any, latitude: ArrayLike, longitude: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return row, column and existence of the pixel of each point."""
    import pyproj

    north, east = np.meshgrid(np.asarray(latitude, float), np.asarray(longitude, float), indexing="ij")
    x, y = pyproj.Transformer.from_crs(4326, area.crs, always_xy=True).transform(east, north)
    left, lower, right, upper = area.area_extent
    with np.errstate(invalid="ignore"):
        column = np.floor((x - left) / (right - left) * area.width)
        row = np.floor((upper - y) / (upper - lower) * area.height)
        visible = (column >= 0) & (column < area.width) & (row >= 0) & (row < area.height)
    return np.where(visible, row, 0).astype(np.intp), np.where(visible, column, 0).astype(np.intp), visible
