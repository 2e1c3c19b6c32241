"""Positions of sun and moon, computed by astropy without network access."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from geovision.errors import MissingExtraError

__all__ = ["moon_elevation", "moon_phase", "subsolar_point", "sun_elevation"]

_LOCK = threading.Lock()


def sun_elevation(times: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    """Compute the elevation of the sun's center, in degrees, without refraction.

    Civil, nautical and astronomical twilight end at -6, -12 and -18 degrees.

    Args:
        times: Times in UTC, datetime64, shape (time,); NaT returns NaN.
        latitude: Geodetic latitude, in degrees north, -90 to 90.
        longitude: Longitude, in degrees east.

    Raises:
        MissingExtraError: astropy is not installed.
    """
    return _elevation("sun", times, latitude, longitude)


def moon_elevation(times: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    """Compute the elevation of the moon's center, in degrees, without refraction.

    The position is topocentric.

    Args:
        times: Times in UTC, datetime64, shape (time,); NaT returns NaN.
        latitude: Geodetic latitude, in degrees north, -90 to 90.
        longitude: Longitude, in degrees east.

    Raises:
        MissingExtraError: astropy is not installed.
    """
    return _elevation("moon", times, latitude, longitude)


def moon_phase(times: np.ndarray) -> np.ndarray:
    """Compute the illuminated fraction of the moon's disk, 0 to 1.

    From the angle between sun and moon (Meeus 1998, Astronomical Algorithms, chapter 48).

    Args:
        times: Times in UTC, datetime64, shape (time,); NaT returns NaN.

    Raises:
        MissingExtraError: astropy is not installed.
    """

    def fraction(coordinates: Any, when: Any) -> np.ndarray:
        sun, moon = (coordinates.get_body(name, when) for name in ("sun", "moon"))
        elongation = sun.separation(moon, origin_mismatch="ignore")
        angle = np.arctan2(
            sun.distance * np.sin(elongation), moon.distance - sun.distance * np.cos(elongation)
        )
        return ((1 + np.cos(angle)) / 2).value

    return _interpolate_minutes(times, fraction)


def subsolar_point(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the subsolar point on a sphere.

    Args:
        times: Times in UTC, datetime64, shape (time,); NaT returns NaN.

    Returns:
        Latitude in degrees north, and longitude in degrees east, -180 to 180.

    Raises:
        MissingExtraError: astropy is not installed.
    """

    def direction(coordinates: Any, when: Any) -> np.ndarray:
        fixed = coordinates.get_body("sun", when).transform_to(coordinates.ITRS(obstime=when))
        return (fixed.cartesian.xyz / fixed.cartesian.norm()).value

    x, y, z = _interpolate_minutes(times, direction)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def _elevation(body: str, times: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    def altitude(coordinates: Any, when: Any) -> np.ndarray:
        place = coordinates.EarthLocation.from_geodetic(longitude, latitude)
        frame = coordinates.AltAz(obstime=when, location=place)
        return coordinates.get_body(body, when, place).transform_to(frame).alt.deg

    return _interpolate_minutes(times, altitude)


def _interpolate_minutes(times: np.ndarray, compute: Callable[[Any, Any], np.ndarray]) -> np.ndarray:
    """Compute values at whole minutes, and interpolate them linearly to the times.

    Cameras record many frames per minute, in which the sky turns by a quarter of a degree. The interpolation
    error is 1e-4 degrees, and the computation takes a hundredth of the time.

    Args:
        times: Times in UTC, datetime64, shape (time,); NaT returns NaN.
        compute: Function of (astropy.coordinates, astropy times) that returns values of shape (..., minute).

    Returns:
        Values, shape (..., time).
    """
    times = np.asarray(times, dtype="datetime64[us]")
    valid_times = times[~np.isnat(times)]
    before = valid_times.astype("datetime64[m]")
    minutes, place = np.unique(np.stack([before, before + 1]), return_inverse=True)
    with _offline_astropy() as (coordinates, time):
        values = np.asarray(compute(coordinates, time(minutes)))
    first, second = values[..., place.reshape(2, -1)[0]], values[..., place.reshape(2, -1)[1]]
    share = (valid_times - before) / np.timedelta64(1, "m")
    result = np.full((*values.shape[:-1], *times.shape), np.nan)
    result[..., ~np.isnat(times)] = first + share * (second - first)
    return result


@contextmanager
def _offline_astropy() -> Iterator[tuple[Any, Any]]:
    """Provide astropy's coordinates and a factory of its times, without downloads.

    Earth rotation data are not downloaded. The bundled data are accurate to an arc second for years.
    """
    try:
        import astropy.coordinates as coordinates
        from astropy.time import Time
        from astropy.utils import iers
    except ImportError as error:
        raise MissingExtraError("astropy", "sky") from error
    # The settings are global to all threads; the lock keeps one thread from restoring them under another.
    with (
        _LOCK,
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
    ):
        yield coordinates, lambda times: Time(times, format="datetime64", scale="utc")
