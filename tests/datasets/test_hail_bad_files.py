"""Unusable files of a source, and the samples of the other files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import hail_files
from typer.testing import CliRunner

from geovision.cli import app
from geovision.datasets.hail_collocation import SampleGrid, match_times
from geovision.datasets.hail_samples import HailSamples
from geovision.errors import InputError, OptionError
from geovision.readers import era5
from geovision.readers.hail_samples import LEVELS, read_sample
from geovision.readers.nearest_neighbor import NearestNeighborIndex

xarray = pytest.importorskip("xarray")

GRID = SampleGrid(30.0, 112.0, (24, 24))
LABEL = np.zeros(GRID.size, np.int8)


def _at(*minutes: float) -> np.ndarray:
    return np.datetime64("2023-06-17T08:00", "s") + (60 * np.array(minutes)).astype("timedelta64[s]")


def _labels(tmp_path: Path, *minutes: int) -> Path:
    path = tmp_path / "labels.nc"
    held = xarray.Dataset(
        {"hail": (("time", "y", "x"), np.stack([LABEL] * len(minutes)))},
        {
            "time": _at(*minutes).astype("datetime64[ns]"),
            "latitude": ("y", GRID.axes[0]),
            "longitude": ("x", GRID.axes[1]),
        },
    )
    held.to_netcdf(path, engine="h5netcdf")
    return path


def _made(tmp_path: Path, labels: Path, *sources: object) -> tuple[int, str, list[Path]]:
    """Exit code, output and samples of the command."""
    out = tmp_path / "made"
    done = CliRunner().invoke(
        app,
        [
            "hail-samples",
            str(labels),
            "--out",
            str(out),
            "--size",
            "24",
            "--windows",
            "3",
            *map(str, sources),
        ],
    )
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output, sorted(out.glob("*.nc"))


def test_a_bad_file_does_not_affect_other_files(tmp_path: Path) -> None:
    good = hail_files.radar_grid(_at(0, 6), LEVELS)
    good.to_netcdf(tmp_path / "good.nc", engine="h5netcdf")
    good.isel(time=[1]).to_netcdf(tmp_path / "double.nc", engine="h5netcdf")
    good.isel(time=0, drop=True).to_netcdf(tmp_path / "timeless.nc", engine="h5netcdf")
    (tmp_path / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n broken")
    (tmp_path / "scan.HDF").write_bytes(b"")
    radar = [
        part
        for name in ("good", "double", "timeless", "broken")
        for part in ("--radar", tmp_path / f"{name}.nc")
    ]
    # There are no data ten hours later; the other samples are written nevertheless.
    code, messages, made = _made(
        tmp_path, _labels(tmp_path, 0, 600, 6), *radar, "--agri", tmp_path / "scan.HDF"
    )
    assert code == 1
    assert [path.name[5:20] for path in made] == ["20230617T080000", "20230617T080600"]
    for message in (
        f"{tmp_path / 'double.nc'} both have 2023-06-17T08:06:00",
        f"{tmp_path / 'timeless.nc'}: no coordinate 'time'",
        f"{tmp_path / 'broken.nc'}: not readable as a radar grid",
        f"{tmp_path / 'scan.HDF'}: not named like FY4B",
        "2023-06-17T18:00:00: no value of radar, satellite or reanalysis in any of 3 windows",
    ):
        assert message in messages
    np.testing.assert_array_equal(read_sample(made[1]).sources["radar"].age, [np.nan, 0, 0])
    with pytest.raises(InputError, match="no sample at any of its 1 times; nothing was written"):
        _made(tmp_path, _labels(tmp_path, 600), *radar)


def test_a_window_in_which_a_source_has_no_value_is_missing(tmp_path: Path) -> None:
    radar = hail_files.radar_grid(_at(0, 6, 12), LEVELS)
    radar["reflectivity"][1] = np.nan
    radar.to_netcdf(tmp_path / "radar.nc", engine="h5netcdf")
    upper, single = hail_files.era5_fields()
    for name, fields in (("upper", upper), ("single", single)):
        (fields * np.nan).to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    code, messages, made = _made(
        tmp_path,
        _labels(tmp_path, 12),
        "--radar",
        tmp_path / "radar.nc",
        "--era5",
        tmp_path / "upper.nc",
        "--era5",
        tmp_path / "single.nc",
    )
    assert code == 0, messages
    sample = read_sample(made[0])
    np.testing.assert_array_equal(sample.sources["radar"].age, [0, np.nan, 0])
    assert np.isnan(sample.sources["era5"].age).all()
    assert not HailSamples(made[0].parent)[0]["valid"]["era5"].any()


def test_grib_leaves_projections_unchanged(tmp_path: Path) -> None:
    # In a separate process, because the result depends on the library that is loaded first.
    pytest.importorskip("cfgrib")
    path = hail_files.era5_grib(tmp_path / "levels.grib")
    program = (
        "from geovision.readers import era5; import sys; era5._datasets(era5.Path(sys.argv[1])); import "
        "pyproj; print(pyproj.Transformer.from_crs(4326, 32649, always_xy=True).transform(111, 30)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(500_000)


def test_era5_on_other_grids_is_reported(tmp_path: Path) -> None:
    upper, single = hail_files.era5_fields()
    plane = tmp_path / "plane.nc"
    upper.rename(latitude="y", longitude="x").to_netcdf(plane, engine="h5netcdf")
    with pytest.raises(InputError, match=r"t along time, level, y, x; expected time, level, latitude"):
        era5.open_era5([plane])
    parts = [tmp_path / "a.nc", tmp_path / "b.nc", tmp_path / "single.nc"]
    upper.isel(time=[0]).to_netcdf(parts[0], engine="h5netcdf")
    upper.isel(time=[1], latitude=slice(0, None, 2)).to_netcdf(parts[1], engine="h5netcdf")
    single.to_netcdf(parts[2], engine="h5netcdf")
    with pytest.raises(InputError, match="files with t on different grids or levels"):
        era5.open_era5(parts)
    messages: list[str] = []
    parts[1].write_bytes(b"broken")
    assert len(era5.open_era5(parts, on_skip=messages.append).times) == 1
    assert len(messages) == 1
    assert f"{parts[1]}: cannot be read as NetCDF or GRIB" in messages[0]


def test_invalid_places_and_ages_are_refused() -> None:
    with pytest.raises(OptionError, match="expected up to 85 degrees"):
        SampleGrid(np.nan, 10.0)
    with pytest.raises(OptionError, match="a maximum age of -1 minutes; expected 0 or more"):
        match_times(_at(0), _at(0), maximum_age=-1)
    nowhere = np.full((4, 4), np.nan)
    with pytest.raises(InputError, match="the radar: latitudes and longitudes are all missing"):
        NearestNeighborIndex.build(nowhere, nowhere, *GRID.axes, where="the radar")
    latitude, longitude = np.meshgrid(*GRID.axes, indexing="ij")
    latitude[0, :5] = np.nan  # as beyond the edge of a disc
    found = NearestNeighborIndex.build(latitude, longitude, *GRID.axes)
    assert found.index[-1, -1] == latitude.size - 1
    assert not np.isin(np.arange(5), found.index).any()
