"""Fields that are the same on all days, such as orography: from files without times to `geovision grid`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

import geovision
from geovision.cli import main
from geovision.datasets.rain_grids import GRIDS_FILE, CoarseRain
from geovision.errors import InputError
from geovision.inference import _predict_grid as engine
from geovision.inference._predict_grid import predict_grid
from geovision.models.geomodel import GeoModel
from geovision.readers.grids import align, open_grid, reader, regrid_auto

HEIGHT = {"standard_name": "surface_altitude"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated rain of 8 x 12 coarse cells, with an orography of 8 x 8 cells in each, in km, north first."""
    folder = CoarseRain.synthetic(tmp_path_factory.mktemp("static"), 80, seed=3)
    with xr.open_dataset(folder / "rain_coarse.nc", engine="h5netcdf") as rain:
        lat, lon = (finer(rain[axis].values, 8) for axis in ("lat", "lon"))
    relief(lat, lon).to_netcdf(folder / "orog.nc", engine="h5netcdf")
    with (folder / GRIDS_FILE).open("a") as table:
        table.write('\n[given.surface_altitude]\nfile = "orog.nc"\n')
    return folder


def finer(centers: NDArray, parts: int) -> NDArray:
    step = centers[1] - centers[0]
    return np.concatenate([center + step * ((np.arange(parts) + 0.5) / parts - 0.5) for center in centers])


def relief(lat: NDArray, lon: NDArray) -> xr.Dataset:
    height = np.random.default_rng(0).gamma(1.0, 0.4, (len(lat), len(lon))).astype(np.float32)
    height[:9, :9] = np.nan  # sea beyond the first coarse cell
    return xr.Dataset(
        {"orog": (("latitude", "longitude"), height[::-1], HEIGHT | {"units": "km"})},
        {"latitude": lat[::-1], "longitude": lon},
    )


def means(root: Path) -> NDArray:
    """Mean height of the coarse cells over valid cells, in m, computed by hand."""
    fine = xr.open_dataset(root / "orog.nc", engine="h5netcdf")["orog"][::-1]
    values, lat = 1000 * fine.values, fine["latitude"].values
    half = (lat[1] - lat[0]) / 2
    area = np.sin(np.radians(lat + half)) - np.sin(np.radians(lat - half))
    weights = np.where(np.isfinite(values), area[:, None], 0)

    def blocks(field: NDArray) -> NDArray:
        return np.nansum(field.reshape(8, 8, 12, 8), axis=(1, 3))

    share = blocks(weights) / blocks(np.broadcast_to(area[:, None], values.shape))
    return np.where(share >= 0.5, blocks(values * weights) / np.maximum(blocks(weights), 1e-12), np.nan)


@pytest.fixture(scope="module")
def model(root: Path) -> GeoModel:
    data = CoarseRain(root)
    torch.manual_seed(0)
    opened = geovision.create("downscale-edsr", model_args={"width": 4, "blocks": 1}, **data.model_kwargs())
    recipe = opened.task.demo.recipe.with_epochs(1)
    return geovision.train(opened, data, recipe=recipe, progress=False)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return int(left.value.code or 0)


# --- reading -------------------------------------------------------------------------------------


