"""Sun, moon and magnetic time compared with almanacs and formulas independent of astropy."""

from __future__ import annotations

import numpy as np
import pytest

from geovision.physics.magnetic import dipole_coordinates, dipole_pole, magnetic_local_time
from geovision.physics.sun_moon import moon_elevation, moon_phase, subsolar_point, sun_elevation

GILLAM = 56.35, -94.66


def times(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[us]")


def almanac_sun_elevation(when: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    """Low-precision formulas of the Astronomical Almanac (page C5), accurate to 0.01 degrees."""
    n = (when - np.datetime64("2000-01-01T12:00")) / np.timedelta64(1, "D")
    mean, anomaly = 280.460 + 0.9856474 * n, np.radians(357.528 + 0.9856003 * n)
    ecliptic = np.radians(mean + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    tilt = np.radians(23.439 - 4e-7 * n)
    ascension = np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(tilt) * np.sin(ecliptic))
    sidereal = np.radians(280.46062 + 360.98564737 * n + longitude)
    phi, hour = np.radians(latitude), sidereal - ascension
    return np.degrees(
        np.arcsin(np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour))
    )


@pytest.mark.parametrize("place", [GILLAM, (0.0, 0.0), (-77.85, 166.67), (78.2, 15.6)])
def test_sun_elevation_agrees_with_the_almanac(place: tuple[float, float]):
    when = np.datetime64("2006-01-01", "us") + np.arange(400) * np.timedelta64(441, "h")
    assert np.abs(sun_elevation(when, *place) - almanac_sun_elevation(when, *place)).max() < 0.03


def test_full_and_new_moon_agree_with_the_almanac():
    # NASA's tables: full 2014-03-16 17:08, new 2014-03-30 18:45, first quarter 2014-03-08 13:27 UTC.
    phase = moon_phase(times("2014-03-16T17:08", "2014-03-30T18:45", "2014-03-08T13:27"))
    assert phase == pytest.approx([1, 0, 0.5], abs=0.003)


def test_a_full_moon_is_opposite_the_sun():
    midnight = times("2014-03-16T17:08")
    above, below = moon_elevation(midnight, 0, 103), sun_elevation(midnight, 0, 103)
    assert above == pytest.approx(-below, abs=6)  # the moon's orbit is inclined by five degrees
    assert above > 80


def test_the_sun_is_overhead_at_the_subsolar_point():
    when = times("2019-06-21T15:54", "2019-12-22T04:19")
    latitude, longitude = subsolar_point(when)
    assert latitude == pytest.approx([23.43, -23.43], abs=0.02)  # solstices
    for place in zip(when, latitude, longitude, strict=True):
        assert sun_elevation(np.array([place[0]]), *place[1:]) == pytest.approx([90], abs=0.3)


def test_times_between_minutes_are_as_accurate_as_minutes():
    fine = np.datetime64("2014-03-10T06:00", "us") + np.arange(40) * np.timedelta64(3, "s")
    expected = almanac_sun_elevation(fine, *GILLAM)
    difference = sun_elevation(fine, *GILLAM) - expected
    assert np.ptp(difference) < 2e-4


def test_a_missing_time_gives_a_missing_value():
    when = times("NaT", "2014-03-10T06:00", "NaT")
    for found in (sun_elevation(when, *GILLAM), moon_phase(when), magnetic_local_time(when, *GILLAM)):
        assert np.isnan(found).tolist() == [True, False, True]
    assert np.isnan(sun_elevation(times("NaT"), *GILLAM)).all()
    assert np.isnan(magnetic_local_time(times("NaT"), *GILLAM)).all()


def test_the_dipole_pole_agrees_with_the_field_model():
    # World Data Center for Geomagnetism, Kyoto: geomagnetic north pole.
    assert dipole_pole(2000) == pytest.approx((79.6, -71.6), abs=0.1)
    assert dipole_pole(2015) == pytest.approx((80.4, -72.6), abs=0.1)
    latitude, _ = dipole_coordinates(*dipole_pole(2010), 2010)
    assert latitude == pytest.approx(90, abs=1e-4)


def test_distances_from_the_pole_are_preserved():
    """The spherical cosine rule gives the same angle."""
    place, pole = np.radians([(67.84, 20.42), dipole_pole(2020)])
    cosine = np.sin(place[0]) * np.sin(pole[0]) + np.cos(place[0]) * np.cos(pole[0]) * np.cos(
        place[1] - pole[1]
    )
    assert dipole_coordinates(67.84, 20.42, 2020)[0] == pytest.approx(90 - np.degrees(np.arccos(cosine)))


@pytest.mark.parametrize(
    ("place", "expected"), [((31.48, 130.72), (21.9, 200.6)), ((44.37, 142.27), (35.6, 209.5))]
)
def test_dipole_coordinates_agree_with_a_published_table(place, expected):
    """Kagoshima and Moshiri in the list of stations of ISEE, Nagoya University."""
    latitude, longitude = dipole_coordinates(*place, 2005)
    assert latitude == pytest.approx(expected[0], abs=0.4)
    assert longitude % 360 == pytest.approx(expected[1], abs=0.5)


def test_magnetic_noon_is_when_the_sun_is_over_the_magnetic_meridian():
    day = np.datetime64("2014-03-10T00:00", "us") + np.arange(1440) * np.timedelta64(1, "m")
    hours = magnetic_local_time(day, *GILLAM)
    assert 0 <= hours.min() <= hours.max() < 24
    noon = np.argmin(np.abs(hours - 12))
    _, sun = dipole_coordinates(*(angle[noon] for angle in subsolar_point(day)), 2014.2)
    assert sun == pytest.approx(dipole_coordinates(*GILLAM, 2014.2)[1], abs=0.3)
    # The magnetic day is as long as the solar day, within its variations.
    assert np.diff(np.unwrap(hours, period=24)).min() > 0
