"""CCSN adapter: layout, splits and properties of the real photos."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geovision
from geovision.datasets.ccsn import CCSN, CLASS_COUNTS, fold_file
from geovision.errors import DatasetError


@pytest.fixture(scope="module")
def ccsn(shared_data: Path) -> CCSN:
    return CCSN(shared_data / "ccsn")


def test_the_published_counts():
    assert sum(CLASS_COUNTS.values()) == 2543
    assert tuple(CLASS_COUNTS) == geovision.registry.find_task("cloud").target.classes


def test_any_file_name_is_read_and_hidden_files_are_skipped(tmp_path: Path):
    for name in ("Ac/0-N002.jpg", "St/St-N001.JPG", "St/._St-N001.jpg", "St/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16)).save(tmp_path / name, "JPEG")
    assert CCSN(tmp_path).names == ["Ac/0-N002.jpg", "St/St-N001.JPG"]


def test_a_subset_is_read_and_missing_files_are_logged(skies: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "geovision"):
        assert len(CCSN(skies)) == 86
    assert "Ns 6 of 274" in caplog.text


def _a_file(root: Path) -> None:
    root.write_text("")


def _deeper(root: Path) -> None:
    (root / "CCSN_v2" / "Ac").mkdir(parents=True)


def _loose(root: Path) -> None:
    root.mkdir()
    Image.new("RGB", (8, 8)).save(root / "0-N001.jpg")


def _strange(root: Path) -> None:
    (root / "cats").mkdir(parents=True)


def _hollow(root: Path) -> None:
    (root / "Ac").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder; ccsn expects one folder for each genus, Ac As"),
        (_a_file, "no such folder"),
        (lambda root: root.mkdir(), "the folder is empty; expected one folder for each genus"),
        (_deeper, r"the class folders are in .*CCSN_v2, pass that folder"),
        (_loose, "photos without class folders"),
        (_strange, "no class folder among cats"),
        (_hollow, "contains no image"),
    ],
    ids=["missing", "file", "empty", "deeper", "loose", "strange", "hollow"],
)
def test_another_layout_is_reported_in_one_line(tmp_path: Path, make, message: str):
    make(tmp_path / "data")
    with pytest.raises(DatasetError, match=message) as error:
        CCSN(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_the_public_function_loads_generated_photos(skies: Path):
    train = geovision.load_dataset("ccsn", skies, split="train", size=(32, 32))
    test = geovision.load_dataset("ccsn", skies, split="test", size=(32, 32))
    assert len(train) + len(test) == 86
    assert len(test) >= 12
    assert not set(train.groups) & set(test.groups)
    assert train[0]["inputs"]["image"].shape == (3, 32, 32)


def test_the_adapter_reads_generated_files(tmp_path: Path):
    data = CCSN(CCSN.synthetic(tmp_path, 22, seed=3), size=(32, 32))
    assert np.bincount(data.labels).tolist() == [2] * 11


def test_splits_without_known_photos_are_the_computed_ones(skies: Path):
    data = CCSN(skies)
    assert not data.fold_assignment.matched.any()
    held_back = data.subset(data.folds(seed=0)[0][1])
    assert CCSN(skies, split="test").names == held_back.names


def test_the_naive_split_leaks(skies: Path):
    data = CCSN(skies)
    units = np.array(data.groups)
    leaks = [set(units[train]) & set(units[test]) for train, test in data.folds(k=5, grouped=False)]
    assert any(leaks)


def test_the_shipped_fold_file_is_valid():
    file = fold_file()
    assert (file.name, file.k, file.seeds) == ("ccsn", 5, (0, 1, 2))
    assert len(set(file.paths)) == len(file.paths)
    assert {path.split("/")[0] for path in file.paths} == set(CLASS_COUNTS)
    assert set(file.groups) <= set(file.paths)
    for column in file.folds.T:
        fold_of: dict[str, int] = {}
        for group, fold in zip(file.groups, column, strict=True):
            assert fold_of.setdefault(group, fold) == fold
        assert np.bincount(column, minlength=5).min() > 0.19 * len(column)


@pytest.mark.real_data
def test_every_real_photo_is_known(ccsn: CCSN, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("geovision.datasets.splits.fingerprints", None)
    assert ccsn.fold_assignment.matched.all()
    assert ccsn.near_duplicate_groups == list(fold_file().groups)
    assert ccsn.names == list(fold_file().paths)


@pytest.mark.real_data
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_no_group_of_real_photos_is_in_two_splits(ccsn: CCSN, seed: int):
    units = np.array(ccsn.groups)
    seen = []
    for train, test in ccsn.folds(seed=seed):
        assert not set(units[train]) & set(units[test])
        assert np.bincount(ccsn.labels[test], minlength=11).min() >= 15
        seen += test.tolist()
    assert sorted(seen) == list(range(len(ccsn)))


@pytest.mark.real_data
def test_train_and_test_are_fold_0_of_seed_0(ccsn: CCSN):
    train, test = ccsn.folds(seed=0)[0]
    assert CCSN(ccsn.root, split="test").names == ccsn.subset(test).names
    assert CCSN(ccsn.root, split="train").names == ccsn.subset(train).names


@pytest.mark.real_data
def test_real_photos_at_another_size_keep_their_groups(ccsn: CCSN, tmp_path: Path):
    """The data set is also distributed at 400x400, under other names."""
    chosen = ccsn.subset(range(0, len(ccsn), 40))
    for path in chosen.paths:
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        with Image.open(path) as picture:
            larger = picture.resize((400, 400))
        larger.save(tmp_path / path.parent.name / f"0-{path.stem[3:]}.jpg", quality=85)
    copies = CCSN(tmp_path)
    assert copies.groups == chosen.groups
    assert copies.fold_assignment.matched.all()


@pytest.mark.real_data
def test_a_new_photo_among_the_real_ones_forms_a_group(ccsn: CCSN, tmp_path: Path, skies: Path):
    (tmp_path / "Ac").mkdir()
    for path in ccsn.paths[:3]:
        shutil.copy(path, tmp_path / "Ac")
    shutil.copy(skies / "Sc" / "Sc-N001.jpg", tmp_path / "Ac" / "new.jpg")
    mixed = CCSN(tmp_path)
    assert mixed.fold_assignment.matched.tolist() == [True, True, True, False]
    assert mixed.near_duplicate_groups == [*ccsn.near_duplicate_groups[:3], "Ac/new.jpg"]
