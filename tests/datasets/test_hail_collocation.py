"""From files to hail samples: places, times, ages and errors in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import hail_files
from helpers.paths import DATA
from typer.testing import CliRunner

from geovision.cli import app
from geovision.datasets.hail_collocation import (
    MAXIMUM_AGE,
    HailSources,
    SampleGrid,
    build_sample,
    match_times,
    terrain_channels,
)
from geovision.datasets.hail_samples import HailSamples
from geovision.errors import InputError, OptionError, UnreadableFileError
from geovision.readers import era5, fy4_agri
from geovision.readers.hail_samples import LEVELS, read_sample, write_sample
from geovision.readers.nearest_neighbor import NearestNeighborIndex
from geovision.readers.radar.reflectivity import list_volumes, read_reflectivity

xarray = pytest.importorskip("xarray")
rasterio = pytest.importorskip("rasterio")

GRID = SampleGrid(30.0, 112.0, (24, 32))
MINUTES = np.datetime64("2023-06-17T08:00", "s")


def _at(*minutes: float) -> np.ndarray:
    return MINUTES + (60 * np.array(minutes)).astype("timedelta64[s]")


# --- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["backward", "nearest"])
def test_matching_equals_a_brute_force_search(how: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        times = np.unique(_at(*rng.integers(-60, 60, 9)))
        windows = _at(*np.arange(-48, 1, 6))
        index, age = match_times(windows, times, method=how, maximum_age=15)  # type: ignore[arg-type]
        for window, found, minutes in zip(windows, index, age, strict=True):
            apart = (window - times) / np.timedelta64(60, "s")
            if how == "backward":
                apart = np.where(apart >= 0, apart, np.inf)
            best = np.abs(apart).min()
            if best > 15:
                assert found == -1
                assert np.isnan(minutes)
            else:
                assert abs(minutes) == best == abs(apart[found])
                assert how == "nearest" or minutes >= 0


def test_data_that_are_too_old_are_missing() -> None:
    index, age = match_times(_at(0, 6, 12, 18), _at(0), maximum_age=12)
    assert index.tolist() == [0, 0, 0, -1]
    assert age[:3].tolist() == [0, 6, 12]
    assert (match_times(_at(0), _at(), maximum_age=6)[0] == -1).all()
    with pytest.raises(OptionError, match="matching 'forward' is not known"):
        match_times(_at(0), _at(0), method="forward", maximum_age=1)  # type: ignore[arg-type]


# --- places -------------------------------------------------------------------------------------


def test_neighbors_are_the_nearest_on_the_globe() -> None:
    rng = np.random.default_rng(1)
    north, east = rng.uniform(29.8, 30.2, (40, 50)), rng.uniform(111.7, 112.3, (40, 50))
    axes = GRID.axes
    near = NearestNeighborIndex.build(north, east, *axes)
    for row in (0, 11, 23):
        for column in (0, 15, 31):
            apart = np.hypot(north - axes[0][row], (east - axes[1][column]) * np.cos(np.radians(30)))
            assert near.index[row, column] == apart.argmin()
    with pytest.raises(InputError, match=r"covers 29\.8\d to 30\.\d+ N.*no point of the requested grid"):
        NearestNeighborIndex.build(north, east, axes[0] + 5, axes[1])
    with pytest.raises(InputError, match="may be meters of a projection"):
        NearestNeighborIndex.build(north * 1e5, east, *axes)


def test_a_radar_in_another_projection_is_placed_correctly(tmp_path: Path) -> None:
    path = tmp_path / "radar.nc"
    hail_files.radar_grid(_at(0, 6), LEVELS).to_netcdf(path, engine="h5netcdf")
    volumes = list_volumes([path])
    assert [each.time for each in volumes] == list(_at(0, 6))
    found = read_reflectivity(volumes[1], LEVELS, *GRID.axes)
    latitude, longitude = GRID.axes
    east, south = longitude > 112.006, latitude < 30.08
    np.testing.assert_allclose(found[3][np.ix_(south, east)], 30.03, atol=1e-4)
    assert np.isneginf(found[:, south][:, :, longitude < 111.99]).all()
    assert np.isnan(found[:, latitude > 30.1]).all()
    # Levels half a kilometer or more from every level of the file are not covered.
    few = read_reflectivity(volumes[0], (1100, 3900, 18000), *GRID.axes)
    assert few[0, 0, -1] == pytest.approx(30.01, abs=1e-4)
    assert few[1, 0, -1] == pytest.approx(30.07, abs=1e-4)
    assert np.isnan(few[2]).all()


@pytest.mark.parametrize("slot", [133.0, 105.0])
def test_agri_is_read_by_satpy_from_either_longitude(tmp_path: Path, slot: float) -> None:
    pytest.importorskip("satpy")
    path = hail_files.agri_file(tmp_path, "20230617081500", slot)
    scan = fy4_agri.read_agri(path, *GRID.axes)
    assert scan.time == fy4_agri.scan_time(path) == np.datetime64("2023-06-17T08:15:00")
    assert scan.satellite_longitude == pytest.approx(slot)
    expected = hail_files.cloud_top(GRID.axes[0][:, None], GRID.axes[1][None, :])
    for number, plane in enumerate(scan.temperatures):
        # A pixel is some 5 km wide there, half of which is 0.5 K here and 0.3 K there.
        assert np.abs(plane - (expected - number)).max() < 1.2
        assert abs((plane - (expected - number)).mean()) < 0.2


@pytest.mark.parametrize("new", [True, False])
def test_era5_in_either_naming_gives_the_same_fields(tmp_path: Path, new: bool) -> None:
    air = era5.open_era5(hail_files.era5_files(tmp_path, new=new))
    np.testing.assert_array_equal(air.times, hail_files.HOURS.astype("datetime64[s]"))
    ground = np.full(GRID.size, 500.0)
    found = air.environment(air.times[2], *GRID.axes, ground)
    freezing = (302 - 273.15) / 0.0065
    for plane, expected in zip(found, (freezing, freezing + 20 / 0.0065, 1500, 13.0, 293), strict=True):
        np.testing.assert_allclose(plane, expected, rtol=1e-4)


def test_the_highest_crossing_counts_and_cold_ground_has_none() -> None:
    heights = np.array([0.0, 1000, 2000, 3000])[:, None, None] * np.ones((1, 1, 2))
    inversion = np.array([[275.0, 270, 274, 262], [270, 268, 264, 260]]).T[:, None, :]
    found = era5.height_of_temperature(inversion, heights, 273.15)
    assert found[0, 0] == pytest.approx(2000 + 1000 * 0.85 / 12)
    assert np.isnan(found[0, 1])


def test_grib_is_read(tmp_path: Path) -> None:
    pytest.importorskip("cfgrib")
    path = hail_files.era5_grib(tmp_path / "levels.grib")
    single = hail_files.era5_files(tmp_path, new=True)[1]
    air = era5.open_era5([path, single])
    assert list(air.times) == [hail_files.HOURS[0].astype("datetime64[s]")]
    freezing = air.environment(air.times[0], *GRID.axes, np.zeros(GRID.size))[0]
    np.testing.assert_allclose(freezing, (300 - 273.15) / 0.0065, rtol=1e-3)


@pytest.mark.real_data
def test_missing_fields_of_real_era5_in_grib_are_reported() -> None:
    path = DATA / "era5/era5-2mt-2019-03-uk.grib"
    if not path.exists():
        pytest.skip(f"no {path}")
    pytest.importorskip("cfgrib")
    with pytest.raises(InputError, match="no t, z, u, v, cape, d2m, u10, v10 among the fields"):
        era5.open_era5([path])


# --- whole samples ------------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path: Path) -> HailSources:
    pytest.importorskip("satpy")
    radar = tmp_path / "radar.nc"
    hail_files.radar_grid(_at(-12, 0, 6), LEVELS).to_netcdf(radar, engine="h5netcdf")
    dem = tmp_path / "dem.tif"
    heights = (200 + 3 * np.arange(120))[None, :] * np.ones((100, 1))
    with rasterio.open(
        dem,
        "w",
        driver="GTiff",
        height=100,
        width=120,
        count=1,
        dtype="float32",
        crs="EPSG:4326",
        transform=rasterio.Affine(0.01, 0, 111.4, 0, -0.01, 30.5),
    ) as file:
        file.write(heights.astype("float32"), 1)
    return HailSources(
        GRID,
        radar=[radar],
        agri=[hail_files.agri_file(tmp_path, "20230617075000")],
        era5=hail_files.era5_files(tmp_path, new=True),
        dem=[dem],
    )


LABEL = np.zeros((24, 32), np.int8)
LABEL[5:9, 20:26] = 1


def test_a_sample_contains_the_data_available_at_its_time(sources: HailSources, tmp_path: Path) -> None:
    sample = build_sample(sources, _at(6)[0], LABEL, *GRID.axes, windows=4)
    np.testing.assert_array_equal(sample.time, _at(-12, -6, 0, 6))
    np.testing.assert_array_equal(sample.sources["radar"].age, [0, 6, 0, 0])
    np.testing.assert_array_equal(sample.sources["fy4b"].age, [np.nan, 4, 10, 16])  # begins at 07:50
    np.testing.assert_array_equal(sample.sources["era5"].age, [48, 54, 0, 6])
    assert np.isnan(sample.sources["fy4b"].values[0]).all()
    np.testing.assert_allclose(
        sample.dem[0], 200 + 3 * (sample.longitude[None, :] - 111.405) / 0.01 + 0 * LABEL, atol=0.1
    )
    np.testing.assert_array_equal(sample.dem, terrain_channels(sample.dem[0], *GRID.axes))
    np.testing.assert_array_equal(sample.label, LABEL)
    assert sample.attributes["matching"] == "backward"
    older = build_sample(
        sources, _at(6)[0], LABEL, *GRID.axes, windows=4, maximum_age={**MAXIMUM_AGE, "fy4b": 5, "era5": 50}
    )
    np.testing.assert_array_equal(older.sources["fy4b"].age, [np.nan, 4, np.nan, np.nan])
    np.testing.assert_array_equal(older.sources["era5"].age, [48, np.nan, 0, 6])
    nearest = build_sample(sources, _at(6)[0], LABEL, *GRID.axes, windows=4, method="nearest")
    assert nearest.sources["fy4b"].age[0] == -2  # later than the window, as published


def test_a_source_without_files_is_missing_and_no_data_are_refused(
    sources: HailSources, tmp_path: Path
) -> None:
    alone = HailSources(GRID, radar=sources.radar)
    sample = build_sample(alone, _at(6)[0], LABEL, *GRID.axes, windows=3)
    for name in ("fy4b", "era5"):
        assert np.isnan(sample.sources[name].values).all()
        assert np.isnan(sample.sources[name].age).all()
    assert np.isnan(sample.dem).all()
    folder = write_sample(sample, tmp_path / "alone").parent
    data = HailSamples(folder)
    assert data.terrain == ["unknown"]
    assert not data[0]["valid"]["dem"].any()
    with pytest.raises(InputError, match="no value of radar, satellite or reanalysis in any of 3 windows"):
        build_sample(alone, _at(600)[0], LABEL, *GRID.axes, windows=3)


def test_an_unusable_file_is_reported_and_its_source_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("satpy")
    moving = hail_files.agri_file(tmp_path, "20230617080000", 133.0, header=124.2)
    radar = tmp_path / "radar.nc"
    hail_files.radar_grid(_at(0), LEVELS).to_netcdf(radar, engine="h5netcdf")
    troubles: list[str] = []
    sources = HailSources(GRID, radar=[radar], agri=[moving], on_skip=troubles.append)
    sample = build_sample(sources, _at(6)[0], LABEL, *GRID.axes, windows=3)
    assert np.isnan(sample.sources["fy4b"].age).all()
    assert len(troubles) == 1
    assert "is at 124.20 E, but the file name has 133.0 E" in troubles[0]


def test_the_command_writes_samples_and_reports_their_content(sources: HailSources, tmp_path: Path) -> None:
    labels = xarray.Dataset(
        {"hail": (("time", "y", "x"), np.stack([LABEL, 0 * LABEL]))},
        {
            "time": _at(6, 0).astype("datetime64[ns]"),
            "latitude": ("y", GRID.axes[0]),
            "longitude": ("x", GRID.axes[1]),
        },
    )
    labels.to_netcdf(tmp_path / "labels.nc", engine="h5netcdf")
    files = [
        "--radar",
        str(tmp_path / "radar*.nc"),
        "--agri",
        str(tmp_path / "*.HDF"),
        "--era5",
        str(tmp_path / "*_new.nc"),
        "--dem",
        str(sources.dem[0]),
    ]
    arguments = [
        "hail-samples",
        str(tmp_path / "labels.nc"),
        "--out",
        str(tmp_path / "out"),
        "--size",
        "24",
        "--windows",
        "3",
        *files,
    ]
    done = CliRunner().invoke(app, [*arguments, "--only-hail"])
    assert done.exit_code == 0, done.output
    row = next(line for line in done.stdout.splitlines() if "2023-06-17T08:06:00" in line)
    assert row.split()[1:5] == ["24", "3", "3", "3"]
    written = list((tmp_path / "out").iterdir())
    assert [path.name for path in written] == ["hail_20230617T080600_N3000_E11200.nc"]
    assert read_sample(written[0]).sources["era5"].values.shape == (3, 5, 24, 24)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    with pytest.raises(OptionError, match=r"--radar 'none\.h5': no such file"):
        CliRunner().invoke(app, [*arguments, "--radar", "none.h5"], catch_exceptions=False)
    with pytest.raises(OptionError, match="--center 'here'"):
        CliRunner().invoke(app, [*arguments, "--center", "here"], catch_exceptions=False)


@pytest.mark.real_data
def test_a_real_storm_becomes_a_sample() -> None:
    pytest.importorskip("xradar")
    volumes = sorted((DATA / "radar").glob("*.pvol.h5"))
    if len(volumes) < 2:
        pytest.skip(f"no volumes in {DATA / 'radar'}")
    listed = list_volumes(volumes[::-1])
    assert listed[0].time < listed[1].time
    grid = SampleGrid(-35.66, 149.9, (64, 64))
    sources = HailSources(grid, radar=volumes, max_range=80_000)
    sample = build_sample(sources, listed[1].time, np.zeros(grid.size, np.int8), *grid.axes, windows=3)
    radar = sample.sources["radar"]
    assert np.isfinite(radar.age[-2:]).all()
    assert np.isnan(radar.age[0])
    assert 60 < np.nanmax(radar.values[-1]) < 76
    assert np.isneginf(radar.values[-1]).any()


# --- bad input ----------------------------------------------------------------------------------


def _written(tmp_path: Path, dataset: object) -> Path:
    path = tmp_path / "bad.nc"
    dataset.to_netcdf(path, engine="h5netcdf")  # type: ignore[attr-defined]
    return path


def test_descending_levels_and_linear_reflectivity_are_reported(tmp_path: Path) -> None:
    good = hail_files.radar_grid(_at(0), LEVELS)
    volume = list_volumes([_written(tmp_path, good.isel(level=slice(None, None, -1)))])[0]
    with pytest.raises(InputError, match="levels descend from"):
        read_reflectivity(volume, LEVELS, *GRID.axes)
    # Strong rain as Z in mm6 m-3 is detected by the quantiles of the volume, whatever its unit attribute is.
    linear = good.copy()
    rng = np.random.default_rng(0)
    echo = 10 ** (rng.uniform(5, 55, good["reflectivity"].shape) / 10)
    linear["reflectivity"] = (good["reflectivity"].dims, echo.astype("float32"), {"units": "dBZ"})
    volume = list_volumes([_written(tmp_path, linear)])[0]
    with pytest.raises(InputError, match=r"99\.9th percentile .* probably Z in mm6 m-3"):
        read_reflectivity(volume, LEVELS, *GRID.axes)
    linear["reflectivity"].attrs["units"] = "mm6 m-3"
    with pytest.raises(InputError, match="units are 'mm6 m-3'; expected dBZ"):
        read_reflectivity(list_volumes([_written(tmp_path, linear)])[0], LEVELS, *GRID.axes)


def test_unordered_volumes_are_sorted_and_duplicates_refused(tmp_path: Path) -> None:
    paths = []
    for minute in (6, 0, 12):
        paths.append(tmp_path / f"{minute}.nc")
        hail_files.radar_grid(_at(minute), LEVELS[:3]).to_netcdf(paths[-1], engine="h5netcdf")
    assert [each.time for each in list_volumes(paths)] == list(_at(0, 6, 12))
    with pytest.raises(InputError, match="both have 2023-06-17T08:06:00; give each volume once"):
        list_volumes([*paths, paths[0]])


def test_grids_without_coordinates_times_or_overlap_are_refused(tmp_path: Path) -> None:
    good = hail_files.radar_grid(_at(0), LEVELS)
    bare = list_volumes([_written(tmp_path, good.drop_vars(["latitude", "longitude"]))])[0]
    with pytest.raises(InputError, match="no latitude and longitude; add them as coordinates"):
        read_reflectivity(bare, LEVELS, *GRID.axes)
    with pytest.raises(InputError, match="no coordinate 'time'"):
        list_volumes([_written(tmp_path, good.isel(time=0, drop=True))])
    with pytest.raises(InputError, match="0 fields with a dimension 'level'"):
        list_volumes([_written(tmp_path, good.rename(level="height"))])
    far = list_volumes([_written(tmp_path, good)])[0]
    with pytest.raises(InputError, match="no point of the requested grid"):
        read_reflectivity(far, LEVELS, *SampleGrid(45.0, 112.0, (16, 16)).axes)
    (tmp_path / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n broken")
    with pytest.raises(UnreadableFileError, match="not readable as a radar grid"):
        list_volumes([tmp_path / "broken.nc"])


def test_missing_freezing_levels_stay_missing(tmp_path: Path) -> None:
    upper, single = hail_files.era5_files(tmp_path, new=False)
    with pytest.raises(InputError, match="no t, z, u, v among the fields"):
        era5.open_era5([single])
    with xarray.open_dataset(upper, engine="h5netcdf") as dataset:
        cold = dataset.load()
    cold["t"] = cold["t"] - 60  # frozen to the ground
    cold.to_netcdf(upper, engine="h5netcdf")
    air = era5.open_era5([upper, single])
    found = air.environment(air.times[0], *GRID.axes, np.zeros(GRID.size))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[2:]).all()
    cold["t"] = cold["t"] - 200  # degrees Celsius
    cold.to_netcdf(upper, engine="h5netcdf")
    with pytest.raises(InputError, match=r"t from .* expected 150 to 340 in the unit of ERA5"):
        era5.open_era5([upper, single])


def test_invalid_agri_files_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("satpy")
    with pytest.raises(InputError, match="not named like FY4B-_AGRI"):
        fy4_agri.scan_time(tmp_path / "agri.hdf")
    path = hail_files.agri_file(tmp_path, "20230617080000")
    with pytest.raises(InputError, match=r"no grid point is on the disk visible from 133\.0 E"):
        fy4_agri.read_agri(path, np.array([30.0, 30.01]), np.array([-60.0, -59.99]))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableFileError, match="cannot be read as AGRI level 1"):
        fy4_agri.read_agri(path, *GRID.axes)
    assert capfd.readouterr() == ("", "")  # without a traceback of satpy
