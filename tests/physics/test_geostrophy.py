"""Geostrophic flux compared with fields of known gradients."""

from __future__ import annotations

import numpy as np
import pytest

from geovision.physics.geostrophy import EARTH_RADIUS, coriolis, mass_flux, moisture_flux

LAT, LON = np.array([35.0, 36.0, 38.0, 41.0]), np.array([-10.0, -8.0, -7.0, -3.0, 0.0])


def test_a_plane_of_pressure_has_its_gradient_everywhere() -> None:
    y, x = EARTH_RADIUS * np.radians(LAT)[:, None], EARTH_RADIUS * np.radians(LON)
    pressure = 101_000.0 + 1e-3 * x - 2e-3 * y
    east, north = mass_flux(np.stack([pressure, 2 * pressure]), LAT, LON)
    f = coriolis(LAT)[:, None]
    np.testing.assert_allclose(east[0], np.broadcast_to(2e-3 / f, pressure.shape), rtol=1e-9)
    expected = np.broadcast_to(1e-3 / f / np.cos(np.radians(LAT))[:, None], pressure.shape)
    np.testing.assert_allclose(north[0], expected, rtol=1e-9)
    np.testing.assert_allclose(east[1], 2 * east[0])


def test_winds_rotate_the_other_way_in_the_southern_hemisphere() -> None:
    pressure = np.add.outer(np.arange(4.0), np.zeros(5))
    assert (mass_flux(pressure, LAT, LON)[0] < 0).all()
    assert (mass_flux(pressure, LAT - 80, LON)[0] > 0).all()


def test_moisture_flux_is_humidity_times_mass_flux() -> None:
    rng = np.random.default_rng(0)
    pressure, humidity = rng.normal(101_000, 500, (4, 5)), rng.uniform(0.002, 0.01, (4, 5))
    for carried, air in zip(
        moisture_flux(pressure, humidity, LAT, LON), mass_flux(pressure, LAT, LON), strict=True
    ):
        np.testing.assert_allclose(carried, humidity * air)


def test_there_is_no_balance_at_the_equator() -> None:
    with pytest.raises(ValueError, match="equator"):
        mass_flux(np.zeros((4, 5)), LAT - 38, LON)
