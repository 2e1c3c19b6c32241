"""Folds that split no group, and the fold file that stores them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovision.datasets.ccsn import CCSN
from geovision.datasets.splits import FoldFile, folds_to_splits, grouped_folds, make_fold_file, random_folds
from geovision.errors import DatasetError, MissingExtraError


@pytest.fixture(scope="module")
def data(skies: Path) -> CCSN:
    return CCSN(skies)


@pytest.fixture(scope="module")
def file(data: CCSN) -> FoldFile:
    return make_fold_file(data, k=3, seeds=(0, 4))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5))
def test_no_group_is_in_two_folds(seed: int, k: int):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 3, 80), [f"g{number}" for number in rng.integers(0, 40, 80)]
    fold = grouped_folds(labels, groups, k=k, seed=1)
    assert set(fold) == set(range(k))
    for group in set(groups):
        assert len({int(fold[index]) for index in range(80) if groups[index] == group}) == 1


def test_classes_are_spread_evenly():
    labels = np.repeat([0, 1, 2], (60, 30, 15))
    groups = [str(index // 2) for index in range(len(labels))]
    for _, test in folds_to_splits(grouped_folds(labels, groups, k=5, seed=0), 5):
        assert abs(np.bincount(labels[test], minlength=3) - [12, 6, 3]).max() <= 2


def test_the_seed_alone_decides():
    labels, groups = np.arange(60) % 4, [str(index // 2) for index in range(60)]
    first = grouped_folds(labels, groups, seed=3)
    np.testing.assert_array_equal(first, grouped_folds(labels, groups, seed=3))
    assert (first != grouped_folds(labels, groups, seed=4)).any()


def test_random_folds_split_groups():
    labels, groups = np.arange(80) % 2, np.arange(80) // 4
    fold = random_folds(labels, k=5, seed=0)
    assert any(len(set(fold[groups == group])) > 1 for group in range(20))


def test_splits_cover_every_sample_once():
    splits = folds_to_splits(np.array([2, 0, 1, 0, 2]), 3)
    assert [test.tolist() for _, test in splits] == [[1, 3], [2], [0, 4]]
    for train, test in splits:
        assert sorted([*train, *test]) == [0, 1, 2, 3, 4]


def test_too_few_groups_for_the_folds_are_reported():
    with pytest.raises(DatasetError, match="2 groups are too few for 5 folds"):
        grouped_folds(np.array([0, 1, 0]), ["a", "b", "a"], k=5)
    with pytest.raises(DatasetError, match=r"1 classes with at most 9 photos cannot be split into 3 folds"):
        random_folds(np.zeros(9, dtype=int), k=3)


def test_a_small_class_is_missing_from_some_folds():
    fold = grouped_folds(np.array([0] * 10 + [1] * 2), list("abcdefghijkl"), k=5)
    assert set(fold) == set(range(5))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"geovision\[train\]"):
        grouped_folds(np.array([0, 1]), ["a", "b"], k=2)


def test_a_fold_file_reads_back_as_written(file: FoldFile, tmp_path: Path):
    again = FoldFile.read(file.write(tmp_path / "folds.csv"))
    assert again.to_csv() == file.to_csv()
    assert (again.k, again.seeds, again.name) == (3, (0, 4), "ccsn")
    np.testing.assert_array_equal(again.folds, file.folds)
    np.testing.assert_array_equal(again.hashes.phash, file.hashes.phash)
    np.testing.assert_array_equal(again.hashes.dhash, file.hashes.dhash)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("version=1", "version=9"),
            "of version 9; this version of geovision reads version 1",
        ),
        (lambda text: text.replace("dataset=ccsn", ""), "is not a geovision fold file"),
        (lambda text: text[:-30], "is not a geovision fold file"),
        (lambda text: "", "is not a geovision fold file"),
    ],
    ids=["version", "no name", "cut short", "empty"],
)
def test_a_damaged_fold_file_is_refused(file: FoldFile, tmp_path: Path, change, message: str):
    (tmp_path / "folds.csv").write_text(change(file.to_csv()))
    with pytest.raises(DatasetError, match=message):
        FoldFile.read(tmp_path / "folds.csv")


def test_known_photos_are_found_without_decoding(file: FoldFile, data: CCSN, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("geovision.datasets.splits.fingerprints", None)
    order = np.random.default_rng(0).permutation(len(data))
    shuffled = data.subset(order)
    found = file.assign(shuffled.paths, shuffled.names, data.input_spec)
    assert found.groups == [file.groups[index] for index in order]
    np.testing.assert_array_equal(found.folds, file.folds[order])
    assert found.matched.all()


def test_a_copy_at_another_size_joins_its_group(file: FoldFile, data: CCSN, tmp_path: Path):
    chosen = [0, 9, 40]
    paths = [tmp_path / f"{number}.jpg" for number in chosen]
    for number, path in zip(chosen, paths, strict=True):
        with Image.open(data.paths[number]) as picture:
            picture.resize((150, 150)).save(path, quality=90)
    found = file.assign(paths, [path.name for path in paths], data.input_spec)
    assert found.groups == [file.groups[number] for number in chosen]
    np.testing.assert_array_equal(found.folds, file.folds[chosen])


def _without(file: FoldFile, names: set[str]) -> FoldFile:
    """Fold file without these photos."""
    rows = [row for row, name in enumerate(file.paths) if name not in names]
    columns = {
        field: tuple(getattr(file, field)[row] for row in rows)
        for field in ("paths", "digests", "labels", "groups")
    }
    return dataclasses.replace(file, **columns, hashes=file.hashes.take(rows), folds=file.folds[rows])


def test_new_photos_join_known_near_duplicates_or_each_other(file: FoldFile, data: CCSN):
    groups = {g: [n for n, at in zip(file.paths, file.groups, strict=True) if at == g] for g in file.groups}
    twins = [names for names in groups.values() if len(names) > 1]
    joins, alone = (
        twins[0][0],
        set(twins[1]),
    )  # one photo with a known near-duplicate, and one completely unknown group
    found = _without(file, {joins, *alone}).assign(data.paths, data.names, data.input_spec)
    at = dict(zip(data.names, found.groups, strict=True))
    assert at[joins] == at[twins[0][1]]
    assert len({at[name] for name in alone}) == 1
    known = dict(zip(data.names, found.matched, strict=True))
    assert known[joins]
    assert not any(known[name] for name in alone)
    fold = dict(zip(data.names, found.folds.tolist(), strict=True))
    assert fold[joins] == fold[twins[0][1]]
    assert len({tuple(fold[name]) for name in alone}) == 1


def test_the_fold_of_a_new_photo_does_not_depend_on_other_photos(file: FoldFile, data: CCSN):
    lonely = [n for n, g in zip(file.paths, file.groups, strict=True) if file.groups.count(g) == 1][:12]
    poorer = _without(file, set(lonely))
    everything = poorer.assign(data.paths, data.names, data.input_spec)
    few = data.subset([data.names.index(name) for name in lonely[:3]])
    alone = poorer.assign(few.paths, few.names, data.input_spec)
    for name, fold in zip(few.names, alone.folds, strict=True):
        np.testing.assert_array_equal(fold, everything.folds[data.names.index(name)])
    assert len(np.unique(everything.folds[[data.names.index(name) for name in lonely], 0])) > 1


def test_a_different_photo_of_the_same_name_is_another_group(file: FoldFile, data: CCSN, tmp_path: Path):
    name = file.groups[0]
    path = tmp_path / "stranger.png"
    noise = np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    found = file.assign([data.paths[0], path], [name, name], data.input_spec)
    assert found.groups[0] == name
    assert found.groups[1] != name
    assert found.matched.tolist() == [True, False]


def test_an_unreadable_new_photo_is_named(file: FoldFile, data: CCSN, tmp_path: Path):
    (tmp_path / "bad.jpg").write_text("no picture")
    with pytest.raises(DatasetError, match=r"1 of 1 files cannot be read: .*bad\.jpg"):
        file.assign([tmp_path / "bad.jpg"], ["bad.jpg"], data.input_spec)
    with pytest.raises(DatasetError, match=r"gone\.jpg cannot be read"):
        file.assign([tmp_path / "gone.jpg"], ["gone.jpg"], data.input_spec)
