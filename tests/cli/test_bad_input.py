"""Invalid user input: each error is one line with the observation, its place and the remedy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import geovision
from geovision.errors import DatasetError, GeovisionError, InputError, UnreadableFileError
from geovision.models.geomodel import GeoModel

SIZE = (32, 32)
GEOVISION = Path(sys.executable).with_name("geovision")


@pytest.fixture(scope="module")
def model() -> GeoModel:
    torch.manual_seed(0)
    return geovision.create("cloud-tiny", size=SIZE)


def image_of(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    colors = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    return Image.fromarray(colors).convert(mode)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def truncated(folder: Path) -> Path:
    image_of(size=(300, 200)).save(folder / "cut.jpg")
    return written(folder / "cut.jpg", (folder / "cut.jpg").read_bytes()[:3000])


def bomb(folder: Path) -> Path:
    image_of("1", (16, 16)).save(folder / "bomb.bmp")
    content = bytearray((folder / "bomb.bmp").read_bytes())
    content[18:26] = (50_000).to_bytes(4, "little") * 2  # the header alone declares this size
    return written(folder / "bomb.bmp", bytes(content))


def dot(folder: Path) -> Path:
    image_of(size=(1, 1)).save(folder / "dot.png")
    return folder / "dot.png"


FILES: dict[str, tuple[Callable[[Path], Path], type[GeovisionError], str]] = {
    "truncated": (truncated, UnreadableFileError, r"cut\.jpg: damaged \(image file is truncated"),
    "zero bytes": (lambda f: written(f / "a.jpg", b""), UnreadableFileError, r"a\.jpg: an empty file"),
    "text": (lambda f: written(f / "a.jpg", b"hello"), UnreadableFileError, r"a\.jpg: not an image in a"),
    "bomb": (bomb, UnreadableFileError, r"bomb\.bmp: too many pixels, perhaps a decompression bomb"),
    "1x1": (dot, InputError, r"dot\.png: 1x1 pixels; an image needs at least 8 on each side"),
    "missing": (
        lambda f: f / "no.jpg",
        UnreadableFileError,
        r"no\.jpg: no such file or folder; check the path",
    ),
    "empty folder": (
        lambda f: f,
        UnreadableFileError,
        "no images in this folder; choose a folder with images",
    ),
    "pattern": (lambda f: f / "*.jpg", UnreadableFileError, r"\*\.jpg: no file matches this pattern"),
}


@pytest.mark.parametrize("kind", FILES)
def test_unreadable_files_are_reported(model: GeoModel, tmp_path: Path, kind: str) -> None:
    make, error, line = FILES[kind]
    path = make(tmp_path)
    with pytest.raises(error, match=line) as caught:
        model.predict(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    (prediction,) = model.predict(path, skip_errors=True)
    assert prediction.flags == ("unreadable",)
    assert prediction.error == str(caught.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "I;16"])
def test_images_of_unusual_modes_are_predicted(model: GeoModel, tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.linspace(0, 65535, 2400).reshape(40, 60).astype(np.uint16))
    else:
        image = image_of().convert("L").convert(mode) if mode == "LA" else image_of(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    (prediction,) = model.predict(path)
    assert prediction.label in model.target.classes


SAMPLES: dict[str, tuple[object, str]] = {
    "NaN": (torch.full((3, *SIZE), torch.nan), "channel 'red': 1024 of 1024 values are NaN or infinite"),
    "infinite": (torch.full((3, *SIZE), torch.inf), "channel 'red': 1024 of 1024 values are NaN or infinite"),
    "0-255": (torch.full((3, *SIZE), 200.0), r"from 200 to 200, expected 0 to 1 \(looks like 0-255"),
    "16 bit": (torch.full((3, *SIZE), 9e3), r"expected 0 to 1 \(looks like 16-bit counts"),
    "normalised": (torch.full((3, *SIZE), -1.5), "channel 'red': values from -1.5 to -1.5, expected 0 to 1"),
    "one channel": (np.ones((1, *SIZE)), r"has 3 channels \(red, green, blue\) along axis 0 of .*, got 1"),
    "four channels": (np.ones((4, *SIZE)), r"has 3 channels .*, got 4 in shape \(4, 32, 32\)"),
    "channels last": (
        np.ones((*SIZE, 3)),
        r"channels of shape \(32, 32, 3\) are last\. .* numpy\.transpose\(array, \(2, 0, 1\)\)",
    ),
    "batch of channels last": (np.ones((2, *SIZE, 3)), "are last. Transpose the array"),
    "two axes": (np.ones(SIZE), r"has 3 axes \(channel y x\), got shape \(32, 32\)"),
    "five axes": (np.ones((1, 1, 3, *SIZE)), r"has 3 axes \(channel y x\), got shape \(1, 1, 3, 32, 32\)"),
    "empty": (np.ones((3, 0, 4)), r"is empty: shape \(3, 0, 4\)"),
    "small": (np.ones((3, 1, 1)), "1x1 pixels; each side needs 8 or more"),
    "complex": (np.ones((3, *SIZE), complex), "data type complex128; expected numbers"),
    "truths": (np.ones((3, *SIZE), bool), "data type torch.bool; expected numbers"),
    "words": (np.array(["Ac", "As"]), "data type <U2; expected numbers"),
    "unknown name": ({"photo": torch.rand(3, *SIZE)}, r"unknown input 'photo'; the inputs are \['image'\]"),
    "no photo": ({}, "input 'image' is missing"),
    "unlike lengths": (
        {"image": torch.rand(2, 3, *SIZE), "scalars": [1]},
        "expected equal lengths, and a batch axis for",
    ),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_invalid_arrays_are_reported(model: GeoModel, kind: str) -> None:
    sample, line = SAMPLES[kind]
    with pytest.raises(InputError, match=line) as caught:
        model.predict(sample)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [3, 2.5, None, object(), [1, 2]])
def test_unsupported_objects_are_refused(model: GeoModel, given: object) -> None:
    with pytest.raises(
        InputError, match=r"unsupported input of type .*; pass a path, an array, a tensor, a Pillow"
    ):
        model.predict(given)


def test_missing_data_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        geovision.load_dataset("ccsn", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=str(tmp_path)):
        geovision.load_dataset("folder", tmp_path)


def test_the_command_continues_after_a_damaged_file(model: GeoModel, tmp_path: Path) -> None:
    saved = model.save(tmp_path / "model")
    image_of().save(tmp_path / "a.png")
    image_of().save(tmp_path / "c.png")
    cut = truncated(tmp_path)
    done = subprocess.run(
        [
            GEOVISION,
            "predict",
            saved,
            tmp_path / "a.png",
            cut,
            tmp_path / "no.jpg",
            tmp_path / "c.png",
            "--format",
            "csv",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stdout.strip().splitlines()) == 3
    assert "cut.jpg: damaged (image file is truncated" in done.stderr
    assert "no.jpg: no such file" in done.stderr
    assert "Traceback" not in done.stderr
