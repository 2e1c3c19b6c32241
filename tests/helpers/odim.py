"""Small ODIM_H5 volumes for tests of the reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

GAIN, OFFSET, NODATA, UNDETECT = 0.5, -32.0, 255, 0

Beam = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def write(
    path: Path,
    reflectivity: Beam,
    *,
    elevations: Sequence[float] = (0.5, 1.5, 3.0, 6.0, 12.0, 20.0),
    time: str = "20240615 120000",
    site: tuple[float, float, float] = (47.0, 11.0, 500.0),
    rays: int = 360,
    gates: int = 120,
    gate_length: float = 500.0,
    quantity: str = "DBZH",
    nodata: int = NODATA,
) -> Path:
    """Write a volume of `reflectivity(azimuth, slant_range, elevation)`.

    Args:
        path: Output file.
        reflectivity: Function of azimuth ``(ray, 1)`` in degrees, slant range ``(1, gate)`` in m and
            elevation in degrees. It returns dBZ; -inf is undetect and NaN is nodata.
        elevations: Elevations of the sweeps, in degrees.
        time: Start of the volume, UTC.
        site: Latitude and longitude in degrees, altitude in m.
        rays: Number of rays per sweep.
        gates: Number of gates per ray.
        gate_length: Gate length, in m.
        quantity: ODIM quantity.
        nodata: Stored count of nodata.

    Returns:
        The path.
    """
    import h5py

    day, clock = time.split()
    stamp = {"date": np.bytes_(day), "time": np.bytes_(clock)}
    azimuth = (np.arange(rays) + 0.5) * 360 / rays
    along = (np.arange(gates) + 0.5) * gate_length
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_2")
        file.create_group("what").attrs.update(
            {
                "object": np.bytes_("PVOL"),
                "version": np.bytes_("H5rad 2.2"),
                "source": np.bytes_("NOD:test"),
                **stamp,
            }
        )
        file.create_group("where").attrs.update(dict(zip(("lat", "lon", "height"), site, strict=True)))
        for number, elevation in enumerate(elevations, 1):
            sweep = file.create_group(f"dataset{number}")
            edges = {f"{edge}{part}": value for edge in ("start", "end") for part, value in stamp.items()}
            sweep.create_group("what").attrs.update({"product": np.bytes_("SCAN"), **edges})
            sweep.create_group("where").attrs.update(
                {
                    "elangle": float(elevation),
                    "nbins": gates,
                    "nrays": rays,
                    "rscale": gate_length,
                    "rstart": 0.0,
                    "a1gate": 0,
                }
            )
            data = sweep.create_group("data1")
            data.create_group("what").attrs.update(
                {
                    "quantity": np.bytes_(quantity),
                    "gain": GAIN,
                    "offset": OFFSET,
                    "nodata": float(nodata),
                    "undetect": float(UNDETECT),
                }
            )
            dbz = np.broadcast_to(reflectivity(azimuth[:, None], along[None], elevation), (rays, gates))
            data["data"] = _packed(dbz, nodata)
    return path


def _packed(dbz: np.ndarray, nodata: int) -> np.ndarray:
    known = np.where(np.isfinite(dbz), dbz, 0)
    counts = np.clip(np.rint((known - OFFSET) / GAIN), 1, 254).astype(np.uint8)
    counts[np.isneginf(dbz)] = UNDETECT
    counts[np.isnan(dbz)] = nodata
    return counts


def storm(east: float, north: float, *, aloft: float, peak: float = 65.0, radius: float = 6000.0) -> Beam:
    """Return the reflectivity of a storm cell without other echoes.

    Args:
        east: Distance east of the radar, in m.
        north: Distance north of the radar, in m.
        aloft: Height of the maximum above the radar, in m.
        peak: Maximum reflectivity, in dBZ.
        radius: Distance at which the reflectivity is 15 dB lower, in m.
    """

    def reflectivity(azimuth: np.ndarray, along: np.ndarray, elevation: float) -> np.ndarray:
        angle, tilt = np.radians(azimuth), np.radians(elevation)
        x, y, z = (
            along * np.cos(tilt) * np.sin(angle),
            along * np.cos(tilt) * np.cos(angle),
            along * np.sin(tilt) + along**2 / 1.7e7,
        )
        away = np.hypot(x - east, y - north)
        dbz = peak - 15 * (away / radius) ** 2 - 2e-3 * np.abs(z - aloft)
        return np.where((away < 2 * radius) & (z < 14000), dbz, -np.inf)

    return reflectivity
