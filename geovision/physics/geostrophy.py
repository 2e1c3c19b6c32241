"""The wind that balances pressure and the turning of the earth, and the moisture that it carries.

    rho u = -(1 / f) dp/dy        rho v = (1 / f) dp/dx        f = 2 Omega sin(latitude)

(Holton and Hakim 2013, An Introduction to Dynamic Meteorology, section 2.4). The flux of mass needs no
density; with the specific humidity q it is a flux of moisture, q rho (u, v), whose rise over land is much of
its rain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["coriolis", "mass_flux", "moisture_flux"]

EARTH_RADIUS = 6_371_000.0
"""Metres, of the sphere of the same volume."""

EARTH_ROTATION_RATE = 7.292115e-5
"""Of the earth, radians a second."""

_MIN_LATITUDE = 5.0
"""Degrees from the equator, within which the balance does not hold."""


def coriolis(lat: NDArray[np.floating]) -> NDArray[np.floating]:
    """The Coriolis parameter, s-1, of latitudes in degrees north."""
    return 2 * EARTH_ROTATION_RATE * np.sin(np.radians(lat))


def mass_flux(
    pressure: NDArray[np.floating], lat: NDArray[np.floating], lon: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Eastward and northward flux of air of the geostrophic wind, kg m-2 s-1.

    Args:
        pressure: At one height, such as sea level ``(…, y, x)``, Pa.
        lat, lon: Of rows and columns, two or more of each, degrees north and east, evenly spaced or not.

    Raises:
        ValueError: A latitude within 5 degrees of the equator.

    >>> pressure = np.array([[101_000.0, 101_000.0], [100_000.0, 100_000.0]])
    >>> east, north = mass_flux(pressure, np.array([40.0, 45.0]), np.array([0.0, 5.0]))
    >>> east.round(1).tolist(), north.round(1).tolist()    # low in the north: wind from the west
    ([[19.2, 19.2], [17.4, 17.4]], [[0.0, 0.0], [0.0, 0.0]])
    """
    if np.abs(lat).min() < _MIN_LATITUDE:
        raise ValueError(
            f"latitudes from {lat.min():g} to {lat.max():g}: no geostrophic balance within "
            f"{_MIN_LATITUDE:g} degrees of the equator"
        )
    f = coriolis(lat)[:, None]
    northward = np.gradient(pressure, EARTH_RADIUS * np.radians(lat), axis=-2)
    eastward = (
        np.gradient(pressure, EARTH_RADIUS * np.radians(lon), axis=-1) / np.cos(np.radians(lat))[:, None]
    )
    return -northward / f, eastward / f


def moisture_flux(
    pressure: NDArray[np.floating],
    humidity: NDArray[np.floating],
    lat: NDArray[np.floating],
    lon: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Eastward and northward flux of water vapour of the geostrophic wind, kg m-2 s-1.

    Args:
        pressure, lat, lon: As of `mass_flux`.
        humidity: Specific humidity in the same cells, kg/kg.
    """
    east, north = mass_flux(pressure, lat, lon)
    return east * humidity, north * humidity
