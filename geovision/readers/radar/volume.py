"""Volumes of one weather radar: ODIM_H5 and NEXRAD level 2, read by xradar."""

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

_MAX_ELEVATION = 80.0  # degrees; what looks straight up covers no area
_ELEVATION_TOLERANCE = 0.1  # degrees; a cut that is measured twice has about the same elevation


@dataclass(frozen=True)
class Sweep:
    """One turn of the antenna.

    Args:
        elevation: Degrees above the horizon.
        azimuth: ``(ray,)``, degrees clockwise from north, ascending.
        range: ``(gate,)``, m along the beam to the middle of each gate.
        reflectivity: ``(ray, gate)``, dBZ, float32; ``-inf`` is no echo, NaN not measured.
    """

    elevation: float
    azimuth: NDArray[np.floating]
    range: NDArray[np.floating]
    reflectivity: NDArray[np.float32]


@dataclass(frozen=True)
class RadarVolume:
    """The sweeps of one volume, lowest first.

    Args:
        path: Of the file.
        time: Begin of the volume, UTC.
        latitude, longitude: Of the radar, degrees north and east.
        altitude: Of its antenna, m above mean sea level.
        sweeps: Each elevation once.
    """

    path: Path
    time: np.datetime64
    latitude: float
    longitude: float
    altitude: float
    sweeps: tuple[Sweep, ...]


def read_volume(path: str | Path, *, quantity: str = "DBZH") -> RadarVolume:
    """Read the reflectivity of one volume.

    The format is what the first bytes say. Of sweeps at one elevation, as the split cuts of NEXRAD, the
    one with the longest range counts, and of equal ones the first; a vertical sweep is left out.

    - ODIM_H5: ``undetect`` is no echo, ``nodata`` not measured; a file that gives both the same number
      means no echo, as its rays are whole.
    - NEXRAD: below threshold is no echo, range folded not measured.

    Args:
        path: A file.
        quantity: The quantity to read, ``DBZH`` or another reflectivity in dBZ such as ``TH``.

    Raises:
        UnreadableFileError: Missing, truncated, or of another format.
        InputError: No volume: the quantity is missing, or fewer than two elevations.
        MissingExtraError: xradar is not installed.
    """
    path = Path(path)
    format_ = _format(path)
    with _decoding(path), contextlib.closing(_opened(path, format_)) as tree:
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
        raise UnreadableFileError(f"{path}: a packed file; unpack it first, as with gunzip or bunzip2")
    raise UnreadableFileError(f"{path}: neither ODIM_H5 nor NEXRAD level 2 by its first bytes")


def _opened(path: Path, format_: str) -> DataTree:
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
            # xradar warns of ray times that a file does not give; what cannot be read is an error.
            warnings.simplefilter("ignore")
            yield
    except (InputError, MissingExtraError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableFileError(
            f"{path}: damaged or no volume of this format ({reason}); copy it again from its source"
        ) from error


def _volume(path: Path, tree: DataTree, format_: str, quantity: str) -> RadarVolume:
    nodes = [tree[name].ds for name in tree.children if name.startswith("sweep")]
    having = [node for node in nodes if quantity in node]
    if not having:
        known = sorted({str(name) for node in nodes for name in node if node[name].ndim == 2})
        raise InputError(f"{path}: no quantity {quantity!r}; it holds {', '.join(known) or 'none'}")
    sweeps = [_sweep(node, quantity, format_) for node in having]
    chosen = _unique_elevations([sweep for sweep in sweeps if sweep.elevation < _MAX_ELEVATION])
    if len(chosen) < 2:
        raise InputError(f"{path}: {len(chosen)} elevation; a volume has two or more: give the whole volume")
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
    """dBZ with ``-inf`` for no echo, by the codes that the file stores for it."""
    values = np.array(measured.transpose("azimuth", "range").values)
    scale, offset = (float(measured.encoding.get(key, 1 - k)) for k, key in enumerate(_PACKING))
    if not np.isfinite([scale, offset]).all():
        raise InputError(
            f"{measured.name}: stored with a gain of {scale:g} and an offset of {offset:g}, from which no "
            "dBZ follow"
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
    """Lowest first; of nearly equal elevations the one that reaches farthest."""
    chosen: list[Sweep] = []
    for sweep in sorted(sweeps, key=lambda sweep: sweep.elevation):
        if chosen and sweep.elevation - chosen[-1].elevation < _ELEVATION_TOLERANCE:
            if sweep.range[-1] > chosen[-1].range[-1]:
                chosen[-1] = sweep
        else:
            chosen.append(sweep)
    return tuple(chosen)
