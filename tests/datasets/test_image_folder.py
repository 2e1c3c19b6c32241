"""User photos: folders, tables and error messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

import geovision
from geovision import registry
from geovision.datasets.image_folder import ImageFolderDataset
from geovision.errors import DatasetError, OptionError, UnknownDatasetError


def _photos(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number * 20 % 256, 90, 200)).save(root / name)
    return root


def _table(root: Path, *lines: str, name: str = "labels.csv") -> Path:
    root.mkdir(exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def test_classes_are_the_folders_sorted(tmp_path: Path):
    data = ImageFolderDataset(
        _photos(tmp_path, "wet/2.png", "dry/day 1/1.png", "wet/10.png", "dry/.hidden.png")
    )
    assert data.target.classes == ("dry", "wet")
    assert data.names == ["dry/day 1/1.png", "wet/2.png", "wet/10.png"]
    assert data.labels.tolist() == [0, 1, 1]


def test_split_folders_are_splits(tmp_path: Path):
    _photos(tmp_path, "train/a/1.png", "train/b/2.png", "Validation/a/3.png", "test/b/4.png")
    assert len(ImageFolderDataset(tmp_path)) == 4
    assert ImageFolderDataset(tmp_path, split="train").names == ["train/a/1.png", "train/b/2.png"]
    assert ImageFolderDataset(tmp_path, split="val").names == ["Validation/a/3.png"]
    assert ImageFolderDataset(tmp_path, split="test").target.classes == ("a", "b")


def test_a_class_may_be_called_test(tmp_path: Path):
    assert ImageFolderDataset(_photos(tmp_path, "test/1.png", "control/2.png")).target.classes == (
        "control",
        "test",
    )


def test_without_splits_all_photos_are_for_training(tmp_path: Path):
    _photos(tmp_path, "a/1.png", "b/2.png")
    assert len(ImageFolderDataset(tmp_path, split="train")) == 2
    with pytest.raises(DatasetError, match="no 'test' split; available splits: none"):
        ImageFolderDataset(tmp_path, split="test")


def test_a_missing_split_names_the_existing_ones(tmp_path: Path):
    _photos(tmp_path, "train/a/1.png", "test/a/2.png")
    with pytest.raises(DatasetError, match="no 'val' split; available splits: test, train"):
        ImageFolderDataset(tmp_path, split="val")


def test_a_table_gives_labels_units_splits_and_measurements(tmp_path: Path):
    _photos(tmp_path, "x/1.png", "x/2.png", "x/3.png")
    lines = (
        "path,label,group,split,air_temperature,photographer",
        "x/1.png,fog,monday,train,-3.5,Kim",
        "x/2.png,clear,monday,train,,Kim",
        '"x/3.png",fog,tuesday,test,4,Lee',
    )
    data = ImageFolderDataset(_table(tmp_path, *lines))
    assert data.target.classes == ("clear", "fog")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.groups == ["monday", "monday", "tuesday"]
    assert data[2]["inputs"]["scalars"].tolist() == [4.0]
    assert data[1]["valid"]["scalars"].tolist() == [False]
    assert ImageFolderDataset(tmp_path, split="test").names == ["x/3.png"]


def test_a_table_may_be_in_another_folder_than_its_photos(tmp_path: Path):
    _photos(tmp_path / "photos", "1.png")
    table = _table(tmp_path / "tables", "path,label", "../photos/1.png,a", name="mine.csv")
    assert ImageFolderDataset(table).names == ["../photos/1.png"]
    absolute = _table(tmp_path, "path,label", f"{tmp_path / 'photos' / '1.png'},a")
    assert ImageFolderDataset(absolute).names == ["photos/1.png"]


def test_a_byte_order_mark_is_not_part_of_a_column(tmp_path: Path):
    _photos(tmp_path, "1.png")
    (tmp_path / "labels.csv").write_text("\ufeffpath,label\r\n1.png,a\r\n", encoding="utf-8")
    assert len(ImageFolderDataset(tmp_path)) == 1


def test_without_a_unit_near_duplicates_stay_together(skies: Path):
    data = ImageFolderDataset(skies)
    assert 66 <= len(set(data.groups)) < 86
    train, held_back = data.group_split(0.25, seed=1)
    assert not set(train.groups) & set(held_back.groups)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,genus", "1.png,a"], r"no column 'path' and 'label'; its columns: file, genus"),
        (["path,label,gruop", "1.png,a,x"], r"column 'gruop' is not known; did you mean 'group'"),
        (["path,label,air_temperatur", "1.png,a,1"], r"did you mean 'air_temperature'"),
        (["path,label", "1.png,"], r"labels\.csv, line 2: no label"),
        (["path,label", "1.png,a", ",a"], r"labels\.csv, line 3: no path"),
        (["path,label"], r"no line below the header"),
        ([], r"no column 'path' and 'label'"),
        (["path,label", "1.png,a", "7.png,a", "8.png,b"], r"2 of 3 files are missing: .*7\.png.*8\.png"),
        (["path,label,split", "1.png,a,trial"], r"line 2: split 'trial'; expected train, val or test"),
        (["path,label,air_temperature", "1.png,a,warm"], r"line 2, air_temperature: 'warm' is not a number"),
        (["path,label,air_temperature", "1.png,a,281"], r"281, expected -90 to 60 degC \(looks like kelvin"),
        (["path,label,cloud_base_height", "1.png,a,nan"], r"nan, expected 0 to 25 km"),
    ],
)
def test_an_invalid_table_is_reported_in_one_line(tmp_path: Path, lines: Sequence[str], message: str):
    _photos(tmp_path, "1.png")
    _table(tmp_path, *lines)
    with pytest.raises(DatasetError, match=message) as error:
        ImageFolderDataset(tmp_path)
    assert "\n" not in str(error.value)


def test_a_binary_table_is_refused(tmp_path: Path):
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(DatasetError, match=r"labels\.csv is not a CSV file in UTF-8"):
        ImageFolderDataset(tmp_path)


def test_invalid_folders_are_reported_in_one_line(tmp_path: Path):
    with pytest.raises(DatasetError, match="no such folder; folder expects one folder for each class"):
        ImageFolderDataset(tmp_path / "missing")
    with pytest.raises(DatasetError, match="contains no folder; expected one folder for each class"):
        ImageFolderDataset(tmp_path)
    _photos(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(DatasetError, match="b: a class folder without images"):
        ImageFolderDataset(tmp_path)


def test_one_name_loads_it_for_any_task_with_classes(tmp_path: Path):
    _photos(tmp_path, "a/1.png", "b/2.png")
    data = geovision.load_dataset("folder", tmp_path, size=(32, 32), task="cloud")
    assert data.task == "cloud"
    assert data[0]["inputs"]["image"].shape == (3, 32, 32)
    assert geovision.load_dataset("folder", tmp_path).task == "cloud"
    assert registry.list_datasets()[-1] == "folder"
    assert registry.list_datasets("cloud")[0] == "ccsn"


def test_a_data_set_of_another_task_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnknownDatasetError, match="Did you mean 'folder'"):
        geovision.load_dataset("foldr", tmp_path)
    with pytest.raises(geovision.errors.UnknownTaskError):
        geovision.load_dataset("folder", tmp_path, task="clowd")
    with pytest.raises(geovision.errors.UnknownTaskError):
        geovision.load_dataset("ccsn", tmp_path, task="clowd")


def test_invalid_options_are_refused(tmp_path: Path):
    _photos(tmp_path, "a/1.png")
    with pytest.raises(OptionError, match="folder has no split 'valid'; its splits: train, val, test"):
        ImageFolderDataset(tmp_path, split="valid")


@pytest.mark.real_data
def test_photos_of_another_folder_are_read_by_a_table(shared_data: Path, tmp_path: Path):
    folder = shared_data / "cloud_photos"
    lines = [f"{path},{path.name[:2]}" for path in sorted(folder.glob("*.jpg"))]
    data = ImageFolderDataset(_table(tmp_path, "path,label", *lines), size=(64, 64))
    genera = registry.find_task("cloud").target.classes
    relabeled = data.with_classes(genera)
    assert [genera[label] for label in relabeled.labels] == [path.name[:2] for path in data.paths]
    assert len(set(data.groups)) == 10
    assert data[3]["inputs"]["image"].shape == (3, 64, 64)
