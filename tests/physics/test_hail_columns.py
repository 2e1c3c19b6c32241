"""Hail products of single columns compared with manual calculations and pyhail."""

from __future__ import annotations

import math
import types
import warnings

import numpy as np
import pytest

from geovision.errors import InputError
from geovision.physics.hail import checks, columns

NO_ECHO, NOT_COVERED = -np.inf, np.nan


def column(*dbz: float) -> np.ndarray:
    """One column as a volume, lowest level first."""
    return np.array(dbz, np.float32)[:, None, None]


def heights(*meters: float) -> np.ndarray:
    return np.array(meters, np.float64)


# --- severe hail index and derived products ----------------------------------------------------


def test_the_index_of_a_column_equals_a_manual_calculation():
    flux = 5e-6 * 10 ** (0.084 * 50)  # full weight from 50 dBZ
    index = columns.severe_hail_index(
        column(50, 50, 50, 50), heights(2000, 3000, 4000, 5000), freezing_level=3000, minus20_level=4000
    )
    # Levels up to the freezing level have weight 0; those at 4 and 5 km have thicknesses of 1000 and 500 m.
    assert index.item() == pytest.approx(0.1 * (1000 + 500) * flux)


def test_levels_may_have_any_spacing():
    flux = 5e-6 * 10 ** (0.084 * 55)
    for levels in (heights(7000, 8000, 9000, 10000), heights(7000, 7100, 9900, 10000)):
        index = columns.severe_hail_index(
            column(55, 55, 55, 55), levels, freezing_level=3000, minus20_level=6000
        )
        assert index.item() == pytest.approx(0.1 * 3000 * flux)


@pytest.mark.parametrize(
    ("dbz", "weight"), [(39.0, 0), (40.0, 0), (45.0, 0.5), (50.0, 1), (60.0, 1), (NO_ECHO, 0)]
)
def test_rain_does_not_count_as_hail(dbz: float, weight: float):
    flux = columns.kinetic_energy_flux(np.array([dbz]))
    assert flux.item() == pytest.approx(weight * 5e-6 * 10 ** (0.084 * dbz))


def test_the_weight_rises_from_the_freezing_level_to_that_of_minus_20():
    levels = heights(4000, 5000, 6000)
    half = columns.severe_hail_index(
        column(NO_ECHO, 50, NO_ECHO), levels, freezing_level=4000, minus20_level=6000
    )
    full = columns.severe_hail_index(
        column(NO_ECHO, 50, NO_ECHO), levels, freezing_level=4000, minus20_level=5000
    )
    assert half.item() == pytest.approx(full.item() / 2)


def test_temperature_levels_may_vary_from_column_to_column():
    volume = np.full((4, 1, 3), 60, np.float32)
    freezing = np.array([[2000.0, 4000.0, np.nan]])
    index = columns.severe_hail_index(
        volume, heights(1000, 3000, 5000, 7000), freezing_level=freezing, minus20_level=freezing + 3000
    )
    assert index[0, 0] > index[0, 1] > 0
    assert math.isnan(index[0, 2])


def test_severe_hail_has_probability_50_at_the_warning_threshold():
    threshold = columns.warning_threshold(np.array([1000.0, 3500.0, 5000.0]), radar_altitude=400)
    assert columns.probability_of_severe_hail(threshold, threshold).tolist() == [50, 50, 50]
    assert columns.probability_of_severe_hail(threshold * math.e, threshold) == pytest.approx([79, 79, 79])


def test_the_warning_threshold_has_a_minimum():
    above_radar = np.array([-500.0, 2000.0, 2452.0, 2453.0, 4000.0])
    found = columns.warning_threshold(above_radar + 1383, radar_altitude=1383)
    assert found == pytest.approx([20, 20, 20, 57.5 * 2.453 - 121, 109])


def test_the_probability_is_clipped_to_its_bounds():
    index = np.array([0.0, 1e-6, 1e6, np.nan])
    assert columns.probability_of_severe_hail(index, 20.0)[:3].tolist() == [0, 0, 100]
    assert np.isnan(columns.probability_of_severe_hail(index, 20.0)[3])


@pytest.mark.parametrize(
    ("calibration", "size"),
    [("witt", 2.54 * 20), ("mesh75", 15.096 * 400**0.206), ("mesh95", 22.157 * 400**0.212)],
)
def test_three_calibrations_of_the_size(calibration: str, size: float):
    found = columns.maximum_expected_size(np.array([0.0, 400.0]), columns.Calibration(calibration))
    assert found == pytest.approx([0, size])


