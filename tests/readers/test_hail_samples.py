"""Hail samples on disk and as a data set: missing data, positions and groups."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from geovision.datasets.base import collate
from geovision.datasets.hail_samples import HailSamples
from geovision.datasets.synthetic import storm
from geovision.errors import DatasetError, InputError, OptionError, UnreadableFileError
from geovision.readers import hail_samples
from geovision.readers.hail_samples import CHANNELS, NO_ECHO_DBZ, HailSample, SampleName, TimedSource
from geovision.spec import Channel, InputSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return HailSamples.synthetic(tmp_path_factory.mktemp("hail"), 12, seed=1, size=(32, 24), windows=4)


@pytest.fixture(scope="module")
def data(folder: Path) -> HailSamples:
    return HailSamples(folder)


@pytest.fixture
def sample() -> HailSample:
    return storm.generate(3, seed=1, size=(16, 20), windows=3)


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_written_samples_are_read_unchanged(tmp_path: Path, sample: HailSample, kind: str) -> None:
    path = hail_samples.write_sample(sample, tmp_path, kind=kind)  # type: ignore[arg-type]
    again = hail_samples.read_sample(path)
    assert path.stem == str(sample.name)
    radar = sample.sources["radar"].values
    found = again.sources["radar"].values
    np.testing.assert_array_equal(np.isnan(found), np.isnan(radar))  # not covered
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(radar))  # no echo
    echo = np.isfinite(radar)
    np.testing.assert_allclose(found[echo], radar[echo], atol=0.051)
    for name in ("fy4b", "era5"):
        np.testing.assert_allclose(again.sources[name].values, sample.sources[name].values, atol=0.006)
        np.testing.assert_allclose(again.sources[name].age, sample.sources[name].age)
    np.testing.assert_allclose(again.dem, sample.dem, rtol=1e-6)
    np.testing.assert_array_equal(again.label, sample.label)
    np.testing.assert_array_equal(again.extra["oracle"], sample.extra["oracle"])
    np.testing.assert_array_equal(again.time, sample.time)
    np.testing.assert_allclose(again.latitude, sample.latitude)
    header = hail_samples.read_header(path)
    assert header["sizes"] == {"time": 3, "y": 16, "x": 20}
    assert header["title"] == "generated storms, version 1, seed 1, sample 3"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]  # no temporary file is left


def test_a_sample_separates_missing_data_from_no_echo(data: HailSamples) -> None:
    for index in range(len(data)):
        sample, held = data[index], data.read(index)
        radar, valid = sample["inputs"]["radar"], sample["valid"]["radar"]
        assert {name: tuple(each.shape) for name, each in sample["inputs"].items()} == {
            "radar": (4, 21, 32, 24),
            "fy4b": (4, 5, 32, 24),
            "era5": (4, 5, 32, 24),
            "dem": (5, 32, 24),
        }
        assert all(
            each.dtype == torch.float32 and each.isfinite().all() for each in sample["inputs"].values()
        )
        assert (radar[~valid] == 0).all()
        assert ((radar == NO_ECHO_DBZ) == torch.from_numpy(np.isneginf(held.sources["radar"].values))).all()
        assert valid[radar == NO_ECHO_DBZ].all()
        assert sample["target"].shape == (1, 32, 24)
        assert set(sample["target"].unique().tolist()) <= {0.0, 1.0}
        assert sample["valid"]["target"].all()


def test_samples_stack_to_batches_in_other_processes(data: HailSamples) -> None:
    batch = next(iter(DataLoader(data, batch_size=5, collate_fn=collate, num_workers=1)))
    assert batch["inputs"]["radar"].shape == (5, 4, 21, 32, 24)
    assert batch["valid"]["era5"].shape == (5, 4, 5, 32, 24)
    assert batch["target"].shape == (5, 1, 32, 24)


def test_splits_keep_storm_days_and_years_together(data: HailSamples, folder: Path) -> None:
    assert len(set(data.groups)) == 3
    train, held = data.group_split(0.3, seed=2)
    assert not set(train.groups) & set(held.groups)
    published = HailSamples(folder, split="train"), HailSamples(folder, split="test")
    assert [len(each) for each in published] == [8, 4]
    assert {unit[:4] for unit in published[1].groups} == {"2023"}
    years = HailSamples(folder, group_by="year")
    assert set(years.groups) == {"2022", "2023"}
    with pytest.raises(
        DatasetError, match="no sample is of the test split \\(test is 2020; here are 2022, 2023\\)"
    ):
        HailSamples(folder, split="test", test_years=(2020,))


def test_a_storm_day_does_not_end_at_midnight() -> None:
    def day(time: str, longitude: int) -> str:
        east = "E" if longitude >= 0 else "W"
        return SampleName.from_path(Path(f"hail_{time}_N3000_{east}{abs(longitude) * 100:05d}.nc")).storm_day

    assert day("20230617T153000", 120) == day("20230617T163000", 120) == "2023-06-17"  # local midnight
    assert day("20230617T215900", 120) == "2023-06-17"  # 5:59 in the morning
    assert day("20230617T220000", 120) == "2023-06-18"
    assert day("20230617T235900", -97) == day("20230618T030000", -97) == "2023-06-17"  # midnight in Greenwich


def test_terrain_kinds_are_separated(data: HailSamples) -> None:
    kinds = data.terrain
    assert set(kinds) == {"plain", "complex"}
    for kind in ("plain", "complex"):
        part = data.filter_terrain(kind)  # type: ignore[arg-type]
        assert part.terrain == [kind] * len(part)
        spans = [np.ptp(np.nanquantile(part.read(i).dem[0], [0.05, 0.95])) for i in range(len(part))]
        assert all((span >= 400) == (kind == "complex") for span in spans)


def test_samples_are_cropped_and_the_oracle_is_available(data: HailSamples) -> None:
    small = data.with_size((16, 16))
    whole, part = data[1], small[1]
    torch.testing.assert_close(part["inputs"]["radar"], whole["inputs"]["radar"][..., 8:24, 4:20])
    assert part["target"].shape == (1, 16, 16)
    assert small.oracle(1).shape == (16, 16)
    with pytest.raises(DatasetError, match="fewer than size 64 x 64; choose a smaller size"):
        data.with_size((64, 64))[0]


def test_the_plot_shows_missing_sources_and_the_prediction(data: HailSamples) -> None:
    pytest.importorskip("matplotlib")
    from geovision.heads.prediction import MaskPrediction

    sample = data[0]
    sample["valid"]["fy4b"][:] = False
    probability = np.random.default_rng(0).random((32, 24)).astype(np.float32)
    figure = data.plot(
        sample, MaskPrediction("x", name="hail", probability=probability, threshold=0.5, grid=None)
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert "probability of hail" in titles
    assert "10.8 µm, K: missing" in titles
    assert "probability of hail" not in [axes.get_title() for axes in data.plot(data[0]).axes]
    figure.canvas.draw()


def test_predict_reads_each_input_of_a_file(folder: Path, data: HailSamples) -> None:
    spec = InputSpec(
        "radar",
        tuple(Channel(name, "dBZ", (-33, 80)) for name in CHANNELS["radar"]),
        layout="time channel y x",
    )
    files = hail_samples.expand(folder)
    assert files == data.paths == hail_samples.expand(str(folder / "hail_*.nc"))
    found = hail_samples.read_input(files[2], spec)
    torch.testing.assert_close(torch.from_numpy(found.data), data[2]["inputs"]["radar"])
    np.testing.assert_array_equal(~np.ma.getmaskarray(found), data[2]["valid"]["radar"].numpy())
    assert hail_samples.read_input(files[2], spec, (16, 16)).shape == (4, 21, 16, 16)
    with pytest.raises(InputError, match="no source 'snow'"):
        hail_samples.read_input(files[2], dataclasses.replace(spec, name="snow"))
    with pytest.raises(InputError, match="32 x 24 points; the model expects 64 x 64"):
        hail_samples.read_input(files[2], spec, (64, 64))
    with pytest.raises(UnreadableFileError, match="no hail samples"):
        hail_samples.expand(folder / "nothing")


# --- bad samples --------------------------------------------------------------------------------


def test_a_gap_in_the_sequence_is_refused_and_a_missing_window_is_not(
    tmp_path: Path, sample: HailSample
) -> None:
    gap = dataclasses.replace(sample, time=sample.time[[0, 1, 2]] + np.array([0, 0, 360], "timedelta64[s]"))
    with pytest.raises(InputError, match=r"expected even steps, ascending\. Fill missing windows with NaN"):
        hail_samples.write_sample(gap, tmp_path)
    with pytest.raises(InputError, match="expected even steps"):
        hail_samples.write_sample(dataclasses.replace(sample, time=sample.time[::-1]), tmp_path)
    radar = sample.sources["radar"].values.copy()
    radar[1] = np.nan
    lost = TimedSource(radar, np.array([0, np.nan, 0]))
    path = hail_samples.write_sample(
        dataclasses.replace(sample, sources={**sample.sources, "radar": lost}), tmp_path
    )
    valid = HailSamples(tmp_path)[0]["valid"]["radar"]
    assert not valid[1].any()
    assert valid[0].any()
    assert np.isnan(hail_samples.read_sample(path).sources["radar"].age[1])


def test_a_gap_in_a_file_is_refused_too(tmp_path: Path, sample: HailSample) -> None:
    h5py = pytest.importorskip("h5py")
    path = hail_samples.write_sample(sample, tmp_path)
    with h5py.File(path, "r+") as file:
        file["time"][-1] += 3600
    with pytest.raises(InputError, match=r"hail_.*nc: 3 windows .* minutes apart; expected even steps"):
        HailSamples(tmp_path)[0]


def test_a_sample_that_was_read_can_be_written(tmp_path: Path, sample: HailSample) -> None:
    path = hail_samples.write_sample(sample, tmp_path)
    first = path.read_bytes()
    again = hail_samples.write_sample(hail_samples.read_sample(path), tmp_path / "again")
    found = hail_samples.read_sample(again)
    np.testing.assert_array_equal(found.sources["radar"].values, sample.sources["radar"].values)
    assert path.read_bytes() == first


def test_a_completely_missing_source_is_marked(tmp_path: Path, sample: HailSample) -> None:
    nothing = TimedSource(np.full_like(sample.sources["fy4b"].values, np.nan), np.full(3, np.nan))
    hail_samples.write_sample(
        dataclasses.replace(sample, sources={**sample.sources, "fy4b": nothing}), tmp_path
    )
    taken = HailSamples(tmp_path)[0]
    assert not taken["valid"]["fy4b"].any()
    assert (taken["inputs"]["fy4b"] == 0).all()
    assert taken["valid"]["era5"].all()
    with pytest.raises(InputError, match="with NaN where one is missing"):
        hail_samples.write_sample(dataclasses.replace(sample, sources={"radar": nothing}), tmp_path)


def test_wrong_shapes_channels_and_files_are_refused(
    tmp_path: Path, sample: HailSample, folder: Path
) -> None:
    with pytest.raises(InputError, match=r"label of shape \(16, 19\); expected \(16, 20\)"):
        hail_samples.write_sample(dataclasses.replace(sample, label=sample.label[:, :-1]), tmp_path)
    xarray = pytest.importorskip("xarray")
    path = hail_samples.write_sample(sample, tmp_path)
    with xarray.open_dataset(path, engine="h5netcdf") as held:
        fewer = held.load()
    fewer["radar"].attrs["channels"] = " ".join(list(CHANNELS["radar"])[:20])
    fewer.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError, match="radar has 20 channels"):
        hail_samples.read_sample(path)
    fewer.drop_vars("era5").to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError, match="no variable 'era5'; expected a sample"):
        HailSamples(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableFileError, match="cannot be read as a hail sample"):
        hail_samples.read_sample(path)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        hail_samples.read_sample(tmp_path / "hail_none.nc")


def test_folders_without_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        HailSamples(tmp_path / "none")
    (tmp_path / "labels.nc").write_text("")
    with pytest.raises(DatasetError, match="contains labels\\.nc; expected hail_"):
        HailSamples(tmp_path)
    (tmp_path / "hail_storm.nc").write_text("")
    with pytest.raises(DatasetError, match="not named like hail_20230617T083000"):
        HailSamples(tmp_path)
    with pytest.raises(OptionError, match="split 'val' is not known"):
        HailSamples(tmp_path, split="val")
    with pytest.raises(OptionError, match="group_by='month' is not known"):
        HailSamples(tmp_path, group_by="month")  # type: ignore[arg-type]
