"""Brightness temperatures of AGRI on FY-4B, full disc of level 1, read by satpy (``agri_fy4b_l1``).

Never run on a real file here: the format is that of satpy's reader, and the tests write one that it reads.
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
"""6.25, 6.95, 8.55, 10.8 and 12.0 um."""

_NAME = re.compile(r"^FY4B-_AGRI--_N_[A-Z]+_(\d{4})[EW]_L1-_FDI-_MULT_NOM_(\d{14})_\d{14}_4000M_.+\.HDF$")
_MAX_SLOT_OFFSET = 1.0  # degrees that a satellite may be off the longitude of its slot


@dataclass(frozen=True)
class AgriScan:
    """One scan on a grid.

    Attributes:
        time: Its begin, UTC.
        satellite_longitude: Degrees east, as the file says: 133 until February 2024, 105 since.
        temperatures: ``(channel, y, x)``, K, in the order of `BANDS`; NaN where the disc does not reach.
    """

    time: np.datetime64
    satellite_longitude: float
    temperatures: NDArray[np.float32]


def scan_time(path: str | Path) -> np.datetime64:
    """Begin of a scan by the name of its file, UTC.

    Raises:
        InputError: It is not named as the National Satellite Meteorological Center names such files.
    """
    return _parse_name(Path(path))[1]


def _parse_name(path: Path) -> tuple[float, np.datetime64]:
    """Longitude of the slot and begin of the scan."""
    found = _NAME.match(path.name)
    if found is None:
        raise InputError(
            f"{path}: not named like FY4B-_AGRI--_N_DISK_1330E_L1-_FDI-_MULT_NOM_20230617081500_"
            "20230617082959_4000M_V0001.HDF, by which satpy knows it"
        )
    slot, begin = found.groups()
    date = f"{begin[:4]}-{begin[4:6]}-{begin[6:8]}T{begin[8:10]}:{begin[10:12]}:{begin[12:]}"
    return int(slot) / 10, np.datetime64(date, "s")


def read_agri(path: str | Path, latitude: ArrayLike, longitude: ArrayLike) -> AgriScan:
    """Brightness temperatures at the nearest pixel of each point.

    Args:
        path: Of a full disc of 4000 m, under its own name.
        latitude, longitude: ``(y,)`` and ``(x,)``, degrees.

    Raises:
        UnreadableFileError: satpy cannot read it.
        InputError: The name is another, the satellite is off the longitude that the name says, or its disc
            does not reach the grid.
        MissingExtraError: satpy is not installed.
    """
    path = Path(path)
    slot, time = _parse_name(path)
    scene = _scene(path)
    area = scene[BANDS[0]].attrs["area"]
    east = float(area.crs.to_cf()["longitude_of_projection_origin"])
    if abs((east - slot + 180) % 360 - 180) > _MAX_SLOT_OFFSET:
        raise InputError(
            f"{path}: the satellite stands at {east:.2f} E, its name says {slot:.1f} E; it may be "
            "moving between slots, when places in the picture are wrong, so leave the file out"
        )
    rows, columns, seen = _pixels(area, latitude, longitude)
    if not seen.any():
        raise InputError(f"{path}: nothing of the grid lies on the disc that is seen from {east:.1f} E")
    found = []
    for band in BANDS:
        values = scene[band].values
        found.append(np.where(seen, values[rows, columns], np.nan))
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
        raise UnreadableFileError(f"{path}: no channel {', '.join(missing)} in it")
    return scene


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Without warnings of projections that PROJ would write otherwise, and without the tracebacks that satpy
    prints beside the errors that it raises."""
    with suppress_logging("satpy", below=logging.CRITICAL + 1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _pixels(
    area: Any, latitude: ArrayLike, longitude: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Row and column of the pixel in which each point lies, and where there is one."""
    import pyproj

    north, east = np.meshgrid(np.asarray(latitude, float), np.asarray(longitude, float), indexing="ij")
    x, y = pyproj.Transformer.from_crs(4326, area.crs, always_xy=True).transform(east, north)
    left, lower, right, upper = area.area_extent
    with np.errstate(invalid="ignore"):
        column = np.floor((x - left) / (right - left) * area.width)
        row = np.floor((upper - y) / (upper - lower) * area.height)
        seen = (column >= 0) & (column < area.width) & (row >= 0) & (row < area.height)
    return np.where(seen, row, 0).astype(np.intp), np.where(seen, column, 0).astype(np.intp), seen
