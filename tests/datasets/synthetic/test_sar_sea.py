"""Generated radar images: stable, reproducible by seed, with lows that differ by their form alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import GOLDEN

from geovision.datasets.polar_lows import PolarLows
from geovision.datasets.synthetic import sar_sea
from geovision.errors import OptionError, StorageError
from geovision.physics.backscatter import DEFAULT_DB_RANGES, counts_to_db

COARSE = 4000.0  # meters: 100 pixels per side
FROZEN = GOLDEN / f"sar_sea_generator_v{sar_sea.GENERATOR_VERSION}.json"


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _blocks(kind: str, number: int) -> np.ndarray:
    """Mean counts of one image in 5 x 5 blocks ``(2, 5, 5)``."""
    scene = sar_sea.render_single(kind, np.random.default_rng([2022, number]), pixel_size=COARSE)
    return scene.counts.reshape(2, 5, 20, 5, 20).mean((2, 4))


def test_the_generator_is_frozen() -> None:
    """Compare block means with the stored ones.

    Bytes are not compared: processors differ in the last bit of an exponential. If this test fails, increase
    GENERATOR_VERSION, write a new file and discard all results of the old version.
    """
    frozen = json.loads(FROZEN.read_text())
    assert tuple(frozen) == sar_sea.KINDS
    for number, kind in enumerate(sar_sea.KINDS):
        np.testing.assert_allclose(_blocks(kind, number), frozen[kind], atol=0.25)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = _digests(sar_sea.write(tmp_path / "a", 7, seed=4, pixel_size=COARSE))
    again = _digests(sar_sea.write(tmp_path / "b", 7, seed=4, pixel_size=COARSE))
    other = _digests(sar_sea.write(tmp_path / "c", 7, seed=5, pixel_size=COARSE))
    assert first == again
    assert len(first) == 7
    assert not set(first.values()) & set(other.values())


def test_an_image_does_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    few = _digests(sar_sea.write(tmp_path / "few", 5, seed=1, pixel_size=COARSE))
    many = _digests(sar_sea.write(tmp_path / "many", 14, seed=1, pixel_size=COARSE))
    assert few.items() <= many.items()


@pytest.mark.parametrize("kind", sar_sea.KINDS)
def test_an_image_has_sea_in_both_polarizations(kind: str) -> None:
    for index in range(4):
        scene = sar_sea.render_single(kind, np.random.default_rng([9, index]), pixel_size=COARSE)
        assert scene.counts.shape == (2, 100, 100)
        assert scene.counts.dtype == np.uint8
        # Nothing outside the swath, something everywhere inside.
        assert not scene.counts[:, ~scene.valid].any()
        assert scene.counts[:, scene.valid].all()
        assert scene.valid.mean() > 0.3
        sea = scene.valid & ~scene.land & ~scene.ice
        cross, co = (
            counts_to_db(c, limits)
            for c, limits in zip(scene.counts, DEFAULT_DB_RANGES.values(), strict=True)
        )
        if sea.sum() > 500:
            assert -36 <= np.median(cross[sea]) < -24
            assert -26 < np.median(co[sea]) < -5
        assert not (scene.land & scene.ice).any()
        assert (scene.eye is not None) == (kind == "polar-low")


def _ring(scene: sar_sea.SyntheticScene, inner: float, outer: float) -> np.ndarray:
    assert scene.eye is not None
    row, column = np.mgrid[: scene.valid.shape[0], : scene.valid.shape[1]]
    away = np.hypot(row - scene.eye.row, column - scene.eye.column) / scene.eye.radius
    return (away >= inner) & (away < outer) & scene.valid & ~scene.land & ~scene.ice


def test_the_eye_is_at_its_stated_position() -> None:
    """The eye is darker than its surroundings and inside the window of a model."""
    darker = []
    for index in range(30):
        scene = sar_sea.render_single("polar-low", np.random.default_rng([11, index]), pixel_size=2000.0)
        eye = scene.eye
        assert eye is not None
        assert abs(eye.row - 99.5) < 64
        assert abs(eye.column - 99.5) < 64
        assert scene.valid[round(eye.row), round(eye.column)]
        assert not scene.land[round(eye.row), round(eye.column)]
        assert not scene.ice[round(eye.row), round(eye.column)]
        within, around = _ring(scene, 0, 0.5), _ring(scene, 1.3, 2.5)
        darker.append(float(scene.counts[1][around].mean() - scene.counts[1][within].mean()))
    assert min(darker) > 5
    assert np.median(darker) > 25


def test_lows_rotate_the_other_way_in_the_southern_hemisphere() -> None:
    """Only the hemisphere differs between two images of one random state."""
    import dataclasses

    over = dataclasses.replace(sar_sea.compose_pass(np.random.default_rng(0), 0), southern_hemisphere=False)
    pictures = [
        sar_sea.render("polar-low", each, np.random.default_rng(2), pixel_size=COARSE)
        for each in (over, dataclasses.replace(over, southern_hemisphere=True))
    ]
    assert pictures[0].eye == pictures[1].eye
    assert (pictures[0].counts != pictures[1].counts).any()


def test_coarser_pixels_show_the_same_sea() -> None:
    """Block means of the fine image are close to the coarse image."""
    fine, coarse = (
        sar_sea.render_single("front", np.random.default_rng(5), pixel_size=size).counts.astype(float)
        for size in (2000.0, 4000.0)
    )
    means = fine.reshape(2, 100, 2, 100, 2).mean((2, 4))
    inside = (means > 20) & (coarse > 0)
    assert np.corrcoef(means[inside], coarse[inside])[0, 1] > 0.95


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"'hurricane'.*polar-low, front, rain"):
        sar_sea.render_single("hurricane", np.random.default_rng(0))


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"train.(pos|neg): could not be written"):
        sar_sea.write(tmp_path, 1, seed=0, pixel_size=COARSE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PolarLows:
    root = sar_sea.write(tmp_path_factory.mktemp("passes"), 240, seed=6, pixel_size=COARSE)
    return PolarLows(root, pixel_size=COARSE)


def test_images_of_a_pass_share_its_time_and_a_third_shows_a_low(data: PolarLows) -> None:
    units, counts = np.unique(data.groups, return_counts=True)
    assert len(units) == 40
    assert set(counts) == {sar_sea.IMAGES_PER_PASS}
    assert np.bincount(data.labels).tolist() == [160, 80]
    for unit in units[:5]:
        own = [i for i, each in enumerate(data.groups) if each == unit]
        begins = sorted(data.times()[i][0] for i in own)
        assert (begins[-1] - begins[0]).total_seconds() < 600
        assert np.bincount(data.labels[own]).tolist() == [4, 2]


def test_brightness_and_missing_data_do_not_reveal_a_low(data: PolarLows) -> None:
    """A nearest-mean rule on such cues has a balanced accuracy near chance, 0.5."""
    pictures = np.stack([data[index]["inputs"]["image"].numpy() for index in range(len(data))])
    seen = (pictures > 0).any(1)
    level = pictures.sum((2, 3)) / seen.sum((1, 2))[:, None]
    spread = pictures.std((2, 3))
    train, test = data.folds(k=2)[0]
    for cue in (level, spread, seen.mean((1, 2))[:, None]):
        means = np.stack([cue[train][data.labels[train] == label].mean(0) for label in (0, 1)])
        guess = ((cue[test][:, None] - means) ** 2).sum(-1).argmin(1)
        right = [float((guess == label)[data.labels[test] == label].mean()) for label in (0, 1)]
        assert np.mean(right) < 0.68