@pytest.mark.parametrize("calibration", ["witt", "mesh75", "mesh95"])
@pytest.mark.filterwarnings("ignore")
def test_results_equal_pyhail(calibration: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mesh_grid = pytest.importorskip("pyhail.mesh_grid", reason="pyhail is not installed")
    volume = np.random.default_rng(1).uniform(0, 70, (20, 6, 6)).astype(np.float32)
    # pyhail gives the outermost levels a full thickness, and accepts square grids only.
    volume[0] = volume[-1] = 0
    levels = 1000.0 + 1000 * np.arange(20)
    theirs = {"witt": "witt1998", "mesh75": "mh2019_75", "mesh95": "mh2019_95"}[calibration]
    grid = types.SimpleNamespace(
        fields={"dbz": {"data": np.ma.array(volume)}},
        nz=20,
        z={"data": levels - 300},
        radar_altitude={"data": np.array([300.0])},
        add_field=lambda *_, **__: None,
        get_point_longitude_latitude=lambda _: (0, 0),
    )
    known = mesh_grid.main(
        grid,
        "dbz",
        [4000, 7000],
        radar_band="S",
        mesh_method=theirs,
        speckle_filter=False,
        near_radar_mask_range=None,
    )
    index = columns.severe_hail_index(volume, levels, freezing_level=4000, minus20_level=7000)
    size = columns.maximum_expected_size(index, columns.Calibration(calibration))
    posh = columns.probability_of_severe_hail(index, columns.warning_threshold(4000))
    assert index == pytest.approx(known["shi"]["data"][0], rel=1e-5)
    assert size == pytest.approx(known[f"mesh_{theirs}"]["data"][0], rel=1e-5)
    assert posh == pytest.approx(known["posh"]["data"][0], rel=1e-5)


# --- liquid, heights, tops ----------------------------------------------------------------------


def test_the_liquid_of_a_constant_column():
    levels = heights(0, 1000, 4000, 10000)
    liquid = columns.vertically_integrated_liquid(column(40, 40, 40, 40), levels)
    assert liquid.item() == pytest.approx(3.44e-6 * 1e4 ** (4 / 7) * 10000, rel=1e-5)


def test_the_liquid_of_a_layer_is_that_of_its_mean_z():
    liquid = columns.vertically_integrated_liquid(column(40, NO_ECHO), heights(1000, 2000))
    assert liquid.item() == pytest.approx(3.44e-6 * 5e3 ** (4 / 7) * 1000, rel=1e-5)


def test_reflectivity_of_hail_is_capped_in_the_liquid():
    levels = heights(0, 1000)
    at_cap, above = (columns.vertically_integrated_liquid(column(z, z), levels).item() for z in (56, 70))
    uncapped = columns.vertically_integrated_liquid(column(70, 70), levels, cap_dbz=None).item()
    assert above == pytest.approx(at_cap)
    assert uncapped == pytest.approx(3.44e-6 * 1e7 ** (4 / 7) * 1000, rel=1e-5)


def test_the_lowest_of_equal_maxima_gives_the_height():
    found = columns.height_of_maximum(column(20, 45, 45, 30), heights(500, 1500, 2500, 3500))
    assert found.item() == 1500


@pytest.mark.parametrize(
    ("dbz", "top"),
    [
        ((40, 30, 10), 2000 + 1000 * (30 - 18) / (30 - 10)),  # between two levels
        ((40, 30, NO_ECHO), 2000),
        ((40, 30, NOT_COVERED), 2000),
        ((40, 30, 20), 3000),  # at least
        ((40, 10, 25), 3000),  # the highest of two
        ((40, 18, 10), 2000),  # reached exactly
        ((10, 17, 5), np.nan),
    ],
)
def test_the_echo_top_is_interpolated(dbz: tuple[float, ...], top: float):
    found = columns.echo_top(column(*dbz), heights(1000, 2000, 3000))
    assert found.item() == pytest.approx(top, nan_ok=True)


# --- no echo is not "not covered" ---------------------------------------------------------------


def test_no_echo_and_not_covered_are_separated():
    volume = np.concatenate([column(*[NO_ECHO] * 4), column(*[NOT_COVERED] * 4)], axis=2)
    levels = heights(1000, 3000, 5000, 7000)
    index = columns.severe_hail_index(volume, levels, freezing_level=2000, minus20_level=4000)
    for no_echo, not_covered in (
        index[0],
        columns.probability_of_severe_hail(index, 20.0)[0],
        columns.maximum_expected_size(index)[0],
        columns.vertically_integrated_liquid(volume, levels)[0],
        columns.covered_fraction(volume, levels, freezing_level=2000)[0] - [1, 0],
    ):
        assert no_echo == 0
        assert math.isnan(not_covered) or not_covered == 0
    assert math.isnan(index[0, 1])
    assert math.isnan(columns.vertically_integrated_liquid(volume, levels)[0, 1])
    assert columns.maximum_reflectivity(volume)[0, 0] == NO_ECHO
    assert math.isnan(columns.maximum_reflectivity(volume)[0, 1])
    assert columns.lowest_covered(volume, levels)[0, 0] == 1000
    assert math.isnan(columns.lowest_covered(volume, levels)[0, 1])


def test_uncovered_levels_add_nothing():
    levels = heights(1000, 3000, 5000, 7000)
    above = {"freezing_level": 2000, "minus20_level": 4000}
    part = column(NOT_COVERED, 55, 55, NOT_COVERED)
    assert columns.severe_hail_index(part, levels, **above) == columns.severe_hail_index(
        column(NO_ECHO, 55, 55, NO_ECHO), levels, **above
    )
    liquid = columns.vertically_integrated_liquid(part, levels, cap_dbz=None)
    assert liquid.item() == pytest.approx(3.44e-6 * 10 ** (5.5 * 4 / 7) * 2000, rel=1e-5)
    # Thicknesses above the freezing level are 2, 2 and 1 km; the top level is not covered.
    assert columns.covered_fraction(part, levels, freezing_level=2000).item() == pytest.approx(4 / 5)


def test_the_index_is_missing_if_only_levels_below_freezing_are_covered():
    index = columns.severe_hail_index(
        column(60, NOT_COVERED), heights(1000, 5000), freezing_level=3000, minus20_level=6000
    )
    assert math.isnan(index.item())


# --- bad input ----------------------------------------------------------------------------------


def test_descending_levels_are_reported():
    with pytest.raises(InputError, match="mosaic: levels descend from 9000 to 1000 m; sort"):
        checks.check_volume(column(1, 2, 3), heights(9000, 5000, 1000), "mosaic")


@pytest.mark.parametrize("levels", [(1000, 3000, 2000), (1000, 1000, 2000)])
def test_unordered_levels_are_reported(levels: tuple[float, ...]):
    with pytest.raises(InputError, match="do not ascend: 1000"):
        checks.check_volume(column(1, 2, 3), heights(*levels), "mosaic")


def test_levels_in_kilometers_are_reported():
    with pytest.raises(InputError, match="highest level is at 9 m, probably in km"):
        checks.check_volume(column(1, 2, 3), heights(1, 5, 9), "mosaic")


def test_z_in_place_of_dbz_is_detected_by_the_whole_volume():
    dbz = np.random.default_rng(0).uniform(-10, 60, (5, 40, 40))
    levels = heights(1000, 2000, 3000, 4000, 5000)
    checks.check_volume(dbz, levels, "volume")
    with pytest.raises(
        InputError, match=r"99\.9th percentile .* probably Z in mm6 m-3\. Convert it to dBZ with 10 \* log10"
    ):
        checks.check_volume(10 ** (dbz / 10), levels, "volume")


def test_a_volume_with_a_single_extreme_gate_is_accepted():
    dbz = np.full((5, 40, 40), 30.0)
    dbz[0, 0, 0] = 96
    checks.check_volume(dbz, heights(1000, 2000, 3000, 4000, 5000), "volume")


def test_infinite_values_are_reported():
    with pytest.raises(InputError, match=r"values of \+inf; use NaN where not covered"):
        checks.check_volume(column(30, np.inf), heights(1000, 2000), "volume")


@pytest.mark.parametrize(
    ("freezing", "cold", "message"),
    [
        (None, 6000, "no freezing level; pass its height in m"),
        (3000, None, "no level of -20 degrees; pass"),
        (math.nan, 6000, "no freezing level"),
        (3.2, 6.3, "6.3 m, probably in km"),
        (6300, 3200, "freezing level .* is not below .* swapped"),
    ],
)
def test_missing_or_wrong_temperature_levels_are_reported(freezing, cold, message: str):
    with pytest.raises(InputError, match=message):
        checks.check_heights(freezing, cold, "volume")


def test_a_wrong_number_of_levels_is_reported():
    with pytest.raises(InputError, match=r"shape \(3, 1, 1\) for 2 levels"):
        checks.check_volume(column(1, 2, 3), heights(1000, 2000), "volume")
