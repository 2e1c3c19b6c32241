"""Approximate magnetic latitude and local time by a centered dipole.

The earth's field is not a dipole. At auroral latitudes, magnetic local time differs by up to about half an
hour, and magnetic latitude by some degrees, from the corrected coordinates that magnetic indices use (Laundal
and Richmond 2017, doi:10.1007/s11214-016-0275-y).
"""

from __future__ import annotations

import numpy as np

from geovision.physics.sun_moon import subsolar_point

__all__ = ["dipole_bearing", "dipole_coordinates", "dipole_pole", "magnetic_local_time"]

# First-degree coefficients g10, g11, h11 of the International Geomagnetic Reference Field, nT, by year
# (IGRF-13, Alken et al. 2021, doi:10.1186/s40623-020-01288-x; 2025: IGRF-14, doi:10.5281/zenodo.14012302).
_IGRF = {
    1980: (-29992.0, -1956.0, 5604.0),
    1985: (-29873.0, -1905.0, 5500.0),
    1990: (-29775.0, -1848.0, 5406.0),
    1995: (-29692.0, -1784.0, 5306.0),
    2000: (-29619.4, -1728.2, 5186.1),
    2005: (-29554.63, -1669.05, 5077.99),
    2010: (-29496.57, -1586.42, 4944.26),
    2015: (-29441.46, -1501.77, 4795.99),
    2020: (-29404.8, -1450.9, 4652.5),
    2025: (-29350.0, -1410.3, 4545.5),
}


def dipole_pole(year: float) -> tuple[float, float]:
    """Return latitude and longitude of the northern dipole pole, in degrees.

    Args:
        year: Year, 1980 to 2025, interpolated between tabulated years; outside, the nearest tabulated year.

    >>> [round(angle, 1) for angle in dipole_pole(2020)]
    [80.6, -72.7]
    """
    years = list(_IGRF)
    g10, g11, h11 = (np.interp(year, years, column) for column in zip(*_IGRF.values(), strict=True))
    latitude = np.degrees(np.arctan2(-g10, np.hypot(g11, h11)))
    return float(latitude), float(np.degrees(np.arctan2(-h11, -g11)))


def dipole_coordinates(
    latitude: np.ndarray | float, longitude: np.ndarray | float, year: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute dipole latitude and longitude, in degrees.

    Longitude counts eastward from the meridian that contains the geographic south pole.

    Args:
        latitude: Geographic latitude, in degrees north.
        longitude: Geographic longitude, in degrees east.
        year: Year of the magnetic field, 1980 to 2025.
    """
    pole_latitude, pole_longitude = np.radians(dipole_pole(year))
    phi, lam = np.radians(latitude), np.radians(longitude) - pole_longitude
    x = np.cos(phi) * np.cos(lam) * np.sin(pole_latitude) - np.sin(phi) * np.cos(pole_latitude)
    y = np.cos(phi) * np.sin(lam)
    z = np.cos(phi) * np.cos(lam) * np.cos(pole_latitude) + np.sin(phi) * np.sin(pole_latitude)
    return np.degrees(np.arcsin(np.clip(z, -1, 1))), np.degrees(np.arctan2(y, x))


def dipole_bearing(latitude: float, longitude: float, year: float) -> float:
    """Compute the direction of the dipole pole along the great circle.

    Args:
        latitude: Geographic latitude, in degrees north.
        longitude: Geographic longitude, in degrees east.
        year: Year of the magnetic field, 1980 to 2025.

    Returns:
        Direction, in degrees east of geographic north, -180 to 180.

    >>> round(dipole_bearing(67.84, 20.41, 2015), 1)  # Kiruna
    -23.9
    """
    pole_latitude, pole_longitude = np.radians(dipole_pole(year))
    phi, lam = np.radians(latitude), pole_longitude - np.radians(longitude)
    east = np.sin(lam) * np.cos(pole_latitude)
    north = np.cos(phi) * np.sin(pole_latitude) - np.sin(phi) * np.cos(pole_latitude) * np.cos(lam)
    return float(np.degrees(np.arctan2(east, north)))


def magnetic_local_time(times: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    """Compute the magnetic local time, in hours, 0 to 24.

    It is 12 when the dipole meridian of the station is that of the sun.

    Args:
        times: Times in UTC, datetime64, shape (time,); NaT returns NaN.
        latitude: Geographic latitude of the station, in degrees north.
        longitude: Geographic longitude of the station, in degrees east.

    Raises:
        MissingExtraError: astropy is not installed.
    """
    times = np.asarray(times, dtype="datetime64[us]")
    valid_times = times[~np.isnat(times)]
    if not valid_times.size:
        return np.full(times.shape, np.nan)
    year = 1970 + float(np.median(valid_times.astype("int64"))) / 1e6 / 86400 / 365.2425
    _, station = dipole_coordinates(latitude, longitude, year)
    _, noon = dipole_coordinates(*subsolar_point(times), year)
    return (12 + (station - noon) / 15) % 24
