"""Predictions for files of rain: metadata are kept, and results do not depend on chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import geovision
from geovision.datasets.rain_grids import BiasedRain, CoarseRain
from geovision.datasets.synthetic.rain import fields
from geovision.errors import InputError, OptionError
from geovision.inference import _predict_grid as engine
from geovision.inference._predict_grid import predict_grid
from geovision.models.geomodel import GeoModel
from geovision.readers.grids import open_grid, reader, write_grid
from geovision.training.data_statistics import fit_statistics


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> CoarseRain:
    return CoarseRain(CoarseRain.synthetic(tmp_path_factory.mktemp("coarse"), 80, seed=3))


@pytest.fixture(scope="module")
def bilinear(coarse: CoarseRain) -> GeoModel:
    return geovision.create("downscale-bilinear", **coarse.model_kwargs())


def fine(path: Path) -> xr.DataArray:
    return xr.open_dataset(path, engine="zarr" if path.suffix == ".zarr" else "h5netcdf")["precipitation"]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_the_output_equals_daily_predictions_of_the_model(
    suffix: str, coarse: CoarseRain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_CHUNK_BYTES", 7 * 4 * (8 * 12 + 32 * 48))
    model = geovision.create("downscale-tiny", **coarse.model_kwargs())
    fit_statistics(model, coarse)
    seen: list[tuple[int, int]] = []
    summary = predict_grid(
        model,
        {"pr": coarse.root / "rain_coarse.nc"},
        tmp_path / f"fine{suffix}",
        progress=lambda *step: seen.append(step),
    )
    found = fine(summary.out)
    assert (summary.fields, summary.variables) == (80, ("precipitation",))
    assert len(seen) == 12  # chunks of seven days
    assert seen[-1] == (80, 80)
    assert found.attrs["units"] == "mm day-1"
    target = xr.open_dataset(coarse.root / "rain_fine.nc", engine="h5netcdf")
    assert np.allclose(found["lat"], target["lat"])
    assert np.allclose(found["lon"], target["lon"])
    assert (found["time"].values == target["time"].values).all()
    for day in (0, 11, 79):
        (prediction,) = model.predict({"fields": coarse[day]["inputs"]["fields"]})
        assert np.allclose(found[day].values, prediction.values, atol=1e-4, equal_nan=True)


def test_calendar_attributes_members_and_units_are_kept(tmp_path: Path) -> None:
    _, given, _ = fields(5, seed=1, size=(16, 24), calendar="noleap", start="2000-02-27")
    members = xr.concat([given, given * 2], dim="member").assign_coords(member=[3, 7])
    members = members.transpose("time", "member", "lat", "lon").assign_attrs(
        units="mm day-1",
        source="a model",
        cell_methods="time: sum",
        experiment_id="rcp85",
        license="CC BY 4.0",
    )
    write_grid(members, tmp_path / "in.nc", units="kg m-2 s-1")
    model = geovision.create("downscale-nearest")
    predict_grid(model, {"precipitation": tmp_path / "in.nc"}, tmp_path / "out.nc", out_units="kg m-2 s-1")
    found = fine(tmp_path / "out.nc")
    assert found.dims == ("time", "member", "lat", "lon")
    assert found["member"].values.tolist() == [3, 7]
    assert found["time"].dt.calendar == "noleap"
    assert str(found["time"].values[2])[:10] == "2000-03-01"
    assert found.attrs["units"] == "kg m-2 s-1"
    assert found.attrs["cell_methods"] == "time: sum"
    of_file = xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf").attrs
    assert of_file["source"] == "a model"
    assert (of_file["experiment_id"], of_file["license"]) == ("rcp85", "CC BY 4.0")
    assert of_file["title"] == "precipitation by downscale-nearest"
    expected = np.repeat(np.repeat(given.values, 4, 1), 4, 2)
    assert np.allclose(found[:, 0].values * 86400, expected, rtol=1e-4)
    assert np.allclose(found[:, 1].values * 86400, 2 * expected, rtol=1e-4)
    assert np.allclose(np.diff(found["lat"]), 0.25)


def test_quantiles_and_members_are_variables_and_an_axis(coarse: CoarseRain, tmp_path: Path) -> None:
    quantiles = geovision.create(
        "downscale-tiny", head="quantiles", head_args={"quantiles": [0.1, 0.5, 0.9]}, **coarse.model_kwargs()
    )
    fit_statistics(quantiles, coarse)
    given = {"pr": coarse.root / "rain_coarse.nc"}
    predict_grid(quantiles, given, tmp_path / "quantiles.nc")
    found = xr.open_dataset(tmp_path / "quantiles.nc", engine="h5netcdf")
    assert set(found.data_vars) == {"precipitation", "quantile_0.1", "quantile_0.5", "quantile_0.9"}
    assert bool(
        (found["quantile_0.1"] <= found["quantile_0.9"]).where(found["precipitation"].notnull(), True).all()
    )
    gamma = geovision.create("downscale-tiny", head="bernoulli-gamma", **coarse.model_kwargs())
    fit_statistics(gamma, coarse)
    predict_grid(gamma, given, tmp_path / "members.nc", members=3, seed=2)
    drawn = fine(tmp_path / "members.nc")
    assert drawn.sizes["member"] == 3
    there = drawn.notnull().all("member")
    assert bool((drawn.std("member").where(there, 1) > 0).any())
    plain = geovision.create("downscale-tiny", **coarse.model_kwargs())
    fit_statistics(plain, coarse)
    with pytest.raises(OptionError, match="the model has no dropout"):
        predict_grid(plain, given, tmp_path / "none.nc", members=3)
    assert not (tmp_path / "none.nc").exists()


def test_dropout_members_do_not_depend_on_chunks(
    coarse: CoarseRain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)  # some untrained networks are dry everywhere, and so are their members
    model = geovision.create("downscale-tiny", model_args={"dropout": 0.3}, **coarse.model_kwargs())
    fit_statistics(model, coarse)
    given = {"pr": coarse.root / "rain_coarse.nc"}
    predict_grid(model, given, tmp_path / "whole.nc", members=2)
    monkeypatch.setattr(engine, "_CHUNK_BYTES", 13 * 4 * (8 * 12 + 32 * 48 * 2))
    predict_grid(model, given, tmp_path / "pieces.nc", members=2, batch_size=5)
    whole, pieces = fine(tmp_path / "whole.nc"), fine(tmp_path / "pieces.nc")
    assert np.allclose(whole, pieces, atol=1e-4, equal_nan=True)
    assert not np.allclose(whole[:, 0], whole[:, 1], equal_nan=True)


@pytest.mark.parametrize(("cells", "most"), [(5 * 32 * 48, 5), (100, 1), (2**18, 32)])
def test_large_fields_are_predicted_in_small_batches(
    cells: int, most: int, coarse: CoarseRain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MAX_BATCH_CELLS", cells)
    model = geovision.create("downscale-tiny", **coarse.model_kwargs())
    fit_statistics(model, coarse)
    seen: list[int] = []
    model.network.register_forward_hook(lambda _, given, prediction: seen.append(len(prediction)))
    predict_grid(model, {"pr": coarse.root / "rain_coarse.nc"}, tmp_path / "out.nc")
    assert max(seen) == most
    assert sum(seen) == 81  # one extra prediction, for the names of the output variables


def test_quantile_delta_uses_the_period_of_the_file(tmp_path: Path) -> None:
    data = BiasedRain(BiasedRain.synthetic(tmp_path / "biased", 80, seed=3))
    model = geovision.create("biascorrect-quantile-delta", **data.model_kwargs())
    geovision.train(model, data, progress=False)
    predict_grid(model, {"pr": data.root / "rain_model.nc"}, tmp_path / "out.nc")
    given = open_grid(data.root / "rain_model.nc", "precipitation")
    expected = model.network.correction(torch.from_numpy(given.values))
    expected = expected.clamp(0, float(model.head.limit)).numpy()
    assert np.allclose(fine(tmp_path / "out.nc").values, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parallel_chunks_equal_sequential_chunks(
    threads: int, coarse: CoarseRain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = geovision.train(
        geovision.create("downscale-quantile-mapping", **coarse.model_kwargs()), coarse, progress=False
    )
    given = {"pr": coarse.root / "rain_coarse.nc"}
    predict_grid(model, given, tmp_path / "whole.zarr")
    monkeypatch.setattr(engine, "_CHUNK_BYTES", 7 * 4 * (8 * 12 + 32 * 48))
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        predict_grid(model, given, tmp_path / "pieces.zarr", progress=lambda done, _: seen.append(done))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert max(seen) == 80
    assert np.array_equal(fine(tmp_path / "whole.zarr"), fine(tmp_path / "pieces.zarr"), equal_nan=True)


def test_a_bad_value_in_the_last_chunk_keeps_the_existing_result(
    coarse: CoarseRain, bilinear: GeoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_CHUNK_THRESHOLD", 4096)
    monkeypatch.setattr(engine, "_CHUNK_BYTES", 7 * 4 * (8 * 12 + 32 * 48))
    out = tmp_path / "fine.zarr"
    predict_grid(bilinear, {"pr": coarse.root / "rain_coarse.nc"}, out)
    earlier = fine(out).load()
    with xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf") as rain:
        bad = rain.load()
    bad["precipitation"][79, 3, 4] = -1.0
    bad.to_netcdf(tmp_path / "bad.nc", engine="h5netcdf")
    with pytest.raises(InputError, match=r"bad\.nc: precipitation from -8\.64e\+04"):
        predict_grid(bilinear, {"pr": tmp_path / "bad.nc"}, out)
    assert fine(out).equals(earlier)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.nc", "fine.zarr"]