def test_orography_is_read_without_times_in_meters(root: Path) -> None:
    field = open_grid(root / "orog.nc", "surface_altitude")
    assert field.dims == ("lat", "lon")
    assert field.attrs["units"] == "m"
    assert (np.diff(field["lat"]) > 0).all()
    fine = xr.open_dataset(root / "orog.nc", engine="h5netcdf")["orog"]
    assert np.allclose(field.values[::-1], 1000 * fine.values, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("times", [1, 3])
def test_a_time_axis_without_changes_is_dropped(root: Path, tmp_path: Path, times: int) -> None:
    with xr.open_dataset(root / "orog.nc", engine="h5netcdf") as once:
        dates = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
        several = once["orog"].expand_dims(time=dates)
        several.to_netcdf(tmp_path / "orog.nc", engine="h5netcdf")
        rising = several * xr.DataArray(np.arange(1.0, 1 + times), dims="time")
        rising.rename("orog").assign_attrs(several.attrs).to_netcdf(tmp_path / "rising.nc", engine="h5netcdf")
    found = open_grid(tmp_path / "orog.nc", "surface_altitude")
    assert found.equals(open_grid(root / "orog.nc", "surface_altitude"))
    if times > 1:
        with pytest.raises(
            InputError, match=r"rising\.nc: 'orog' changes in time; expected a constant field"
        ):
            open_grid(tmp_path / "rising.nc", "surface_altitude")


def test_a_field_that_changes_daily_needs_times(tmp_path: Path, root: Path) -> None:
    with xr.open_dataset(root / "rain_coarse.nc", engine="h5netcdf") as rain:
        rain.isel(time=0, drop=True).to_netcdf(tmp_path / "day.nc", engine="h5netcdf")
    with pytest.raises(InputError, match=r"day\.nc: 'precipitation' has no time axis; expected the dates"):
        open_grid(tmp_path / "day.nc", "precipitation")


def test_units_and_values_of_orography_are_checked(tmp_path: Path, root: Path) -> None:
    with xr.open_dataset(root / "orog.nc", engine="h5netcdf") as own:
        height = own["orog"].load()
    for name, factor, unit in (("none", 1, ""), ("slip", 1000, "km"), ("other", 1, "K")):
        scaled = (factor * height).assign_attrs(HEIGHT | {"units": unit})
        scaled.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    with pytest.raises(
        InputError, match=r"'orog' has no units; declare them with units=, .*for instance 'm', 'km'"
    ):
        open_grid(tmp_path / "none.nc", "surface_altitude")
    assert open_grid(tmp_path / "none.nc", "surface_altitude", units="km").equals(
        open_grid(root / "orog.nc", "surface_altitude")
    )
    with pytest.raises(InputError, match=r"expected -500 to 9000 .*plausible in 'm'"):
        open_grid(tmp_path / "slip.nc", "surface_altitude")
    with pytest.raises(InputError, match="K"):
        open_grid(tmp_path / "other.nc", "surface_altitude")
    with pytest.raises(InputError, match=r"is constant in time and already in .*; give one file"):
        open_grid([root / "orog.nc", root / "orog.nc"], "surface_altitude")


def test_no_dates_are_dropped_next_to_one_field_with_times(root: Path) -> None:
    rain = open_grid(root / "rain_coarse.nc", "precipitation")
    rain = rain.where(rain["time"] != rain["time"][4])
    relief = open_grid(root / "orog.nc", "surface_altitude")
    found = align({"rain": rain, "relief": relief})
    assert str(found) == "80 dates in common; no dates dropped"
    three = align({"relief": relief, "rain": rain, "same": rain})
    assert list(three.fields) == ["relief", "rain", "same"]
    assert str(three).startswith("79 dates in common; rain lost 1")
    with pytest.raises(InputError, match="relief, again: no field has a time axis"):
        align({"relief": relief, "again": relief})


# --- training ------------------------------------------------------------------------------------


def test_every_day_has_the_mean_height_of_its_cells(root: Path) -> None:
    data = CoarseRain(root)
    assert data.channels == ("precipitation", "surface_altitude")
    assert len(data) == 80
    wanted = means(root)
    assert np.isnan(wanted[0, 0])
    for day in (0, 41, 79):
        sample = data[day]
        there = sample["valid"]["fields"][1].numpy()
        assert np.array_equal(there, np.isfinite(wanted))
        assert np.allclose(sample["inputs"]["fields"][1].numpy()[there], wanted[there], rtol=1e-5)
    assert not torch.equal(data[0]["inputs"]["fields"][0], data[41]["inputs"]["fields"][0])


def test_coarser_orography_is_interpolated(root: Path) -> None:
    rain = open_grid(root / "rain_coarse.nc", "precipitation")
    relief = open_grid(root / "orog.nc", "surface_altitude").fillna(0.0)
    coarse = relief.coarsen(lat=16, lon=16).mean()
    found = regrid_auto(coarse, rain)
    assert found.dims == ("lat", "lon")
    inner = found[2:6, 2:10]
    assert np.allclose(inner, coarse.interp(lat=inner["lat"], lon=inner["lon"]).values, rtol=1e-4)
    assert regrid_auto(found, rain) is found


def test_a_network_uses_it(root: Path, model: GeoModel) -> None:
    assert model.config.predictors == ("surface_altitude",)
    data = CoarseRain(root)
    fields = max((data[day]["inputs"]["fields"] for day in range(len(data))), key=lambda each: each[0].mean())
    other = fields.clone()
    other[1] += 800
    (first,), (second,) = (model.predict({"fields": each}) for each in (fields, other))
    assert not np.allclose(first.values, second.values, equal_nan=True)


def test_the_command_trains_scores_and_applies_with_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        [
            "train",
            "downscale-tiny",
            "--data",
            str(root),
            "--predictor",
            "surface_altitude",
            "--epochs",
            "1",
            "--split",
            "2001-2006",
            "--out",
            str(tmp_path / "run"),
        ],
        [
            "evaluate",
            str(tmp_path / "run" / "model"),
            "--data",
            str(root),
            "--split",
            "2007-2008",
            "--n-bootstrap",
            "0",
        ],
        [
            "grid",
            str(tmp_path / "run" / "model"),
            str(root / "rain_coarse.nc"),
            "--field",
            f"orog={root / 'orog.nc'}",
            "--out",
            str(tmp_path / "fine.nc"),
        ],
    ):
        assert run(*arguments) == 0, capsys.readouterr().err
    output = capsys.readouterr()
    assert "rmse" in output.out
    assert "no dates dropped" in output.err
    written = xr.open_dataset(tmp_path / "fine.nc", engine="h5netcdf")["precipitation"]
    opened, data = geovision.load(tmp_path / "run" / "model"), CoarseRain(root)
    (prediction,) = opened.predict({"fields": data[17]["inputs"]["fields"]})
    assert np.allclose(written[17].values, prediction.values, atol=1e-3, equal_nan=True)
    without = tmp_path / "none.nc"
    assert run("grid", str(tmp_path / "run" / "model"), str(root / "rain_coarse.nc"), "--out", str(without))
    assert not without.exists()
    assert "needs surface_altitude; give each as NAME=FILE" in capsys.readouterr().err


