"""Hail labels: cells, their tracks, the two rules and xarray input and output."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from geovision.errors import InputError
from geovision.physics import hail
from geovision.physics.hail.cells import find_cells, overlapping_cells
from geovision.physics.hail.labels import ColumnFields, posh_label, track_cells

ALOFT, GROUND = 7500.0, 1500.0


def fields(*cells: tuple[slice, slice, float], posh: float = 90.0, vil: float = 60.0, lowest: float = 1000.0):
    """Column fields with cells of 60 dBZ: rows, columns, height of the maximum."""
    shape = (20, 30)
    dbz, height = np.full(shape, -np.inf), np.full(shape, np.nan)
    for rows, columns, top in cells:
        dbz[rows, columns], height[rows, columns] = 60, top
    inside = np.isfinite(dbz)
    return ColumnFields(
        dbz, height, np.where(inside, posh, 0.0), np.where(inside, vil, 0.0), np.full(shape, lowest)
    )


def minutes(*values: int) -> np.ndarray:
    return np.datetime64("2024-06-15T12:00", "ns") + np.array(values, "timedelta64[m]")


def cell(first_column: int, height: float, rows: tuple[int, int] = (5, 10)):
    return slice(*rows), slice(first_column, first_column + 6), height


# --- cells --------------------------------------------------------------------------------------


def test_cells_are_connected_areas_of_some_size():
    dbz = np.full((8, 8), -np.inf)
    dbz[0:3, 0:3] = 55
    dbz[3, 3] = 50  # touches by a corner
    dbz[6, 6] = 70  # too small
    dbz[7, 0] = np.nan
    cells = find_cells(dbz, threshold_dbz=50, min_pixels=2)
    assert np.array_equal(cells > 0, np.isfinite(dbz) & (dbz < 70))
    assert cells.max() == 1


def test_overlapping_cells_are_sorted_by_overlap():
    before, after = np.zeros((2, 3, 8), np.int32)
    before[:, 0:5], before[:, 6:] = 1, 2
    after[:, 1:3], after[:, 4:7] = 1, 2
    assert overlapping_cells(before, after) == [(1, 1, 6), (1, 2, 3), (2, 2, 3)]
    assert overlapping_cells(before, np.zeros_like(after)) == []


# --- two stages ---------------------------------------------------------------------------------


def test_a_cell_is_armed_aloft_tracked_and_labeled_at_the_ground():
    history = track_cells(
        minutes(0, 6, 12, 18),
        [fields(cell(2, ALOFT)), fields(cell(4, 4000)), fields(cell(6, GROUND)), fields()],
    )
    assert [np.unique(each[each > 0]).tolist() for each in history.cell] == [[1], [1], [1], []]
    assert history.armed.any(axis=(1, 2)).tolist() == [True, True, True, False]
    assert (history.label == 1).sum(axis=(1, 2)).tolist() == [0, 0, 30, 0]
    assert np.array_equal(history.label[2] == 1, history.cell[2] == 1)


@pytest.mark.parametrize(
    "aloft", [fields(cell(2, ALOFT), posh=50), fields(cell(2, ALOFT), vil=50), fields(cell(2, 6000))]
)
def test_each_test_must_be_exceeded(aloft: ColumnFields):
    history = track_cells(minutes(0, 6), [aloft, fields(cell(3, GROUND))])
    assert not history.armed.any()
    assert not (history.label == 1).any()


def test_heavy_rain_near_the_ground_is_not_hail():
    history = track_cells(minutes(0, 6), [fields(cell(2, GROUND)), fields(cell(2, GROUND))])
    assert not (history.label == 1).any()


def test_a_cell_elsewhere_is_another_cell():
    history = track_cells(minutes(0, 6), [fields(cell(2, ALOFT)), fields(cell(20, GROUND))])
    assert history.cell[1].max() == 2
    assert not (history.label == 1).any()


def test_both_parts_of_a_split_are_armed_and_the_larger_keeps_the_number():
    whole = fields((slice(2, 12), slice(2, 8), ALOFT))
    parts = fields((slice(2, 8), slice(2, 8), GROUND), (slice(9, 12), slice(2, 8), GROUND))
    history = track_cells(minutes(0, 6), [whole, parts])
    assert history.cell[1][3, 3] == 1
    assert history.cell[1][10, 3] == 2
    assert (history.label[1] == 1).sum() == 6 * 6 + 3 * 6


def test_merged_cells_are_armed_if_one_was():
    two = fields((slice(2, 4), slice(2, 8), ALOFT), (slice(6, 14), slice(2, 8), 4000))
    history = track_cells(minutes(0, 6), [two, fields((slice(2, 14), slice(2, 8), GROUND))])
    # The merged cell has the number of the cell with the larger overlap.
    assert np.unique(history.cell[1][history.cell[1] > 0]).tolist() == [2]
    assert (history.label[1] == 1).sum() == 12 * 6


def test_arming_ends_after_a_while():
    series = [fields(cell(2, ALOFT)), *[fields(cell(2, 4000))] * 3, fields(cell(2, GROUND))]
    times = minutes(0, 10, 20, 30, 40)
    assert not (track_cells(times, series).label == 1).any()
    assert (track_cells(times, series, hail.TwoStageRule(armed_duration=2400)).label[4] == 1).any()


def test_cells_are_not_tracked_across_a_gap():
    series = [fields(cell(2, ALOFT)), fields(cell(2, GROUND))]
    assert (track_cells(minutes(0, 15), series).label == 1).any()
    history = track_cells(minutes(0, 16), series)
    assert not (history.label == 1).any()
    assert history.cell[1].max() == 2


def test_armed_cells_far_from_the_radar_are_not_labeled():
    far = fields(cell(2, ALOFT), lowest=7000)
    history = track_cells(minutes(0, 6), [far, far])
    assert history.armed.all(axis=0).any()
    assert not (history.label == 1).any()


def test_labels_mark_unknown_cells():
    aloft, down = fields(cell(2, ALOFT)), fields(cell(2, GROUND))
    for each in (aloft, down):
        each.probability_of_severe_hail[0, 0] = np.nan
    assert track_cells(minutes(0, 6), [aloft, down]).label[:, 0, 0].tolist() == [-1, -1]
    assert posh_label(np.array([np.nan, 50.0, 50.1])).tolist() == [-1, 0, 1]


def test_unordered_volumes_are_reported():
    series = [fields(cell(2, ALOFT)), fields(cell(2, GROUND))]
    for times in (minutes(6, 0), minutes(6, 6)):
        with pytest.raises(InputError, match="not in chronological order, or two have the same time; sort"):
            track_cells(times, series)


# --- xarray in and out --------------------------------------------------------------------------


LEVELS = np.array([500.0, 1000, 2000, 3000, 4000, 5000, 6500, 8000, 10000, 12000])


def volume(height: float, minute: int = 0, *, first_column: int = 4, lon_0: float = 11.0) -> xr.DataArray:
    """A cell of 12 x 8 points, strongest at a height, in a volume with a corner that is not covered."""
    dbz = np.full((len(LEVELS), 24, 30), -np.inf, np.float32)
    strength = 66 - np.abs(LEVELS - height) / 400
    dbz[:, 6:18, first_column : first_column + 8] = strength[:, None, None]
    dbz[:, :3, :3] = np.nan
    crs = {"grid_mapping_name": "azimuthal_equidistant", "crs_wkt": f"centred at {lon_0} E"}
    return xr.DataArray(
        dbz,
        dims=("level", "y", "x"),
        name="reflectivity",
        attrs={"units": "dBZ", "grid_mapping": "crs"},
        coords={
            "level": ("level", LEVELS, {"units": "m"}),
            "y": 1000.0 * np.arange(24),
            "x": 1000.0 * np.arange(30),
            "time": minutes(minute)[0],
            "radar_altitude": 300.0,
            "crs": ((), 0, crs),
        },
    )


ABOVE = {"freezing_level": 3500.0, "minus20_level": 6500.0}


def test_products_have_units_and_separate_no_echo_from_not_covered():
    products = hail.hail_products(volume(8000), **ABOVE)
    assert products["severe_hail_index"].attrs["units"] == "J m-1 s-1"
    assert products["maximum_expected_size_of_hail"].attrs["calibration"] == "witt"
    assert all(products[name].attrs["units"] and products[name].attrs["long_name"] for name in products)
    assert all(products[name].dtype == np.float32 for name in products)
    inside, no_echo, not_covered = (products.isel(y=y, x=x) for y, x in ((10, 6), (20, 20), (0, 0)))
    assert float(inside["probability_of_severe_hail"]) == 100
    assert float(inside["height_of_maximum_reflectivity"]) == 8000
    assert float(no_echo["maximum_reflectivity"]) == -np.inf
    assert float(no_echo["vertically_integrated_liquid"]) == 0
    assert all(np.isnan(not_covered[name]) for name in products if name != "covered_share")
    assert float(not_covered["covered_share"]) == 0


def test_the_order_of_dimensions_does_not_matter():
    turned = hail.hail_products(volume(8000).transpose("y", "level", "x"), **ABOVE)
    xr.testing.assert_identical(turned, hail.hail_products(volume(8000), **ABOVE))


def test_the_threshold_is_relative_to_the_radar():
    low, high = (
        hail.hail_products(volume(5000), **ABOVE, radar_altitude=altitude)["probability_of_severe_hail"].max()
        for altitude in (0.0, 1000.0)
    )
    assert low <= high
    weak = volume(5000) - 14
    weak.attrs["units"] = "dBZ"
    low, own, high = (
        float(hail.hail_products(weak, **ABOVE, radar_altitude=each)["probability_of_severe_hail"].max())
        for each in (0.0, None, 1000.0)
    )
    assert 0 < low < own < high < 100


def test_a_field_of_freezing_levels_may_have_gaps():
    freezing = xr.full_like(volume(8000).isel(level=0, drop=True), 3500.0)
    freezing[10, 6] = np.nan
    products = hail.hail_products(volume(8000), freezing_level=freezing, minus20_level=6500)
    assert np.isnan(products["probability_of_severe_hail"][10, 6])
    assert float(products["probability_of_severe_hail"][10, 7]) == 100
    assert np.isfinite(products["vertically_integrated_liquid"][10, 6])


def test_labels_of_volumes_in_any_order_are_sorted_by_time(tmp_path):
    series = [hail.hail_products(volume(h, m), **ABOVE) for h, m in ((1000, 12), (8000, 0), (4000, 6))]
    joined = hail.join_volumes(series)
    assert (np.diff(joined["time"].values) > np.timedelta64(0)).all()
    labels = hail.hail_labels(joined, hail.TwoStageRule(vil=10))
    assert (labels["hail"] == 1).sum(("y", "x")).values.tolist() == [0, 0, 12 * 8]
    labels.to_netcdf(tmp_path / "labels.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "labels.nc", engine="h5netcdf") as read:
        assert read["hail"].attrs["flag_meanings"] == "not_covered no_hail hail"
        assert read["hail"].dtype == np.int8
        assert read["hail"][0, 0, 0] == -1
        assert read["maximum_reflectivity"].values[0, 20, 20] == -np.inf


def test_the_label_by_probability_alone_needs_no_second_volume():
    labels = hail.hail_labels(hail.join_volumes([hail.hail_products(volume(8000), **ABOVE)]), hail.PoshRule())
    assert int((labels["hail"] == 1).sum()) == 12 * 8
    assert "cell" not in labels


def test_other_projections_are_reported():
    series = [hail.hail_products(volume(8000, 6 * k, lon_0=11 + k), **ABOVE) for k in (0, 1)]
    with pytest.raises(InputError, match=r"12:06:00 is in another projection .* Label each radar separately"):
        hail.join_volumes(series)


def test_other_grids_are_reported():
    moved = volume(8000, 6)
    series = [
        hail.hail_products(each, **ABOVE) for each in (volume(8000), moved.assign_coords(x=moved.x + 5))
    ]
    with pytest.raises(InputError, match="other values of 'x' than the first; use one grid"):
        hail.join_volumes(series)


def test_two_volumes_of_one_time_are_reported():
    products = hail.hail_products(volume(8000), **ABOVE)
    with pytest.raises(InputError, match="two volumes have the time 2024-06-15T12:00:00; pass each once"):
        hail.join_volumes([products, products])
    with pytest.raises(InputError, match="no volumes"):
        hail.join_volumes([])
    with pytest.raises(InputError, match="has no time"):
        hail.join_volumes([products.drop_vars("time")])


def test_units_other_than_dbz_or_meters_are_reported():
    linear = volume(8000).assign_attrs(units="mm6 m-3")
    with pytest.raises(InputError, match="units are 'mm6 m-3'; expected dBZ"):
        hail.hail_products(linear, **ABOVE)
    high = volume(8000)
    high["level"].attrs["units"] = "km"
    with pytest.raises(InputError, match="levels are in 'km'; expected m"):
        hail.hail_products(high, **ABOVE)


def test_errors_of_descending_levels_and_missing_heights_name_the_volume():
    with pytest.raises(InputError, match="reflectivity of 2024-06-15T12:00:00: levels descend from"):
        hail.hail_products(volume(8000).isel(level=slice(None, None, -1)), **ABOVE)
    with pytest.raises(InputError, match="no freezing level"):
        hail.hail_products(volume(8000), freezing_level=None, minus20_level=6500)
    with pytest.raises(InputError, match="expected level, y, x"):
        hail.hail_products(volume(8000).isel(level=0), **ABOVE)


def test_height_fields_on_another_grid_are_reported():
    freezing = xr.full_like(volume(8000).isel(level=0, drop=True), 3500.0)
    for wrong, message in (
        (
            xr.DataArray([1e3, 2e3, 3e3]),
            "temperature level has the dimensions dim_0; expected a number, or a field along y, x",
        ),
        (freezing.isel(x=slice(3, None)), "other values of 'x' than the reflectivity; regrid it"),
        (freezing.assign_coords(y=freezing.y + 500), "other values of 'y' than the reflectivity; regrid it"),
    ):
        with pytest.raises(InputError, match=message):
            hail.hail_products(volume(8000), freezing_level=wrong, minus20_level=6500)
    turned = hail.hail_products(volume(8000), freezing_level=freezing.T, minus20_level=6500)
    xr.testing.assert_identical(turned, hail.hail_products(volume(8000), **ABOVE))
