"""Generated sky images: reproducible by seed, in the layout of CCSN, readable by its adapter."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovision import registry
from geovision.datasets.ccsn import CCSN
from geovision.datasets.synthetic import noise, sky
from geovision.errors import OptionError, StorageError

SMALL = (48, 64)


def _digests(root: Path) -> dict[str, str]:
    files = sorted(root.rglob("*.jpg"))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = _digests(sky.write(tmp_path / "a", 13, seed=4, size=SMALL, duplicates=0.3))
    again = _digests(sky.write(tmp_path / "b", 13, seed=4, size=SMALL, duplicates=0.3))
    other = _digests(sky.write(tmp_path / "c", 13, seed=5, size=SMALL, duplicates=0.3))
    assert first == again
    assert not set(first.values()) & set(other.values())


def test_an_image_does_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    few = _digests(sky.write(tmp_path / "few", 11, seed=1, size=SMALL))
    many = _digests(sky.write(tmp_path / "many", 24, seed=1, size=SMALL))
    assert few.items() <= many.items()


@pytest.mark.parametrize("genus", sky.GENERA)
def test_an_image_is_valid(genus: str) -> None:
    pictures = [sky.render(genus, np.random.default_rng([9, index]), SMALL) for index in range(4)]
    for picture in pictures:
        assert picture.shape == (*SMALL, 3)
        assert picture.dtype == np.uint8
        assert 25 < picture.mean() < 235
        assert (picture == 255).mean() < 0.5
        assert picture.std() > 2
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_an_unknown_genus_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"'Xx'.*Ac, As, Cb"):
        sky.render("Xx", np.random.default_rng(0))


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "Ac").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"Ac-N001\.jpg: could not be written"):
        sky.write(tmp_path, 1, seed=0, size=SMALL)


def test_the_adapter_reads_it_back(tmp_path: Path) -> None:
    data = CCSN(CCSN.synthetic(tmp_path, 25, seed=2), size=(32, 32))
    labels = [data.target.classes[int(data[index]["target"])] for index in range(len(data))]
    assert data.target.classes == sky.GENERA == registry.find_task("cloud").target.classes
    assert labels == [Path(data[index]["source"]).parent.name for index in range(len(data))]
    counts = Counter(labels)
    assert sum(counts.values()) == 25
    assert set(counts) == set(sky.GENERA)
    assert max(counts.values()) - min(counts.values()) == 1


def test_only_copies_are_found_as_near_duplicates(tmp_path: Path) -> None:
    data = CCSN(sky.write(tmp_path, 22, seed=0, size=(128, 128), duplicates=0.5))
    assert len(data) == 33
    genera: dict[str, set[str]] = {}
    for unit, index in zip(data.groups, range(33), strict=True):
        genera.setdefault(unit, set()).add(Path(data[index]["source"]).parent.name)
    # A copy of a uniform layer may differ in its hash; the 22 images themselves all differ.
    assert 22 <= len(genera) <= 24
    assert any(len(names) > 1 for names in genera.values())


def test_brightness_and_file_size_do_not_reveal_the_genus(tmp_path: Path) -> None:
    """A nearest-mean rule on these cues is far less accurate than a look at the image."""
    root = sky.write(tmp_path, 20 * 11, seed=3, size=(64, 64))
    files = sorted(root.rglob("*.jpg"))
    labels = np.array([path.parent.name for path in files])
    brightness = np.array([np.asarray(Image.open(path)).mean() for path in files])
    for cue in (brightness, np.log([path.stat().st_size for path in files])):
        train = np.arange(len(files)) % 2 == 0
        means = np.array([cue[train & (labels == genus)].mean() for genus in sky.GENERA])
        guess = np.array(sky.GENERA)[np.abs(cue[~train, None] - means).argmin(1)]
        assert (guess == labels[~train]).mean() < 0.35


def test_cells_repeat_at_their_spacing() -> None:
    texture = noise.cells(np.random.default_rng(0), 256, spacing=16, spread=0.1)
    power = np.abs(np.fft.rfft2(texture)) ** 2
    wavenumber = np.hypot(np.fft.fftfreq(256, 1 / 256)[:, None], np.fft.rfftfreq(256, 1 / 256)[None])
    assert abs((power * wavenumber).sum() / power.sum() - 256 / 16) < 1


def test_lookup_interpolates_and_wraps() -> None:
    texture = np.arange(16, dtype=np.float32).reshape(4, 4)
    x = np.array([0.0, 0.5, 3.5, -1.0, 4.0], dtype=np.float32)
    np.testing.assert_allclose(noise.interpolate_periodic(texture, x, np.zeros_like(x)), [0, 0.5, 1.5, 3, 0])
    y = np.array([0.25, 3.5], dtype=np.float32)
    np.testing.assert_allclose(noise.interpolate_periodic(texture, np.zeros_like(y), y), [1, 6])
