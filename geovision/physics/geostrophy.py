"""Geostrophic mass and moisture fluxes.

The geostrophic wind balances the pressure gradient and the Coriolis force:

    rho u = -(1 / f) dp/dy        rho v = (1 / f) dp/dx        f = 2 Omega sin(latitude)

(Holton and Hakim 2013, An Introduction to Dynamic Meteorology, section 2.4). The mass flux does not require
the density. With the specific humidity q, the moisture flux is q rho (u, v); its ascent over land produces
much of the precipitation there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["coriolis", "mass_flux", "moisture_flux"]

EARTH_RADIUS = 6_371_000.0
"""Radius of the sphere with the volume of the earth, in m."""

EARTH_ROTATION_RATE = 7.292115e-5
"""Angular velocity of the earth, in rad/s."""

_MIN_LATITUDE = 5.0
"""Distance from the equator within which the balance does not hold, in degrees."""


def coriolis(lat: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute the Coriolis parameter, in 1/s.

    Args:
        lat: Latitudes, in degrees north.
    """
    return 2 * EARTH_ROTATION_RATE * np.sin(np.radians(lat))


def mass_flux(
    pressure: NDArray[np.floating], lat: NDArray[np.floating], lon: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Compute the eastward and northward mass flux of the geostrophic wind.

    Args:
        pressure: Pressure at one height, such as sea level, shape (..., y, x), in Pa.
        lat: Latitudes of the rows, two or more, in degrees north; spacing may be uneven.
        lon: Longitudes of the columns, two or more, in degrees east; spacing may be uneven.

    Returns:
        Eastward and northward flux, shape (..., y, x), in kg m-2 s-1.

    Raises:
        ValueError: A latitude is within 5 degrees of the equator.

    >>> pressure = np.array([[101_000.0, 101_000.0], [100_000.0, 100_000.0]])
    >>> east, north = mass_flux(pressure, np.array([40.0, 45.0]), np.array([0.0, 5.0]))
    >>> east.round(1).tolist(), north.round(1).tolist()    # low pressure in the north: westerly wind
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
    """Compute the eastward and northward water vapor flux of the geostrophic wind.

    Args:
        pressure: Pressure at one height, shape (..., y, x), in Pa.
        humidity: Specific humidity in the same cells, in kg/kg.
        lat: Latitudes of the rows, in degrees north, as for `mass_flux`.
        lon: Longitudes of the columns, in degrees east, as for `mass_flux`.

    Returns:
        Eastward and northward flux, shape (..., y, x), in kg m-2 s-1.
    """
    east, north = mass_flux(pressure, lat, lon)
    return east * humidity, north * humidity
