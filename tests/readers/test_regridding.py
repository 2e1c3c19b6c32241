"""Regridding compared with planes, totals, scipy and a rotation in space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geovision.errors import InputError, OptionError
from geovision.readers.grids import coarsen, open_grid, regrid, write_grid
from geovision.readers.grids.axes import rotated_to_geographic

_few = settings(max_examples=15, deadline=None)


def field_of(values: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("lat", "lon"), coords={"lat": lat, "lon": lon}, name="precipitation")


def test_bilinear_is_exact_on_a_plane_and_agrees_with_scipy() -> None:
    lat, lon = np.linspace(30, 40, 6), np.linspace(-10, 5, 9)
    to = xr.Dataset(coords={"lat": np.linspace(31.1, 39.5, 7), "lon": np.linspace(-9.7, 4, 11)})
    plane = field_of(2 * lat[:, None] - lon[None], lat, lon)
    np.testing.assert_allclose(regrid(plane, to), 2 * to.lat.values[:, None] - to.lon.values[None])
    noise = field_of(np.random.default_rng(0).random((6, 9)), lat, lon)
    np.testing.assert_allclose(regrid(noise, to), noise.interp(lat=to.lat, lon=to.lon), atol=1e-12)
    near = noise.sel(lat=to.lat, lon=to.lon, method="nearest")
    np.testing.assert_allclose(regrid(noise, to, "nearest"), near)


@_few
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
def test_means_over_areas_keep_the_total(seed: int, rows: int, columns: int) -> None:
    """The total over the area of the sphere is equal on all grids of the same extent."""
    rng = np.random.default_rng(seed)

    def grid(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lat_edges, lon_edges = np.linspace(20, 56, n + 1), np.linspace(-10, 30, m + 1)
        area = np.diff(np.sin(np.radians(lat_edges)))[:, None] * np.diff(lon_edges)[None]
        return (lat_edges[1:] + lat_edges[:-1]) / 2, (lon_edges[1:] + lon_edges[:-1]) / 2, area

    lat, lon, area = grid(7, 6)
    to_lat, to_lon, to_area = grid(rows, columns)
    field = field_of(rng.random((7, 6)), lat, lon)
    found = regrid(field, xr.Dataset(coords={"lat": to_lat, "lon": to_lon}), "conservative")
    assert float((found * to_area).sum()) == pytest.approx(float((field * area).sum()))


def test_coarsening_is_the_area_mean_of_valid_cells() -> None:
    lat, lon = np.arange(0.5, 60, 1.0), np.arange(0.5, 8, 1.0)
    values = np.random.default_rng(1).random((60, 8))
    values[0:2, 0] = np.nan
    coarse = coarsen(field_of(values, lat, lon), 4)
    assert coarse.shape == (15, 2)
    area = np.diff(np.sin(np.radians(np.arange(0, 61.0))))[:, None] * np.ones(8)
    block, weight = values[:4, :4], area[:4, :4]
    expected = np.nansum(block * weight) / weight[np.isfinite(block)].sum()
    assert float(coarse[0, 0]) == pytest.approx(expected)
    assert coarse.lat.values[0] == pytest.approx(2.0)


@pytest.mark.parametrize(("missing", "there"), [(8, True), (9, False)])
def test_a_block_needs_half_of_its_cells(missing: int, there: bool) -> None:
    values = np.ones((4, 4))
    values.ravel()[:missing] = np.nan
    # Along the equator, the cells of a block have equal size to within one millionth.
    coarse = coarsen(field_of(values, np.arange(4) * 1e-3, np.arange(4) * 1e-3), 4, min_valid=0.4999)
    assert bool(np.isfinite(coarse[0, 0])) is there


def test_a_block_beyond_the_grid_is_partly_missing() -> None:
    field = field_of(np.ones((5, 6)), np.arange(5) * 1e-3, np.arange(6) * 1e-3)
    assert coarsen(field, 4).shape == (2, 2)
    assert np.isfinite(coarsen(field, 4).values).tolist() == [[True, True], [False, False]]


def test_a_missing_cell_does_not_spread() -> None:
    lat = lon = np.arange(6.0)
    values = np.ones((6, 6))
    values[2, 2] = np.nan
    to = xr.Dataset(coords={"lat": [2.1, 2.6, 2.9], "lon": [2.1]})
    found = regrid(field_of(values, lat, lon), to).values.ravel()
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], 1)


def test_both_longitude_conventions_match_and_a_globe_is_periodic() -> None:
    lat, lon = np.array([-10.0, 0.0, 10.0]), np.arange(0, 360, 30.0)
    field = field_of(np.broadcast_to(np.cos(np.radians(lon)), (3, 12)), lat, lon)
    to = xr.Dataset(coords={"lat": [0.0], "lon": [-45.0, -15.0, 0.0, 345.0]})
    found = regrid(field, to).values.ravel()
    between = (np.cos(np.radians(30)) + 1) / 2
    np.testing.assert_allclose(found, [(0.5 + np.cos(np.radians(30))) / 2, between, 1, between])


def test_means_over_areas_of_a_globe_in_either_convention_are_the_same() -> None:
    rng = np.random.default_rng(2)
    lat, lon = np.arange(-85.0, 90, 10), np.arange(0, 360, 30.0)
    field = field_of(rng.random((18, 12)), lat, lon)
    east = regrid(field, xr.Dataset(coords={"lat": lat, "lon": np.arange(10, 360, 20.0)}), "conservative")
    both = regrid(field, xr.Dataset(coords={"lat": lat, "lon": np.arange(-170, 180, 20.0)}), "conservative")
    np.testing.assert_allclose(both.roll(lon=9), east)
    np.testing.assert_allclose(east.mean("lon"), field.mean("lon"))
    assert np.isfinite(both.values).all()


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_a_grid_of_points_is_regridded_point_by_point(method: str) -> None:
    lat, lon = np.linspace(30, 40, 6), np.linspace(-10, 5, 9)
    field = field_of(np.random.default_rng(0).random((6, 9)), lat, lon)
    y, x = np.meshgrid(np.linspace(31.1, 39, 4), np.linspace(-9, 4.1, 5), indexing="ij")
    points = xr.Dataset(coords={"lat": (("y", "x"), y), "lon": (("y", "x"), x + 0.1 * y)})
    found = regrid(field, points, method)  # type: ignore[arg-type]
    assert found.dims == ("y", "x")
    scipys = field.interp(
        lat=points.lat, lon=points.lon, method="linear" if method == "bilinear" else "nearest"
    )
    np.testing.assert_allclose(found, scipys, atol=1e-12)


def test_grids_that_do_not_overlap_are_refused() -> None:
    here = field_of(np.ones((3, 3)), np.arange(3.0), np.arange(3.0))
    with pytest.raises(InputError, match=r"do not overlap: one has latitudes 0 to 2 .* open it with pole="):
        regrid(here, xr.Dataset(coords={"lat": [40.0, 41.0], "lon": [0.0, 1.0]}))
    with pytest.raises(OptionError, match="known: bilinear, nearest, conservative"):
        regrid(here, here, "cubic")  # type: ignore[arg-type]


def test_rotated_coordinates_agree_with_a_rotation_in_space() -> None:
    """The pole of the grid and all points are rotated to their positions on the Earth."""
    from scipy.spatial.transform import Rotation

    def vectors(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        y, x = np.radians(lat), np.radians(lon)
        return np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=-1).reshape(-1, 3)

    lat, lon = np.meshgrid(np.linspace(-80, 80, 9), np.linspace(-170, 180, 8), indexing="ij")
    turn = Rotation.from_euler("z", -162.0 + 180, degrees=True) * Rotation.from_euler(
        "y", -(90 - 39.25), degrees=True
    )
    np.testing.assert_allclose(
        turn.apply([0, 0, 1]), vectors(np.array(39.25), np.array(-162.0))[0], atol=1e-12
    )
    found = vectors(*rotated_to_geographic(lat, lon, (39.25, -162.0)))
    np.testing.assert_allclose(found, turn.apply(vectors(lat, lon)), atol=1e-9)


def test_a_rotated_grid_is_regridded_to_latitudes(tmp_path: Path) -> None:
    lat, lon = np.linspace(-15, -3, 25), np.linspace(-23, -10, 27)
    y, x = np.meshgrid(lat, lon, indexing="ij")
    north, east = rotated_to_geographic(y, x, (39.25, -162.0))
    values = np.stack([north, east + 20, north + east]).astype(np.float32)
    field = xr.DataArray(
        values,
        dims=("time", "rlat", "rlon"),
        name="pr",
        attrs={"units": "mm/day"},
        coords={
            "time": np.array(["2001-01-01", "2001-01-02", "2001-01-03"], "datetime64[ns]"),
            "rlat": lat,
            "rlon": lon,
        },
    )
    path = tmp_path / "r.nc"
    field.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError, match="without latitudes and longitudes; for a rotated grid give pole="):
        open_grid(path, "precipitation")
    found = open_grid(path, "precipitation", pole=(39.25, -162.0))
    assert found.dims == ("time", "y", "x")
    to = xr.Dataset(coords={"lat": np.arange(37, 43, 0.5), "lon": np.arange(-6, 2, 0.5)})
    onto = regrid(found, to)
    np.testing.assert_allclose(onto[0], np.broadcast_to(to.lat.values[:, None], onto[0].shape), atol=0.01)
    np.testing.assert_allclose(onto[1], np.broadcast_to(to.lon.values + 20, onto[1].shape), atol=0.01)
    with_mapping = field.to_dataset().assign(
        rotated_pole=xr.DataArray(
            0, attrs={"grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
        )
    )
    with_mapping["pr"].attrs["grid_mapping"] = "rotated_pole"
    with_mapping.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    again = open_grid(tmp_path / "m.nc", "precipitation")
    np.testing.assert_array_equal(again["lat"], found["lat"])
    for name in ("out.nc", "out.zarr"):
        back = open_grid(write_grid(again, tmp_path / name), "precipitation")
        np.testing.assert_array_equal(back["lon"], found["lon"])
        np.testing.assert_array_equal(back, found)
