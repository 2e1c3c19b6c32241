"""Common behavior of photo data sets: samples, labels, subsets, sizes, measurements, plots."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import geovision
from geovision.datasets.base import Sample, collate
from geovision.datasets.ccsn import CCSN
from geovision.datasets.image_classification import SCALARS, ImageDataset
from geovision.datasets.image_folder import ImageFolderDataset
from geovision.errors import DatasetError, DownloadError, OptionError
from geovision.heads.prediction import ClassPrediction
from geovision.models.layers import scalar_fusion as model_scalars


@pytest.fixture(scope="module")
def data(skies: Path) -> ImageDataset:
    return CCSN(skies, size=(40, 56))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Three good photos, one cut short, one empty."""
    for name, color in {"a/1.png": "red", "a/2.png": "blue", "b/1.png": "white"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), color).save(tmp_path / name)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b" / "short.jpg")
    whole = (tmp_path / "b" / "short.jpg").read_bytes()
    (tmp_path / "b" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b" / "empty.jpg").touch()
    return tmp_path


def test_a_sample_is_in_the_units_of_the_model(data: ImageDataset):
    sample = data[5]
    image = sample["inputs"]["image"]
    assert image.shape == (3, 40, 56)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert sample["target"].dtype == torch.int64
    assert sample["target"] == data.labels[5]
    assert sample["source"] == str(data.paths[5])
    assert sample["group"] == data.groups[5]
    assert sample["valid"] == {}


def test_pixels_are_those_of_the_file(skies: Path):
    native = CCSN(skies, size=(96, 96))
    with Image.open(native.paths[0]) as picture:
        expected = np.asarray(picture).transpose(2, 0, 1)
    np.testing.assert_array_equal(native.pixels(0), expected)
    np.testing.assert_array_equal(native[0]["inputs"]["image"], expected.astype(np.float32) / 255)


def test_the_task_sets_the_default_size(skies: Path):
    assert CCSN(skies)[0]["inputs"]["image"].shape == (3, 224, 224)
    assert CCSN(skies).with_size((24, 32))[0]["inputs"]["image"].shape == (3, 24, 32)


def test_the_label_is_the_folder(data: ImageDataset):
    assert [data.target.classes[label] for label in data.labels] == [path.parent.name for path in data.paths]
    assert data.labels.dtype == np.int64
    assert data.names[0] == "Ac/Ac-N001.jpg"


def test_a_subset_keeps_all_attributes_of_each_photo(data: ImageDataset):
    chosen = [30, 2, 2, 17]
    part = data.subset(chosen)
    assert len(part) == 4
    assert part.paths == [data.paths[index] for index in chosen]
    assert part.groups == [data.groups[index] for index in chosen]
    assert part.labels.tolist() == data.labels[chosen].tolist()
    assert part.subset([3]).paths == [data.paths[17]]
    assert torch.equal(part[1]["inputs"]["image"], data[2]["inputs"]["image"])


def test_groups_are_found_once_for_all_subsets(skies: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    found = ImageFolderDataset.find_groups
    monkeypatch.setattr(ImageFolderDataset, "find_groups", lambda self: calls.append(1) or found(self))
    data = ImageFolderDataset(skies)
    half = data.subset(range(0, len(data), 2))
    assert half.with_size((32, 32)).near_duplicate_groups == data.near_duplicate_groups[::2]
    assert len(calls) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_pass_through_a_loader_unchanged(data: ImageDataset, workers: int):
    part = data.subset(range(6))
    (batch,) = DataLoader(part, batch_size=6, collate_fn=collate, num_workers=workers)
    assert batch["inputs"]["image"].shape == (6, 3, 40, 56)
    assert batch["target"].tolist() == part.labels.tolist()
    assert batch["group"] == part.groups


def test_it_pickles(data: ImageDataset):
    again = pickle.loads(pickle.dumps(data))
    assert again.groups == data.groups
    assert torch.equal(again[3]["inputs"]["image"], data[3]["inputs"]["image"])


def test_soft_targets_divide_an_image_between_its_labels(data: ImageDataset):
    soft = data.soft_targets()
    assert soft.dtype == np.float32
    assert soft.shape == (len(data), 11)
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-6)
    groups = np.array(data.near_duplicate_groups)
    for index, group in enumerate(groups):
        labels = data.labels[groups == group]
        for label in range(11):
            assert soft[index, label] == pytest.approx((labels == label).mean())
    assert (soft.max(axis=1) < 1).sum() >= 4


def test_soft_targets_of_a_subset_use_only_its_labels(data: ImageDataset):
    soft = data.soft_targets()
    index = int(np.flatnonzero(soft.max(axis=1) < 1)[0])
    alone = data.subset([index]).soft_targets()
    assert alone[0, data.labels[index]] == 1


def test_an_unreadable_photo_is_named_when_it_is_read(damaged: Path):
    data = ImageFolderDataset(damaged)
    index = data.names.index("b/short.jpg")
    with pytest.raises(DatasetError, match=r"short\.jpg: .*All such files: geovision audit folder"):
        data.pixels(index)


def test_finding_groups_names_every_unreadable_photo(damaged: Path):
    with pytest.raises(DatasetError, match=r"2 of 5 files cannot be read: .*empty\.jpg.*short\.jpg"):
        _ = ImageFolderDataset(damaged).groups


def test_classes_of_a_model_are_matched_by_code_or_name(tmp_path: Path):
    for name in ("cumulus", "CI", "St"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16)).save(tmp_path / name / "1.png")
    data = ImageFolderDataset(tmp_path).with_classes(("St", "Cu", "Ac", "Ci"))
    assert {path.parent.name: label for path, label in zip(data.paths, data.labels, strict=True)} == {
        "cumulus": 1,
        "CI": 3,
        "St": 0,
    }
    assert data.target.levels == ("low", "low", "middle", "high")
    assert data[0]["target"] == data.labels[0]


