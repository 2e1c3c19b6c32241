"""Weather radar volumes: reading, gridding to levels, labels by the command line."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from helpers import odim

from geovision.cli import main
from geovision.errors import InputError, OptionError, UnreadableFileError
from geovision.physics import hail
from geovision.readers.radar import RadarGrid, beam_height, grid_volume, read_volume, slant_range

GRID = RadarGrid(1000, 40_000, tuple(np.arange(1000.0, 12_001, 1000)))


def steady(dbz: float):
    return lambda azimuth, along, elevation: np.float64(dbz)


# --- files --------------------------------------------------------------------------------------


def test_an_odim_volume_is_read_with_its_position_and_time(tmp_path):
    path = odim.write(tmp_path / "a.h5", lambda a, r, e: np.where(r < 30_000, a / 10 + e, -np.inf))
    volume = read_volume(path)
    assert (volume.latitude, volume.longitude, volume.altitude) == (47.0, 11.0, 500.0)
    assert volume.time == np.datetime64("2024-06-15T12:00:00")
    assert [sweep.elevation for sweep in volume.sweeps] == [0.5, 1.5, 3.0, 6.0, 12.0, 20.0]
    sweep = volume.sweeps[3]
    assert sweep.reflectivity[100, 10] == pytest.approx(sweep.azimuth[100] / 10 + 6, abs=0.25)
    assert np.isneginf(sweep.reflectivity[:, 60:]).all()
    assert sweep.range[:2].tolist() == [250, 750]


def test_undetect_is_no_echo_and_nodata_not_measured(tmp_path):
    def beams(azimuth, along, elevation):
        return np.where(azimuth < 90, np.nan, np.where(azimuth < 180, -np.inf, 20.0)) + 0 * along

    values = read_volume(odim.write(tmp_path / "two.h5", beams)).sweeps[0].reflectivity
    assert np.isnan(values[:90]).all()
    assert np.isneginf(values[90:180]).all()
    assert (values[180:] == 20).all()
    same = read_volume(odim.write(tmp_path / "one.h5", beams, nodata=odim.UNDETECT)).sweeps[0].reflectivity
    assert np.isneginf(same[:180]).all()


def test_sweeps_of_one_elevation_count_once_and_vertical_ones_not(tmp_path):
    path = odim.write(tmp_path / "a.h5", steady(20), elevations=(6.0, 0.5, 90.0, 0.52, 3.0))
    assert [sweep.elevation for sweep in read_volume(path).sweeps] == [0.5, 3.0, 6.0]


def test_another_quantity_is_read_by_name(tmp_path):
    path = odim.write(tmp_path / "a.h5", steady(20), quantity="TH")
    assert read_volume(path, quantity="TH").sweeps[0].reflectivity.max() == 20
    with pytest.raises(InputError, match=r"a\.h5: no quantity 'DBZH'; it contains TH"):
        read_volume(path)


def test_a_single_sweep_is_refused(tmp_path):
    path = odim.write(tmp_path / "a.h5", steady(20), elevations=(0.5,))
    with pytest.raises(InputError, match="1 elevation; a volume has two or more"):
        read_volume(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\x1f\x8b\x08\x00 packed", "a compressed file; decompress it"),
        (b"radar data, honestly", "not a radar volume; expected ODIM_H5"),
        (b"AR2V0006.001" + bytes(40), "damaged or not a volume of this format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "damaged or not a volume of this format"),
    ],
)
def test_other_files_are_reported_in_one_line(tmp_path, content: bytes, message: str):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"^[^\n]*bad: {message}[^\n]*$"):
        read_volume(path)


def test_truncated_and_missing_volumes_are_reported(tmp_path):
    path = odim.write(tmp_path / "a.h5", odim.storm(10_000, 5000, aloft=4000))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UnreadableFileError, match=r"damaged .* copy it again"):
        read_volume(path)
    with pytest.raises(UnreadableFileError, match=r"none\.h5: cannot be read"):
        read_volume(tmp_path / "none.h5")


# --- levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("elevation", [-0.3, 0.5, 5.6, 32.0])
def test_beam_geometry_equals_xradar(elevation: float):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xradar = pytest.importorskip("xradar")
    along = np.array([500.0, 20_000, 150_000, 300_000])
    _, ground, height = xradar.georeference.antenna_to_cartesian(along, 0.0, elevation, site_altitude=1383)
    # Both ground distances are measured at sea level on the effective Earth.
    assert beam_height(ground, elevation, 1383) == pytest.approx(height, abs=0.5)
    assert slant_range(ground, elevation, 1383) == pytest.approx(along, rel=1e-5)


def test_a_storm_is_gridded_at_its_position(tmp_path):
    volume = read_volume(odim.write(tmp_path / "a.h5", odim.storm(20_000, -10_000, aloft=4500)))
    levels = grid_volume(volume, GRID)
    top = levels.max("level")
    y, x = np.unravel_index(np.nanargmax(top.values), top.shape)
    assert abs(float(levels.x[x]) - 20_000) <= 1500
    assert abs(float(levels.y[y]) + 10_000) <= 1500
    highest = int(np.nanargmax(levels.isel(x=x, y=y).values))
    assert abs(float(levels.level[highest]) - 5000) <= 1000  # 4500 m above the site
    assert float(levels.latitude[y, x]) == pytest.approx(47 - 10 / 111.2, abs=0.02)
    assert float(levels.longitude[y, x]) == pytest.approx(11 + 20 / 75.9, abs=0.03)
    assert levels.attrs["units"] == "dBZ"
    assert levels.crs.attrs["grid_mapping_name"] == "azimuthal_equidistant"


def test_between_two_sweeps_dbz_is_interpolated_in_height(tmp_path):
    path = odim.write(tmp_path / "a.h5", lambda a, r, e: np.float64(10 * e), elevations=(1.0, 5.0))
    levels = grid_volume(read_volume(path), RadarGrid(1000, 40_000, (1500.0, 2000.0)))
    found = levels.sel(x=30_000, y=0).values
    low, high = (beam_height(np.array(30_000.0), each, 500) for each in (1.0, 5.0))
    assert found == pytest.approx(10 + 40 * (levels.level.values - low) / (high - low), abs=0.1)


def test_an_echo_is_not_extended_into_areas_without_echo(tmp_path):
    path = odim.write(
        tmp_path / "a.h5", lambda a, r, e: np.float64(50 if e == 1 else -np.inf), elevations=(1.0, 5.0)
    )
    near_low, near_high = grid_volume(read_volume(path), RadarGrid(1000, 40_000, (1500.0, 3000.0))).sel(
        x=30_000, y=0
    )
    assert near_low == 50
    assert near_high == -np.inf


def test_only_cells_reached_by_beams_are_covered(tmp_path):
    path = odim.write(tmp_path / "a.h5", steady(-np.inf), gates=60)  # 30 km along the beam
    levels = grid_volume(read_volume(path), GRID)
    assert np.isnan(levels.sel(x=35_000, y=0)).all()  # beyond the range
    over_radar = levels.sel(x=2000, y=0)
    assert np.isneginf(over_radar.sel(level=1000))
    assert np.isnan(over_radar.sel(level=8000))  # the cone of silence
    far = grid_volume(read_volume(path), RadarGrid(1000, 28_000, (200.0, 700.0, 3000.0))).sel(x=28_000, y=0)
    assert np.isnan(far.values).tolist() == [True, False, False]  # below the lowest beam
    assert np.isneginf(far.values[1:]).all()


def test_a_sector_that_was_not_scanned_is_not_covered(tmp_path):
    path = odim.write(tmp_path / "a.h5", steady(20))
    volume = read_volume(path)
    half = [
        type(each)(each.elevation, each.azimuth[:180], each.range, each.reflectivity[:180])
        for each in volume.sweeps
    ]
    levels = grid_volume(type(volume)(path, volume.time, 47.0, 11.0, 500.0, tuple(half)), GRID)
    assert float(levels.sel(x=20_000, y=0, level=3000)) == 20
    assert np.isnan(levels.sel(x=-20_000, y=0, level=3000))


@pytest.mark.parametrize(
    "given", [(0, 1000), (5000, 1000), (10, 1e6), (1000, 1e4, (3000.0,)), (1000, 1e4, (2e3, 1e3))]
)
def test_an_invalid_grid_is_reported(given):
    with pytest.raises(OptionError, match=r"resolution|levels"):
        RadarGrid(*given)


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def storms(tmp_path) -> list[Path]:
    """Three volumes of a storm that is detected aloft and descends."""
    return [
        odim.write(
            tmp_path / f"{k}.h5",
            odim.storm(18_000 + 2000 * k, 9000, aloft=aloft, peak=72),
            time=f"20240615 12{6 * k:02d}00",
            elevations=(0.5, 1.5, 3, 5, 8, 12, 17, 24, 34),
        )
        for k, aloft in enumerate((7000, 4500, 300))
    ]


def label(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["hail-labels", *map(str, arguments)])
    return ended.value.code or 0


HEIGHTS = ("--freezing-level", 3200, "--minus20-level", 6300)
SMALL = ("--range", 40_000, "--levels", "1000:15000:500")


def test_volumes_in_any_order_become_labels_and_maps(storms, tmp_path, capsys):
    out = tmp_path / "out" / "labels.nc"
    code = label(*reversed(storms), "--out", out, *HEIGHTS, *SMALL, "--figures", tmp_path / "maps" / "storm")
    printed = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [row.split()[0] for row in printed[1:]] == [f"2024-06-15T12:{m}:00" for m in ("00", "06", "12")]
    with xr.open_dataset(out, engine="h5netcdf") as labels:
        assert labels["armed"].max(("x", "y")).values.tolist() == [1, 1, 1]
        assert (labels["hail"] == 1).any(("x", "y")).values.tolist() == [False, False, True]
        assert set(np.unique(labels["hail"])) == {-1, 0, 1}
        there = labels["hail"].isel(time=2).sel(x=22_000, y=9000)
        assert int(there) == 1
    pictures = sorted((tmp_path / "maps").iterdir())
    assert [each.name for each in pictures] == [f"storm_20240615T12{m}00.png" for m in ("00", "06", "12")]
    assert all(each.read_bytes().startswith(b"\x89PNG") for each in pictures)


def test_an_unreadable_volume_is_named_and_the_others_are_labeled(storms, tmp_path, capsys):
    storms[1].write_bytes(b"broken")
    out = tmp_path / "labels.nc"
    assert label(*storms, "--out", out, *HEIGHTS, *SMALL, "--rule", "posh", "--mesh", "mesh75") == 1
    messages = capsys.readouterr().err
    assert f"geovision: {storms[1]}: not a radar volume; expected ODIM_H5" in messages
    with xr.open_dataset(out, engine="h5netcdf") as labels:
        assert labels.sizes["time"] == 2
        assert labels["maximum_expected_size_of_hail"].attrs["calibration"] == "mesh75"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--freezing-level", 3.2, "--minus20-level", 6.3), 1, "probably in km"),
        (("--freezing-level", 3200), 2, "Missing option '--minus20-level'"),
        ((*HEIGHTS, "--levels", "low:high"), 2, "expected first:last:step in m"),
        ((*HEIGHTS, "--levels", "5000,1000"), 2, "levels: expected two or more heights in m, ascending"),
        ((*HEIGHTS, "--levels", "0.5:20:0.5"), 2, "levels to 20 m; expected m, and these may be km"),
        ((*HEIGHTS, "--vil-cap", -3), 2, "--vil-cap -3: expected dBZ above 0"),
        (("--freezing-level", "nan", "--minus20-level", 6300), 1, "no freezing level; pass its height"),
    ],
)
def test_wrong_options_are_reported_before_reading(storms, tmp_path, capsys, arguments, code, message):
    out = tmp_path / "labels.nc"
    out.write_text("from before")
    assert label(*storms, "--out", out, *arguments) == code
    assert message in capsys.readouterr().err
    assert out.read_text() == "from before"


def test_an_incompatible_volume_is_named_and_skipped(storms, tmp_path, capsys):
    elsewhere = odim.write(tmp_path / "elsewhere.h5", steady(20), time="20240615 121800", site=(48, 11, 500))
    double = odim.write(tmp_path / "double.h5", steady(20), time="20240615 120600")
    linear = odim.write(tmp_path / "linear.h5", steady(50), time="20240615 122400")
    with h5py.File(linear, "r+") as file:  # Z in mm6 m-3, 10 ** 5 everywhere
        for data in (file[name]["data1"] for name in file if name.startswith("dataset")):
            data["what"].attrs.update({"gain": 1e5 / 164, "offset": 0.0})
    out = tmp_path / "labels.nc"
    assert label(*storms, elsewhere, double, linear, "--out", out, *HEIGHTS, *SMALL) == 1
    messages = capsys.readouterr().err
    assert f"{elsewhere} is in another projection than the first" in messages
    assert f"{double}: there is already a volume of 2024-06-15T12:06:00; pass each volume once" in messages
    assert f"{linear}: reflectivity of 2024-06-15T12:24:00: the 99.9th percentile of the echoes" in messages
    assert "3 could not be labeled" in messages
    with xr.open_dataset(out, engine="h5netcdf") as labels:
        assert labels.sizes["time"] == 3
        assert (labels["hail"] == 1).any()


def test_a_volume_without_measured_gates_is_reported_and_unknown_everywhere(tmp_path, capsys):
    blind = odim.write(tmp_path / "blind.h5", steady(np.nan))
    out = tmp_path / "labels.nc"
    assert label(blind, "--out", out, *HEIGHTS, *SMALL) == 0
    assert f"{blind}: 2024-06-15T12:00:00 UTC; no valid cell on the grid" in capsys.readouterr().err
    with xr.open_dataset(out, engine="h5netcdf") as labels:
        assert (labels["hail"] == -1).all()


def test_counts_without_dbz_are_not_read_as_no_echo(tmp_path):
    path = odim.write(tmp_path / "a.h5", steady(20), nodata=odim.UNDETECT)
    with h5py.File(path, "r+") as file:
        file["dataset2/data1/what"].attrs["gain"] = np.nan
    with pytest.raises(InputError, match="DBZH: stored with a gain of nan and an offset of -32"):
        read_volume(path)


def test_nothing_is_written_without_readable_volumes(tmp_path, capsys):
    bad = tmp_path / "bad.h5"
    bad.write_bytes(b"broken")
    assert label(bad, "--out", tmp_path / "labels.nc", *HEIGHTS) == 1
    assert "no volume could be labeled; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "labels.nc").exists()


# --- real volumes -------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_storm_of_captains_flat(shared_data):
    volume = read_volume(shared_data / "radar" / "40_20181220_060630.pvol.h5")
    assert len(volume.sweeps) == 14
    assert np.nanmax(volume.sweeps[7].reflectivity) == 71.5
    products = hail.hail_products(grid_volume(volume), freezing_level=3200, minus20_level=6300)
    storm = products.sel(x=slice(20_000, 45_000), y=slice(-5000, 15_000))
    assert float(storm["maximum_reflectivity"].max()) > 68
    assert float(storm["probability_of_severe_hail"].max()) == 100
    assert float(storm["maximum_expected_size_of_hail"].max()) > 50


@pytest.mark.real_data
def test_a_volume_of_nexrad(shared_data):
    volume = read_volume(shared_data / "radar" / "KLBB20160601_150025_V06")
    assert len(volume.sweeps) == 9  # eleven with the second cuts at 0.5 and 1.5 degrees
    lowest = volume.sweeps[0].reflectivity
    assert lowest.shape == (720, 1832)
    assert 0.8 < np.isneginf(lowest).mean() < 0.9
    assert np.nanmin(lowest[np.isfinite(lowest)]) >= -32
    assert lowest.max() == 59.5
