"""Adapter of polar lows: layout, times, passes, polarizations, pixel sizes, plots."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import geovision
from geovision import registry
from geovision.datasets.polar_lows import CLASS_COUNTS, PolarLows, group_passes, parse_times
from geovision.datasets.synthetic import sar_sea
from geovision.errors import DatasetError, InputError, OptionError, UnreadableFileError
from geovision.readers.sar_png import average_counts, read_counts
from geovision.spec import InputSpec

SPEC = registry.find_task("polarlow").inputs[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 generated images of four passes, in pixels of 4 km; tests must not write to them."""
    return sar_sea.write(tmp_path_factory.mktemp("polar lows"), 24, seed=1, pixel_size=4000.0)


def coarse(root: Path, **options) -> PolarLows:
    return PolarLows(root, **({"pixel_size": 4000.0} | options))


def save(path: Path, counts: np.ndarray, **options) -> Path:
    """Save ``(2, y, x)`` counts as published, with channels cross, cross, co."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(counts[[0, 0, 1]].transpose(1, 2, 0))).save(path, **options)
    return path


def picture(side: int = 24, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (2, side, side)).astype(np.uint8)


NAME = "cffe42_20191012T084028_20191012T084212_mos_rgb.png"

# --- layout and times ---------------------------------------------------------------------------


def test_classes_and_splits_are_folders(root: Path) -> None:
    data = coarse(root)
    assert data.target.classes == ("neg", "pos")
    assert data.target.positive == "pos"
    assert np.bincount(data.labels).tolist() == [16, 8]
    for path, label in zip(data.paths, data.labels, strict=True):
        assert path.parent.name == data.target.classes[label]
    train, test = (coarse(root, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (18, 6)
    assert {path.parent.parent.name for path in test.paths} == {"test"}
    assert not set(train.groups) & set(test.groups)
    assert sum(CLASS_COUNTS["train"].values()) == 1547
    assert sum(CLASS_COUNTS["test"].values()) == 435


def test_a_name_contains_begin_and_end() -> None:
    begin, end = parse_times(f"/somewhere/{NAME}")
    assert begin == datetime.datetime(2019, 10, 12, 8, 40, 28)
    assert end - begin == datetime.timedelta(seconds=104)


@pytest.mark.parametrize("name", ["low.png", NAME.replace("20191012", "20191312"), NAME.replace("_mos", "")])
def test_a_name_without_a_time_is_reported(tmp_path: Path, name: str) -> None:
    save(tmp_path / "train" / "pos" / name, picture())
    with pytest.raises(DatasetError, match=r"the name contains no times; expected train and test"):
        PolarLows(tmp_path)


def test_images_within_minutes_belong_to_one_pass() -> None:
    noon = datetime.datetime(2020, 1, 31, 23, 50)
    minutes = (0, 12, 25, 98.6, 49.3 + 25, 24 * 60)
    found = group_passes([noon + datetime.timedelta(minutes=m) for m in minutes])
    # Consecutive images are one pass, even across midnight; the twin satellite and the next orbit are others.
    assert found[0] == found[1] == found[2] == "2020-01-31T23:50"
    assert len(set(found)) == 4


def test_a_split_keeps_passes_or_whole_days_together(root: Path) -> None:
    data = coarse(root)
    assert len(set(data.groups)) == 4
    held, kept = data.group_split(0.5, seed=0)
    assert not set(held.groups) & set(kept.groups)
    assert coarse(root, group_by="date").groups == [f"{begin:%Y-%m-%d}" for begin, _ in data.times()]
    with pytest.raises(OptionError, match="group_by='storm' is not known; choose pass or date"):
        coarse(root, group_by="storm")


@pytest.mark.parametrize(
    ("made", "given", "message"),
    [
        ("data/train/pos", ".", "the splits are in .*data, pass that folder"),
        ("data/train/pos", "data/train", "the splits are in .*data, pass that folder"),
        ("data/other", "data", "no images in train or test among other"),
        ("data", "data", "the folder is empty"),
    ],
)
def test_another_layout_reports_the_existing_folders(
    tmp_path: Path, made: str, given: str, message: str
) -> None:
    folder = tmp_path / made
    if made.endswith("pos"):
        save(folder / NAME, picture())
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.raises(DatasetError, match=message):
        PolarLows(tmp_path / given)


def test_a_missing_split_is_reported(tmp_path: Path) -> None:
    save(tmp_path / "train" / "pos" / NAME, picture())
    assert len(PolarLows(tmp_path)) == 1
    with pytest.raises(DatasetError, match="the test split is missing"):
        PolarLows(tmp_path, split="test")


# --- samples ------------------------------------------------------------------------------------


def test_a_sample_is_the_center_in_cross_and_co_polarization_with_a_valid_mask(tmp_path: Path) -> None:
    counts = picture(24)
    counts[:, :, :9] = 0  # outside the swath
    counts[0, 12, 12] = 0  # dark in one channel is not missing
    save(tmp_path / "train" / "pos" / NAME, counts)
    sample = PolarLows(tmp_path, size=(16, 12))[0]
    middle = torch.from_numpy(counts[:, 4:20, 6:18].astype(np.float32) / 255)
    assert torch.equal(sample["inputs"]["image"], middle)
    assert torch.equal(sample["valid"]["image"], torch.arange(6, 18).ge(9).expand(2, 16, 12))
    assert int(sample["target"]) == 1
    assert sample["group"] == "2019-10-12T08:40"


def test_cells_beyond_a_small_image_are_missing(tmp_path: Path) -> None:
    save(tmp_path / "train" / "pos" / NAME, picture(10))
    sample = PolarLows(tmp_path, size=(16, 16))[0]
    assert sample["valid"]["image"].sum().item() == 2 * 10 * 10
    assert sample["valid"]["image"][:, 3:13, 3:13].all()
    assert not sample["inputs"]["image"][~sample["valid"]["image"]].any()


def test_missing_values_enter_the_network_as_the_published_zero(root: Path) -> None:
    """The input of a model does not depend on the mask, so predictions of a file and a sample are equal."""
    torch.manual_seed(0)
    data = coarse(root)
    model = geovision.create("polarlow-tiny", pixel_size=4000.0)
    sample = data[0]
    assert not sample["valid"]["image"].all()
    inputs, valid = (
        {name: each[None] for name, each in sample[part].items()} for part in ("inputs", "valid")
    )
    with torch.no_grad():
        assert torch.equal(model(inputs).values, model(inputs, valid=valid).values)
        expected = model.head.probabilities(model(inputs).values)[0, 1]
    prediction = model.predict(data.paths[0], precision="float32")[0]
    assert prediction.probabilities["pos"] == pytest.approx(float(expected), abs=1e-5)


# --- polarizations and pixel sizes --------------------------------------------------------------


def test_the_reader_refuses_other_images(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    Image.fromarray(colors).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match=r"photo\.png: red and green differ"):
        read_counts(tmp_path / "photo.png", SPEC)
    Image.fromarray(colors[..., 0]).save(tmp_path / "grey.png")
    with pytest.raises(InputError, match="one polarization is missing"):
        read_counts(tmp_path / "grey.png", SPEC)
    (tmp_path / "cut.png").write_bytes((tmp_path / "grey.png").read_bytes()[:60])
    with pytest.raises(UnreadableFileError):
        read_counts(tmp_path / "cut.png", SPEC)


def test_coarser_pixels_are_means_of_valid_pixels() -> None:
    counts = np.zeros((2, 4, 4), np.uint8)
    counts[:, :2, :2] = [[[10, 20], [30, 41]], [[200, 200], [201, 200]]]
    counts[:, 0, 2], counts[:, 1, 3] = (7, 9), (9, 11)  # half of a block
    counts[:, 3, 3] = 255  # a quarter
    coarser = average_counts(counts, 2)
    assert coarser[0].tolist() == [[25, 8], [0, 0]]
    assert coarser[1].tolist() == [[200, 10], [0, 0]]


def test_the_mean_does_not_depend_on_the_number_of_steps() -> None:
    counts = picture(32, seed=5)
    at_once = average_counts(counts, 4).astype(int)
    in_two = average_counts(average_counts(counts, 2), 2).astype(int)
    assert np.abs(at_once - in_two).max() <= 1
    expected = counts.reshape(2, 8, 4, 8, 4).mean((2, 4))
    assert np.abs(at_once - expected).max() <= 0.5


def test_pixel_size_is_one_option_of_data_and_model(tmp_path: Path) -> None:
    save(tmp_path / "train" / "pos" / NAME, picture(80))
    data = geovision.load_dataset("polar-lows", tmp_path, pixel_size=1000.0)
    assert data[0]["inputs"]["image"].shape == (2, 256, 256)
    model = geovision.create("polarlow-tiny", pixel_size=1000.0)
    assert model.inputs[0].size == (256, 256)
    taken = PolarLows(tmp_path).with_input(model.inputs[0])
    assert torch.equal(taken[0]["inputs"]["image"], data[0]["inputs"]["image"])
    with pytest.raises(OptionError, match="has no pixel size on the ground"):
        geovision.load_dataset("ccsn", tmp_path, pixel_size=1000.0)
    with pytest.raises(OptionError, match="expected meters"):
        PolarLows(tmp_path, pixel_size=-5.0)


def test_finer_pixels_than_the_files_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "train" / "pos" / NAME, picture())
    with pytest.raises(DatasetError, match="pixels of 500 m cannot be averaged to 250 m"):
        PolarLows(tmp_path, pixel_size=250.0)[0]
    with pytest.raises(DatasetError, match="cannot be averaged to 750 m"):
        PolarLows(tmp_path, pixel_size=750.0)[0]


def test_the_pixel_size_of_a_file_is_used(root: Path, tmp_path: Path) -> None:
    with Image.open(next(root.rglob("*.png"))) as file:
        assert file.size == (100, 100)
        assert file.info["pixel_size"] == "4000"
    spec = InputSpec("image", SPEC.channels, pixel_size=8000.0)
    assert read_counts(next(root.rglob("*.png")), spec).shape == (2, 50, 50)
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("pixel_size", "wide")
    path = save(tmp_path / "odd.png", picture(), pnginfo=about)
    with pytest.raises(InputError, match="'wide'; expected a length in meters"):
        read_counts(path, SPEC)


def test_a_model_is_scored_and_trained_at_its_own_pixel_size(root: Path, tmp_path: Path) -> None:
    """The data set is loaded at 4 km, the pixel size of the files; the input of the model is at 8 km."""
    from geovision.spec import Augment, Recipe, Stage

    torch.manual_seed(0)
    data = coarse(root)
    model = geovision.create("polarlow-tiny", pixel_size=8000.0)
    shapes = set()
    model.register_forward_pre_hook(lambda _, args: shapes.add(tuple(args[0]["image"].shape[1:])))
    recipe = Recipe(
        stages=(Stage(epochs=1, batch_size=8, sampling="balanced"),),
        monitor="train_loss",
        augment=Augment(crop_area=(0.4096, 0.4096), translate=0.1, zoom=0.15, rotate=144.0, fill="zero"),
    )
    geovision.train(model, data, validation=data, recipe=recipe, progress=False)
    report = geovision.evaluate(model, data, n_bootstrap=20)
    assert shapes == {(2, 32, 32)}
    assert report.headline == "positive_f1"
    counts = report.metrics
    assert counts["errors"].value == counts["missed"].value + counts["false_alarms"].value


# --- plots --------------------------------------------------------------------------------------


def test_plots_show_the_published_colors_and_the_prediction(root: Path, tmp_path: Path) -> None:
    data = coarse(root)
    sample = data[len(data) - 1]
    model = geovision.create("polarlow-tiny", pixel_size=4000.0)
    figure = data.plot(sample, model.predict(sample["inputs"]["image"])[0])
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (64, 64, 3)
    np.testing.assert_array_equal(shown[..., 0], shown[..., 1])
    np.testing.assert_allclose(shown[..., 2], sample["inputs"]["image"][1])
    words = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert sorted(words) == ["No polar low", "Polar low"]
    figure.savefig(tmp_path / "one.png")
    data.plot_samples(per_class=2).savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 5000


def test_synthetic_writes_the_published_layout(tmp_path: Path) -> None:
    data = PolarLows(PolarLows.synthetic(tmp_path, 2, seed=0))
    with Image.open(data.paths[0]) as file:
        assert file.size == (800, 800)
        assert "pixel_size" not in file.info
    assert data[0]["inputs"]["image"].shape == (2, 512, 512)