def test_a_class_that_the_model_lacks_is_named_with_those_it_has(data: ImageDataset):
    with pytest.raises(DatasetError, match=r"unknown class 'Ct'; known: Ac, As"):
        data.with_classes([code for code in data.target.classes if code != "Ct"])
    # Only existing labels count: a subset without contrails fits the ten genera.
    genera = [code for code in data.target.classes if code != "Ct"]
    part = data.subset(np.flatnonzero(data.labels != data.target.classes.index("Ct")))
    assert part.with_classes(genera).target.classes == tuple(genera)


def test_measurements_come_with_a_mask(tmp_path: Path):
    _table(tmp_path, ["path,label,air_temperature,cloud_base_height", "1.png,a,11.5,", "2.png,b,,0.8"])
    data = ImageFolderDataset(tmp_path)
    assert [channel.name for channel in data.scalars] == ["cloud_base_height", "air_temperature"]
    first, second = data[0], data[1]
    assert first["inputs"][SCALARS].tolist() == [0.0, 11.5]
    assert first["valid"][SCALARS].tolist() == [False, True]
    assert second["inputs"][SCALARS].tolist() == [pytest.approx(0.8), 0.0]
    assert second["valid"][SCALARS].tolist() == [True, False]


def test_measurements_follow_the_order_of_the_model(tmp_path: Path):
    _table(tmp_path, ["path,label,air_temperature", "1.png,a,11.5", "2.png,b,"])
    data = ImageFolderDataset(tmp_path).with_scalars(["cloud_thickness", "air_temperature"])
    assert data[0]["inputs"][SCALARS].tolist() == [0.0, 11.5]
    assert data[0]["valid"][SCALARS].tolist() == [False, True]
    assert data.with_scalars([])[0]["inputs"].keys() == {"image"}
    with pytest.raises(OptionError, match=r"no measurement 'humidity'; known: cloud_base_height"):
        data.with_scalars(["humidity"])


def test_models_and_data_name_the_measurements_alike():
    assert SCALARS == model_scalars.SCALAR_INPUT_NAME


def test_plots_show_the_label_and_the_prediction(data: ImageDataset):
    sample = data[0]
    (axes,) = data.plot(sample).axes
    assert axes.get_title().startswith("Ac\nAc-N001")
    prediction = ClassPrediction(
        "x", ("outlier",), label="Cc", confidence=0.6, probabilities={"Cc": 0.6, "Ac": 0.3, "Ci": 0.1}
    )
    _, right = data.plot(sample, prediction).axes
    assert [text.get_text() for text in right.get_yticklabels()] == ["Cc", "Ac", "Ci"]
    assert right.get_title() == "predicted Cc\noutlier"


def test_the_sample_plot_shows_each_class(data: ImageDataset):
    (axes,) = data.plot_samples(per_class=2).axes
    titles = [text.get_text() for text in axes.texts]
    assert titles == [code for code in data.target.classes for _ in range(2)]


def test_an_unknown_split_names_the_known_ones(skies: Path):
    with pytest.raises(OptionError, match=r"ccsn has no split 'tset'; its splits: train, test"):
        CCSN(skies, split="tset")


def _table(folder: Path, lines: Sequence[str]) -> None:
    for name in ("1.png", "2.png"):
        Image.new("RGB", (16, 16)).save(folder / name)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


# --- transforms ---------------------------------------------------------------------------------


def brighter(sample: Sample) -> Sample:
    return Sample(**{**sample, "inputs": {"image": sample["inputs"]["image"] * 0.5 + 0.5}})


def test_transforms_are_applied_last_and_kept_by_subsets_and_copies(skies: Path):
    plain = CCSN(skies, size=(32, 32))
    changed = CCSN(skies, size=(32, 32), transforms=brighter)
    expected = plain[3]["inputs"]["image"] * 0.5 + 0.5
    assert torch.equal(changed[3]["inputs"]["image"], expected)
    assert torch.equal(changed.subset([3])[0]["inputs"]["image"], expected)
    assert torch.equal(pickle.loads(pickle.dumps(changed))[3]["inputs"]["image"], expected)
    assert changed.with_size((16, 16))[3]["inputs"]["image"].min() >= 0.5
    assert changed[3]["target"] == plain[3]["target"]


def test_load_dataset_passes_transforms_on(skies: Path):
    data = geovision.load_dataset("ccsn", skies, size=(32, 32), transforms=brighter)
    assert data[0]["inputs"]["image"].min() >= 0.5


def test_a_dataset_without_a_download_is_refused_with_its_source(tmp_path: Path):
    with pytest.raises(DownloadError, match=r"swimcat: cannot be downloaded .* Get it from "):
        geovision.load_dataset("swimcat", tmp_path / "data", download=True)
