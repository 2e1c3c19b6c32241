"""Reader of radar volumes in ODIM_H5 and NEXRAD level 2.

The files are decoded by xradar.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, MissingExtraError, UnreadableFileError

if TYPE_CHECKING:
    from xarray import DataArray, DataTree

__all__ = ["RadarVolume", "Sweep", "read_volume"]

_MAX_ELEVATION = 80.0  # degrees; a vertical sweep covers no area
_ELEVATION_TOLERANCE = 0.1  # degrees; the elevations of repeated cuts differ slightly


@dataclass(frozen=True)
class Sweep:
    """Sweep of the antenna at one elevation.

    Args:
        elevation: Elevation angle in degrees above the horizon.
        azimuth: Azimuth of the rays in degrees clockwise from north, shape ``(ray,)``, ascending.
        range: Distance along the beam to the center of each gate in m, shape ``(gate,)``.
        reflectivity: Reflectivity in dBZ, float32, shape ``(ray, gate)``; ``-inf`` is no echo, NaN not
            measured.
    """

    elevation: float
    azimuth: NDArray[np.floating]
    range: NDArray[np.floating]
    reflectivity: NDArray[np.float32]


@dataclass(frozen=True)
class RadarVolume:
    """Sweeps of one volume, lowest first.

    Args:
        path: Path of the file.
        time: Start of the volume, UTC.
        latitude: Latitude of the radar, in degrees north.
        longitude: Longitude of the radar, in degrees east.
        altitude: Altitude of the antenna, in m above mean sea level.
        sweeps: Sweeps, one per elevation.
    """

    path: Path
    time: np.datetime64
    latitude: float
    longitude: float
    altitude: float
    sweeps: tuple[Sweep, ...]


def read_volume(path: str | Path, *, quantity: str = "DBZH") -> RadarVolume:
    """Read the reflectivity of one volume.

    The format is detected from the first bytes. Several sweeps may have one elevation, such as the split cuts
    of NEXRAD. The one with the longest range is used, and the first of equal ones. A vertical sweep is
    omitted.

    - ODIM_H5: ``undetect`` is no echo, ``nodata`` is not measured. If a file uses one number for both, it
      means no echo, because the rays are complete.
    - NEXRAD: below threshold is no echo, range folded is not measured.

    Args:
        path: Path of the file.
        quantity: Name of the quantity, ``DBZH`` or another reflectivity in dBZ such as ``TH``. Default:
            ``"DBZH"``.

    Returns:
        Volume.

    Raises:
        UnreadableFileError: The file is missing, truncated, or of another format.
        InputError: The quantity is missing, or the file has fewer than two elevations.
        MissingExtraError: xradar is not installed.
    """
    path = Path(path)
    format_ = _format(path)
    with _decoding(path), contextlib.closing(_open_tree(path, format_)) as tree:
        return _volume(path, tree, format_, quantity)


def _format(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise UnreadableFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not head:
        raise UnreadableFileError(f"{path}: an empty file (0 bytes); copy it again from its source")
    if head == b"\x89HDF\r\n\x1a\n":
        return "odim"
    if head.startswith((b"AR2V", b"ARCHIVE2")):
        return "nexradlevel2"
    if head.startswith((b"\x1f\x8b", b"BZh")):
        raise UnreadableFileError(f"{path}: a compressed file; decompress it with gunzip or bunzip2")
    raise UnreadableFileError(f"{path}: not a radar volume; expected ODIM_H5 or NEXRAD level 2")


def _open_tree(path: Path, format_: str) -> DataTree:
    try:
        import xradar
    except ImportError as error:
        raise MissingExtraError("xradar", "radar") from error
    if format_ == "odim":
        return xradar.io.open_odim_datatree(path)
    return xradar.io.open_nexradlevel2_datatree(path)


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # xradar warns about missing ray times; unreadable content raises an error anyway.
            warnings.simplefilter("ignore")
            yield
    except (InputError, MissingExtraError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableFileError(
            f"{path}: damaged or not a volume of this format ({reason}); copy it again from its source"
        ) from error


def _volume(path: Path, tree: DataTree, format_: str, quantity: str) -> RadarVolume:
    nodes = [tree[name].ds for name in tree.children if name.startswith("sweep")]
    matching = [node for node in nodes if quantity in node]
    if not matching:
        known = sorted({str(name) for node in nodes for name in node if node[name].ndim == 2})
        raise InputError(f"{path}: no quantity {quantity!r}; it contains {', '.join(known) or 'none'}")
    sweeps = [_sweep(node, quantity, format_) for node in matching]
    chosen = _unique_elevations([sweep for sweep in sweeps if sweep.elevation < _MAX_ELEVATION])
    if len(chosen) < 2:
        raise InputError(f"{path}: {len(chosen)} elevation; a volume has two or more. Give the whole volume")
    start = str(tree["time_coverage_start"].values).rstrip("Z")
    return RadarVolume(
        path=path,
        time=np.datetime64(start, "ns"),
        latitude=float(tree["latitude"]),
        longitude=float(tree["longitude"]),
        altitude=float(tree["altitude"]),
        sweeps=chosen,
    )


def _sweep(node: Any, quantity: str, format_: str) -> Sweep:
    measured = node[quantity]
    values = _decode_no_echo(measured, format_).astype(np.float32)
    azimuth = np.asarray(node["azimuth"].values, np.float64) % 360
    order = np.argsort(azimuth, kind="stable")
    return Sweep(
        elevation=float(np.median(node["elevation"].values)),
        azimuth=azimuth[order],
        range=np.asarray(node["range"].values, np.float64),
        reflectivity=values[order],
    )


def _decode_no_echo(measured: DataArray, format_: str) -> NDArray[np.floating]:
    """Return reflectivity in dBZ, with ``-inf`` for no echo.

    The codes of no echo are those stored in the file.
    """
    values = np.array(measured.transpose("azimuth", "range").values)
    scale, offset = (float(measured.encoding.get(key, 1 - k)) for k, key in enumerate(_PACKING))
    if not np.isfinite([scale, offset]).all():
        raise InputError(
            f"{measured.name}: stored with a gain of {scale:g} and an offset of {offset:g}; expected finite "
            "numbers to compute dBZ"
        )
    if format_ == "nexradlevel2":
        below, folded = offset, offset + scale  # codes 0 and 1
        values[np.isclose(values, folded, atol=scale / 4)] = np.nan
        values[np.isclose(values, below, atol=scale / 4)] = -np.inf
        return values
    undetect = measured.attrs.get("_Undetect")
    if undetect is None:
        return values
    if float(undetect) == float(measured.encoding.get("_FillValue", np.nan)):
        values[np.isnan(values)] = -np.inf
    else:
        values[np.isclose(values, float(undetect) * scale + offset, atol=scale / 4)] = -np.inf
    return values


_PACKING = ("scale_factor", "add_offset")


def _unique_elevations(sweeps: list[Sweep]) -> tuple[Sweep, ...]:
    """Return one sweep per elevation, lowest first.

    The sweep with the longest range is used for nearly equal elevations.
    """
    chosen: list[Sweep] = []
    for sweep in sorted(sweeps, key=lambda sweep: sweep.elevation):
        if chosen and sweep.elevation - chosen[-1].elevation < _ELEVATION_TOLERANCE:
            if sweep.range[-1] > chosen[-1].range[-1]:
                chosen[-1] = sweep
        else:
            chosen.append(sweep)
    return tuple(chosen)