def test_rounded_axes_are_treated_as_equal(root: Path, tmp_path: Path, model: GeoModel) -> None:
    with xr.open_dataset(root / "rain_coarse.nc", engine="h5netcdf") as rain:
        rain.assign_coords(lat=rain["lat"] + 1e-4, lon=rain["lon"] - 1e-4).to_netcdf(
            tmp_path / "rounded.nc", engine="h5netcdf"
        )
    fields = []
    for name, file in (("as it is", root / "rain_coarse.nc"), ("rounded", tmp_path / "rounded.nc")):
        predict_grid(model, {"pr": file, "orog": root / "orog.nc"}, tmp_path / f"{name} fine.nc")
        fields.append(
            xr.open_dataset(tmp_path / f"{name} fine.nc", engine="h5netcdf")["precipitation"].values
        )
    assert np.array_equal(*fields, equal_nan=True)


# --- whole files ---------------------------------------------------------------------------------


def test_chunks_of_a_file_have_the_same_orography(
    root: Path, tmp_path: Path, model: GeoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"pr": tmp_path / "rain.nc", "orog": root / "orog.nc"}
    with xr.open_dataset(root / "rain_coarse.nc", engine="h5netcdf") as rain:
        rain.where(rain["time"] != rain["time"][9]).to_netcdf(files["pr"], engine="h5netcdf")
    predict_grid(model, files, tmp_path / "whole.nc")
    monkeypatch.setattr(reader, "_CHUNK_THRESHOLD", 4096)
    monkeypatch.setattr(engine, "_CHUNK_BYTES", 7 * 4 * (2 * 8 * 12 + 32 * 48))
    summary = predict_grid(model, files, tmp_path / "pieces.nc")
    assert summary.alignment == "80 dates in common; no dates dropped"
    whole, pieces = (
        xr.open_dataset(tmp_path / f"{name}.nc", engine="h5netcdf")["precipitation"]
        for name in ("whole", "pieces")
    )
    assert np.allclose(whole, pieces, atol=1e-4, equal_nan=True)
    shutil.rmtree(tmp_path)
