"""Perceptual hashes against independent implementations, and the groups that they form."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as scipy_components

from geovision.datasets.ccsn import CCSN
from geovision.datasets.duplicates import (
    Fingerprints,
    conflicting_groups,
    connected_components,
    exact_duplicates,
    fingerprint,
    fingerprints,
    group_members,
    hamming_distance,
    near_duplicate_groups,
    near_duplicate_pairs,
)
from geovision.datasets.synthetic import sky
from geovision.errors import DatasetError


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(sky.render("Sc", np.random.default_rng(3), (200, 260)))


def _hashes(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    return fingerprint(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_phash_is_the_sign_of_low_frequencies_about_their_median(picture: Image.Image):
    gray = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    low = dctn(gray, type=2)[:8, :8]
    np.testing.assert_array_equal(_hashes(picture)[0], (low > np.median(low)).ravel())


def test_dhash_is_brighter_to_the_right(picture: Image.Image):
    gray = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.LANCZOS)).tolist()
    expected = [row[x + 1] > row[x] for row in gray for x in range(8)]
    assert _hashes(picture)[1].tolist() == expected


def _recompressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(stream)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((400, 400)),
        _recompressed,
        lambda image: ImageEnhance.Brightness(image).enhance(0.85),
        lambda image: image.crop((2, 1, image.width - 1, image.height - 2)),
    ],
    ids=["resized", "recompressed", "darker", "trimmed"],
)
def test_a_copy_stays_within_the_limits(picture: Image.Image, change):
    before, after = _hashes(picture), _hashes(change(picture))
    assert (before[0] != after[0]).sum() <= 8
    assert (before[1] != after[1]).sum() <= 10


def test_different_skies_are_beyond_the_limits():
    prints = _prints(
        sky.render(genus, np.random.default_rng(n), (96, 96)) for genus in sky.GENERA for n in range(3)
    )
    assert list(near_duplicate_pairs(prints)) == []


def _prints(pictures: Iterable[np.ndarray]) -> Fingerprints:
    found = [fingerprint(picture.transpose(2, 0, 1)) for picture in pictures]
    return Fingerprints(np.array([p for p, _ in found]), np.array([d for _, d in found]), {})


def test_bits_apart_counts_bits():
    rng = np.random.default_rng(0)
    some, others = rng.random((5, 64)) < 0.5, rng.random((3, 64)) < 0.5
    expected = [[sum(a != b for a, b in zip(x, y, strict=True)) for y in others] for x in some]
    np.testing.assert_array_equal(hamming_distance(some, others), expected)


def test_both_hashes_must_agree():
    zeros = np.zeros((3, 64), bool)
    phash, dhash = zeros.copy(), zeros.copy()
    phash[1, :8], dhash[1, :10] = True, True  # distance from the first equals the limits
    phash[2, :9] = True  # distance from the first exceeds one limit; the second is one bit nearer
    assert list(near_duplicate_pairs(Fingerprints(phash, dhash, {}))) == [(0, 1), (1, 2)]
    assert list(near_duplicate_pairs(Fingerprints(phash, dhash, {}), phash_limit=7)) == [(1, 2)]
    assert list(near_duplicate_pairs(Fingerprints(phash, dhash, {}), phash_limit=7, dhash_limit=9)) == []


def test_pairs_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    bits = rng.random((50, 64)) < 0.5
    bits[[7, 21, 49]] = bits[3]
    prints = Fingerprints(bits, bits, {})
    whole = list(near_duplicate_pairs(prints))
    monkeypatch.setattr("geovision.datasets.duplicates._BLOCK", 8)
    assert sorted(near_duplicate_pairs(prints)) == sorted(whole)
    assert {(3, 7), (7, 21), (21, 49)} <= set(whole)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_components_are_those_of_the_graph(pairs: list[tuple[int, int]]):
    ours = connected_components(20, pairs)
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    _, theirs = scipy_components(coo_array((np.ones(len(pairs)), (rows, columns)), shape=(20, 20)))
    for part in range(theirs.max() + 1):
        inside = np.flatnonzero(theirs == part)
        assert (ours[inside] == inside.min()).all()


def test_groups_are_named_after_their_first_member_in_any_order():
    bits = np.random.default_rng(2).random((3, 64)) < 0.5
    bits = bits[[0, 1, 2, 1, 0]]
    names = ["e", "c", "a", "b", "d"]
    groups = near_duplicate_groups(Fingerprints(bits, bits, {}), names)
    assert groups == ["d", "b", "a", "b", "d"]
    order = [4, 2, 0, 3, 1]
    shuffled = near_duplicate_groups(Fingerprints(bits[order], bits[order], {}), [names[i] for i in order])
    assert shuffled == [groups[i] for i in order]


def test_members_and_conflicts():
    groups = ["a", "b", "a", "c", "b"]
    assert group_members(groups) == {"a": [0, 2], "b": [1, 4]}
    assert conflicting_groups(groups, np.array([0, 1, 2, 0, 1])) == {"a": [0, 2]}


def test_copies_of_generated_skies_are_found_with_their_labels(skies: Path):
    data = CCSN(skies)
    prints = fingerprints(data.paths, data.input_spec)
    groups = near_duplicate_groups(prints, data.names)
    assert len(data) == 86
    # There are twenty copies of 66 images. Fewer than 66 groups would merge different images. A few more
    # are gray layers without features, whose hashes are noise.
    assert 66 <= len(set(groups)) <= 69
    assert 4 <= len(conflicting_groups(groups, data.labels)) <= 6


def test_exact_copies_are_separated_from_near_duplicates(tmp_path: Path, picture: Image.Image, skies: Path):
    data = CCSN(skies)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    picture.save(tmp_path / "c.jpg", quality=60)
    paths = [tmp_path / name for name in ("a.png", "c.jpg", "b.bmp")]
    prints = fingerprints(paths, data.input_spec)
    assert len(set(near_duplicate_groups(prints, ["a", "c", "b"]))) == 1
    assert exact_duplicates(paths, prints, data.input_spec) == [[0, 2]]


def test_all_unreadable_files_are_named(tmp_path: Path, skies: Path):
    (tmp_path / "x.jpg").write_text("not a picture")
    paths = [CCSN(skies).paths[0], tmp_path / "x.jpg", tmp_path / "gone.jpg"]
    prints = fingerprints(paths, CCSN(skies).input_spec)
    assert set(prints.unreadable) == {1, 2}
    with pytest.raises(DatasetError, match=r"2 of 3 files cannot be read: .*x\.jpg.*gone\.jpg"):
        near_duplicate_groups(prints, ["a", "b", "c"])
