"""Files of predicted maps: content, georeferencing and error messages."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.commands import ran
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import geovision
from geovision.datasets.hail_samples import HailSamples
from geovision.errors import OptionError, StorageError
from geovision.heads.prediction import FieldPrediction
from geovision.inference import PredictionWriter
from geovision.models.geomodel import GeoModel
from geovision.readers import hail_samples
from geovision.registry import find_task
from geovision.spec import Grid

TINY = {"width": 4, "kernel": 3, "unet_width": 4}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = HailSamples.synthetic(tmp_path_factory.mktemp("samples"), 2, size=(16, 24), windows=3)
    return sorted(root.glob("*.nc"))


@pytest.fixture(scope="module")
def model() -> GeoModel:
    torch.manual_seed(0)
    model = geovision.create("hail-hinet", model_args=TINY)
    with torch.no_grad():  # logits on both sides of the threshold
        model.head.convolution.weight.mul_(30)
    return model


@pytest.fixture(scope="module")
def folder(model: GeoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("model") / "hail")


def test_a_mask_has_the_grid_and_time_of_its_sample(model, samples):
    for path in samples:
        (prediction,) = model.predict(path)
        sample = hail_samples.read_sample(path)
        assert prediction.grid == Grid(tuple(sample.latitude), tuple(sample.longitude))
        assert prediction.time == sample.time[-1]
        plain = prediction.as_dict()
        assert plain["time"] == str(sample.time[-1].astype("datetime64[s]"))
        assert plain["latitude"] == list(sample.latitude)
    sample = HailSamples(samples[0].parent)[0]
    (prediction,) = model.predict(sample["inputs"])  # arrays have no grid
    assert (prediction.grid, prediction.time) == (None, None)
    assert not {"time", "latitude"} & set(prediction.as_dict())


def test_the_command_writes_each_mask_with_its_grid_and_time(model, folder, samples, tmp_path, capsys):
    out = tmp_path / "masks"
    done = ran(capsys, "predict", folder, *samples, "--out", out, "--format", "csv")
    assert done.code == 0
    rows = list(csv.DictReader(done.out.splitlines()))
    assert [row["map"] for row in rows] == [str(out / path.name) for path in samples]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        name for path in samples for name in (path.name, f"{path.stem}.png")
    )
    for path, prediction in zip(samples, model.predict(samples), strict=True):
        sample = hail_samples.read_sample(path)
        with xr.open_dataset(out / path.name, engine="h5netcdf") as written:
            assert written["hail"].dims == ("time", "lat", "lon")
            assert written["hail"].dtype == np.int8
            assert_array_equal(written["hail"][0], prediction.mask)
            assert_allclose(written["probability_of_hail"][0], prediction.probability, atol=1e-6)
            assert_array_equal(written["lat"], sample.latitude)
            assert_array_equal(written["lon"], sample.longitude)
            assert written["time"].values == [sample.time[-1]]
            assert written["lat"].attrs["units"] == "degrees_north"
            assert written["hail"].attrs["flag_meanings"] == "not_known no_hail hail"
            assert_array_equal(written["hail"].attrs["flag_values"], [-1, 0, 1])
            assert written.attrs["source"] == path.name
            assert "hail-hinet, weights " in written.attrs["history"]
        with Image.open(out / f"{path.stem}.png") as picture:
            assert picture.width > 400
    assert 0 < prediction.mask.sum() < prediction.mask.size  # otherwise the test covers one value only


def test_the_mask_is_not_known_without_measurements(model, samples, tmp_path):
    sample = HailSamples(samples[0].parent)[0]
    there = {name: mask.clone() for name, mask in sample["valid"].items() if name != "target"}
    for mask in there.values():
        mask[..., :, :8] = False
    inputs = {
        name: np.ma.MaskedArray(values.numpy(), ~there[name].numpy())
        for name, values in sample["inputs"].items()
    }
    (prediction,) = model.predict(inputs)
    written, _ = PredictionWriter(tmp_path, model).save(prediction, "gap")
    with xr.open_dataset(written, engine="h5netcdf") as found:
        assert found["hail"].dims == ("y", "x")
        assert (found["hail"][:, :8] == -1).all()
        assert np.isnan(found["probability_of_hail"][:, :8]).all()
        assert_array_equal(found["hail"][:, 8:], prediction.mask[:, 8:])


def test_files_of_one_name_and_a_damaged_one(folder, samples, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / samples[0].name).write_bytes(samples[0].read_bytes())
    broken = tmp_path / "a" / samples[1].name
    broken.write_bytes(samples[1].read_bytes()[:3000])
    done = ran(capsys, "predict", folder, tmp_path / "a", tmp_path / "b", "--out", tmp_path / "masks")
    assert done.code == 1
    assert f"{broken}: cannot be read as a hail sample" in done.err
    names = {path.name for path in (tmp_path / "masks").glob("*.nc")}
    assert names == {samples[0].name, f"{samples[0].stem}-2.nc"}


def test_an_unwritable_path_is_reported_in_one_line(folder, samples, tmp_path, capsys):
    (tmp_path / "file").write_text("", "utf-8")
    done = ran(capsys, "predict", folder, samples[0], "--out", tmp_path / "file")
    assert done.code == 1
    assert f"{tmp_path / 'file'}: could not be written" in done.err
    assert (tmp_path / "file").read_text("utf-8") == ""


def test_class_predictions_are_refused(tmp_path):
    with pytest.raises(OptionError, match="cloud-tiny predicts classes, which are rows of a table"):
        PredictionWriter(tmp_path / "maps", geovision.create("cloud-tiny"))
    assert not (tmp_path / "maps").exists()


def test_a_field_is_written_with_its_layers(tmp_path):
    model = geovision.create("downscale-bilinear")
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, 5.0, (3, 4)).astype(np.float32)
    values[0, 0] = np.nan
    wet = rng.random((3, 4), dtype=np.float32)
    prediction = FieldPrediction(
        "coarse.nc",
        name="precipitation",
        unit="mm/day",
        values=values,
        layers={"quantile_0.9": 2 * values, "probability_of_1": wet},
        grid=Grid((40.0, 40.5, 41.0), (-9.0, -8.5, -8.0, -7.5)),
        time=np.datetime64("1998-01-05"),
    )
    written, picture = PredictionWriter(tmp_path, model).save(prediction, "fine")
    assert picture.is_file()
    with xr.open_dataset(written, engine="h5netcdf") as found:
        assert_allclose(found["precipitation"][0], values)
        assert_allclose(found["quantile_0.9"][0], 2 * values)
        assert_allclose(found["probability_of_1"][0], wet)
        units = {str(name): each.attrs["units"] for name, each in found.data_vars.items()}
        assert units == {"precipitation": "mm/day", "quantile_0.9": "mm/day", "probability_of_1": "1"}
        assert found["time"].values == [np.datetime64("1998-01-05", "ns")]


def test_a_full_disk_keeps_existing_files(model, samples, small_disk):
    files = PredictionWriter(small_disk, model)
    (prediction,) = model.predict(samples[0])
    before, _ = files.save(prediction, "answer")
    kept = before.read_bytes()
    left = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(left - 4096))
    with pytest.raises(StorageError, match="existing files are unchanged"):
        files.save(prediction, "answer")
    assert before.read_bytes() == kept


def test_one_input_of_a_sample_equals_the_full_sample(samples):
    whole = hail_samples.to_arrays(hail_samples.read_sample(samples[0]))
    for spec in find_task("hail").inputs:
        values, missing = whole[spec.name]
        alone = hail_samples.read_input(samples[0], spec)
        assert_array_equal(alone.mask, missing)
        assert_array_equal(alone.data, values)
