"""Terrain parameters of known surfaces and of real heights."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.paths import DATA

from geovision.errors import InputError
from geovision.physics.terrain import aspect, curvature, flow_direction, gradient, grid_spacing, slope

DEM = DATA / "dem"


def _grid(dx: float = 30.0, dy: float = 50.0, shape: tuple[int, int] = (40, 50)) -> tuple[np.ndarray, ...]:
    return np.meshgrid(dx * np.arange(shape[1]), dy * np.arange(shape[0]))


@pytest.mark.parametrize("bearing", range(0, 360, 30))
def test_a_plane_has_one_slope_and_aspect_up_to_its_edges(bearing: int) -> None:
    x, y = _grid()
    down = np.sin(np.radians(bearing)), np.cos(np.radians(bearing))
    plane = 1000 - 0.3 * (down[0] * x + down[1] * y)
    np.testing.assert_allclose(slope(plane, 30, 50), np.degrees(np.arctan(0.3)))
    turned = (aspect(plane, 30, 50) - bearing + 180) % 360 - 180
    np.testing.assert_allclose(turned, 0, atol=1e-9)
    np.testing.assert_allclose(curvature(plane, 30, 50), 0, atol=1e-12)
    # The same ground with rows from north to south.
    np.testing.assert_allclose(aspect(plane[::-1], 30, -50), aspect(plane, 30, 50)[::-1])
    np.testing.assert_allclose(flow_direction(plane[::-1], 30, -50), flow_direction(plane, 30, 50)[::-1])
    np.testing.assert_allclose(
        flow_direction(plane[:, ::-1], -30, 50), flow_direction(plane, 30, 50)[:, ::-1]
    )


def test_flow_runs_down_a_cone_in_all_directions_and_ends_in_a_pit() -> None:
    x, y = np.meshgrid(np.arange(-20.0, 21), np.arange(-20.0, 21))
    away = np.degrees(np.arctan2(x, y)) % 360
    cone = -np.hypot(x, y)
    inner = (np.hypot(x, y) > 3) & (np.hypot(x, y) < 18)
    np.testing.assert_allclose(slope(cone, 1, 1)[inner], 45, atol=1.0)
    off = (flow_direction(cone, 1, 1) - away + 180) % 360 - 180
    assert np.abs(off[inner]).max() <= 22.5 + 3
    assert np.isnan(flow_direction(-cone, 1, 1)[20, 20])  # the bottom
    assert np.isfinite(flow_direction(-cone, 1, 1)).sum() == cone.size - 1


def test_curvature_of_a_quadratic_is_exact() -> None:
    x, y = _grid()
    bulge = -1e-4 * (x - 700) ** 2 - 2e-4 * (y - 900) ** 2 + 5e-5 * x * y
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(curvature(bulge, 30, 50)[inside], 6e-4)
    parts = curvature(bulge, 30, 50, "profile") + curvature(bulge, 30, 50, "plan")
    np.testing.assert_allclose(parts[inside], 6e-4)
    # A trough toward the north curves only across the flow at its bottom, and only along it on its flank.
    trough = 1e-4 * (x - 700) ** 2
    np.testing.assert_allclose(curvature(trough, 30, 50, "plan")[5, 5], 0, atol=1e-15)
    np.testing.assert_allclose(curvature(trough, 30, 50, "profile")[5, 5], -2e-4)


def test_grid_spacing_equals_that_of_the_ellipsoid() -> None:
    pyproj = pytest.importorskip("pyproj")
    latitude, longitude = np.arange(30.0, 30.05, 0.01), np.arange(112.0, 112.05, 0.01)
    dx, dy = grid_spacing(latitude, longitude)
    ball = pyproj.Geod(ellps="WGS84")
    for row, north in enumerate(latitude):
        east = ball.inv(112.0, north, 112.01, north)[2]
        up = ball.inv(112.0, north - 0.005, 112.0, north + 0.005)[2]
        np.testing.assert_allclose((dx[row, 0], dy[row, 0]), (east, up), rtol=1e-6)
    assert (grid_spacing(latitude[::-1], longitude)[1] < 0).all()


def test_flow_equals_a_slow_search_for_the_steepest_neighbor() -> None:
    rng = np.random.default_rng(0)
    heights, dx, dy = rng.normal(size=(7, 9)), 90.0, 110.0
    heights[3, 4] = np.nan
    found = flow_direction(heights, dx, dy)
    for row in range(7):
        for column in range(9):
            falls = {}
            for north in (-1, 0, 1):
                for east in (-1, 0, 1):
                    r, c = row + north, column + east
                    if (north or east) and 0 <= r < 7 and 0 <= c < 9:
                        bearing = np.degrees(np.arctan2(east, north)) % 360
                        falls[bearing] = (heights[row, column] - heights[r, c]) / np.hypot(
                            north * dy, east * dx
                        )
            known = {bearing: fall for bearing, fall in falls.items() if fall > 0}
            if np.isnan(heights[row, column]) or not known:
                assert np.isnan(found[row, column])
            else:
                assert found[row, column] == max(known, key=known.__getitem__)


def test_missing_heights_spread_to_neighbors_and_flat_ground_has_no_aspect() -> None:
    level = np.zeros((6, 6))
    assert np.isnan(aspect(level, 1, 1)).all()
    assert np.isnan(flow_direction(level, 1, 1)).all()
    assert (slope(level, 1, 1) == 0).all()
    assert (curvature(level, 1, 1, "plan") == 0).all()
    level[2, 2] = np.nan
    assert np.isnan(slope(level, 1, 1)).sum() == 9 - 1  # the method of Horn does not use the center cell
    assert np.isnan(curvature(level, 1, 1)).sum() == 5


def test_invalid_grids_are_refused() -> None:
    with pytest.raises(InputError, match="expected \\(y, x\\)"):
        slope(np.zeros(5), 1, 1)
    with pytest.raises(InputError, match="dx=0"):
        slope(np.zeros((3, 3)), 0, 1)
    with pytest.raises(InputError, match="latitude: expected two or more values in even steps"):
        grid_spacing([1.0, 2.0, 4.0], [0.0, 1.0])


@pytest.mark.real_data
def test_a_volcano_slopes_down_in_all_directions() -> None:
    tiles = sorted(DEM.glob("*.hgt.zip"))
    if not tiles:
        pytest.skip(f"no SRTM tiles in {DEM}")
    from geovision.readers.elevation import read_elevation

    ground = read_elevation(tiles[0])
    heights = ground.values
    dx, dy = grid_spacing(ground["latitude"].values, ground["longitude"].values)
    steep = slope(heights, dx, dy)
    assert 10 < np.nanquantile(steep[heights > 10], 0.9) < 60
    east, north = gradient(heights, dx, dy)
    east_again, north_again = np.gradient(heights, axis=1) / dx, np.gradient(heights, axis=0) / dy
    land = heights > 10
    assert np.corrcoef(east[land], east_again[land])[0, 1] > 0.95
    assert np.corrcoef(north[land], north_again[land])[0, 1] > 0.95
