"""The standalone ONNX runtime: inputs and predictions equal to those of geovision, without torch."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.core_environment import CoreEnvironment, closure
from helpers.entries import inputs_of, tiny
from PIL import ExifTags, Image

import geovision
from geovision import onnx_runtime, registry
from geovision.cli import main
from geovision.export import export_onnx
from geovision.onnx_runtime import InputError, OnnxModel, UnreadableError, read_image
from geovision.readers.images import read_rgb


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, skies: Path) -> Path:
    """Write a folder with a saved model, its export and the runtime."""
    out = tmp_path_factory.mktemp("exported")
    torch.manual_seed(1)
    model = geovision.create("cloud-tiny", size=(64, 64))
    photos = [read_rgb(path, model.inputs[0], (64, 64)) for path in sorted(skies.rglob("*.jpg"))[:8]]
    batch = torch.from_numpy(np.stack(photos)).float() / 255
    with torch.no_grad():
        features = model.features(batch)
        model.head.outlier.fit(features)
        model.head.linear.weight.mul_(100)  # distinct predictions of more than one class
        model.head.linear.bias.copy_(-model.head.linear.weight @ features.mean(0))
    model.save(out / "saved")
    with pytest.raises(SystemExit) as left:
        main(["export", str(out / "saved"), "--with-runtime", "--out", str(out / "clouds.onnx")])
    assert left.value.code == 0
    return out


@pytest.fixture(scope="module")
def model(folder: Path) -> OnnxModel:
    return OnnxModel(folder / "clouds.onnx")


# --- equal inputs -------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (90, 140, 3), np.uint8)
BIG = np.kron(RNG.integers(0, 256, (30, 40, 3), np.uint8), np.ones((24, 24, 1), np.uint8))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


IMAGES = {
    "plain.png": (Image.fromarray(COLORS), {}),
    "grey.png": (Image.fromarray(COLORS[..., 0]), {}),
    "grey16.png": (Image.fromarray(COLORS[..., 0].astype(np.uint16) * 257), {}),
    "palette.png": (Image.fromarray(COLORS).quantize(16), {}),
    "clear.png": (Image.fromarray(np.dstack([COLORS, COLORS[..., 0]])), {}),
    "cmyk.jpg": (Image.fromarray(COLORS).convert("CMYK"), {}),
    "big.jpg": (Image.fromarray(BIG), {"quality": 90}),
    "turned.jpg": (Image.fromarray(BIG), {"exif": turned(6), "quality": 90}),
    "upside.jpg": (Image.fromarray(COLORS), {"exif": turned(3)}),
    "first.gif": (
        Image.fromarray(COLORS),
        {"save_all": True, "append_images": [Image.new("RGB", (140, 90))]},
    ),
}


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("name", IMAGES)
def test_images_are_read_as_by_geovision(name: str, resize: str, tmp_path: Path):
    picture, options = IMAGES[name]
    path = tmp_path / name
    picture.save(path, **options)
    task = {"squash": "cloud", "crop": "aurora"}[resize]
    spec = registry.find_task(task).inputs[0]
    expected = read_rgb(path, spec, (64, 48)).astype(np.float32) / np.float32(255)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        found = read_image(source, (64, 48), resize)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"\xff\xd8\xff\xe0 but no more", "not a picture|damaged"),
    ],
)
def test_a_file_that_is_no_image_is_reported(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "sky.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=f"sky.jpg: ({message})"):
        read_image(path)


def test_unsuitable_images_are_reported(tmp_path: Path):
    with pytest.raises(UnreadableError, match="no such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match="4x4 pixels; an image needs at least 8"):
        read_image(Image.new("RGB", (4, 4)))
    with pytest.raises(InputError, match="no declared full scale"):
        read_image(Image.new("F", (32, 32)))
    cut = io.BytesIO()
    Image.fromarray(BIG).save(cut, "JPEG")
    with pytest.raises(UnreadableError, match="damaged"):
        read_image(cut.getvalue()[: len(cut.getvalue()) // 2])


# --- equal predictions --------------------------------------------------------------------------


def test_predictions_equal_those_of_predict(folder: Path, model: OnnxModel, skies: Path):
    photos = sorted(skies.rglob("*.jpg"))[:6]
    expected = geovision.load(folder / "saved").predict(photos, precision="float32")
    found = model.predict([model.read(photo) for photo in photos])
    for prediction, one in zip(found, expected, strict=True):
        assert prediction["label"] == one.label
        assert prediction["flags"] == list(one.flags)
        assert prediction["outlier_score"] == pytest.approx(one.outlier_score, abs=1e-4)
        assert list(prediction["probabilities"]) == list(one.probabilities)
        assert list(prediction["probabilities"].values()) == pytest.approx(
            list(one.probabilities.values()), abs=1e-4
        )
        assert prediction["word"]["en"] == one.word
    assert len({prediction["label"] for prediction in found}) > 1
    assert model.predict([]) == []


def test_arrays_are_accepted_in_their_unit_only(model: OnnxModel, tmp_path: Path):
    values = RNG.random((3, 64, 64), np.float32)
    np.save(tmp_path / "sky.npy", values)
    np.savez(tmp_path / "sky.npz", image=values)
    counts = (values * 255).round().astype(np.uint8)
    samples = [model.read(each) for each in (values, tmp_path / "sky.npy", str(tmp_path / "sky.npz"), counts)]
    labels = {prediction["label"] for prediction in model.predict(samples)}
    assert len(labels) == 1
    with pytest.raises(InputError, match=r"channel 'red': values from .* expected 0 to 1 .looks like 0-255"):
        model.read(values * 255)
    with pytest.raises(InputError, match=r"has shape \(3, 64, 64\) \(channel y x\), got \(3, 32, 32\)"):
        model.read(values[:, :32, :32])
    with pytest.raises(InputError, match="unknown input 'picture'"):
        model.read({"picture": values})
    with pytest.raises(InputError, match="NaN or infinite"):
        model.read(np.full_like(values, np.nan))
    with pytest.raises(UnreadableError, match="no such file"):
        model.read("nowhere.npz")


def test_masks_and_scalars_are_separate_inputs(tmp_path: Path):
    whole = tiny(registry.find_model("cloud-tiny"), scalars=("air_temperature",))
    model = OnnxModel(export_onnx(whole, tmp_path / "it.onnx"))
    photo = inputs_of(whole, 1)["image"][0].numpy()
    absent, given = model.read(photo), model.read({"image": photo, "scalars": np.float32([20.0])})
    assert not absent["scalars_valid"].any()
    assert given["scalars_valid"].all()
    with torch.no_grad():
        expected = [
            whole({"image": torch.from_numpy(photo)[None]}).values,
            whole({"image": torch.from_numpy(photo)[None], "scalars": torch.tensor([[20.0]])}).values,
        ]
    np.testing.assert_allclose(model.run([absent, given])["logits"], torch.cat(expected).numpy(), atol=1e-4)
    with pytest.raises(InputError, match="looks like kelvin"):
        model.read({"image": photo, "scalars": np.float32([293.0])})


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_an_invalid_model_file_is_reported(content: bytes | None, tmp_path: Path):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"no such file|not a model that geovision exported"):
        OnnxModel(path)


# --- standalone program -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> CoreEnvironment:
    """Create an environment with onnxruntime, numpy, Pillow and their dependencies."""
    environment = CoreEnvironment(tmp_path_factory.mktemp("bare"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    for name in {"onnxruntime", "numpy", "pillow"} | closure("onnxruntime"):
        environment._link(metadata.distribution(name))
    return environment


def test_it_runs_without_torch_and_without_geovision(
    bare: CoreEnvironment, folder: Path, model: OnnxModel, skies: Path
):
    photo = str(sorted(skies.rglob("*.jpg"))[0])
    hidden = (
        "import importlib.util as u; print([n for n in ('torch', 'geovision', 'onnx') if u.find_spec(n)])"
    )
    assert bare.run(hidden, cwd=folder).stdout.strip() == "[]"
    command = [bare.python, "-I", folder / "runtime.py", folder / "clouds.onnx", photo, "nowhere.jpg"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert result.returncode == 1
    assert result.stderr.strip() == "runtime.py: nowhere.jpg: no such file; check the path"
    (expected,) = model.predict([model.read(photo)])
    output = json.loads(result.stdout)
    assert output["source"] == photo
    assert output["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


@pytest.mark.parametrize("program", ["runtime.py", "geovision"])
def test_onnx_runtime_writes_and_sends_no_telemetry(program: str, folder: Path, skies: Path, tmp_path: Path):
    photo = str(sorted(skies.rglob("*.jpg"))[0])
    command = {
        "runtime.py": [sys.executable, folder / "runtime.py", folder / "clouds.onnx", photo],
        "geovision": [
            Path(sys.executable).with_name("geovision"),
            "export",
            folder / "saved",
            "--precision",
            "int8",
            "--out",
            tmp_path / "out.onnx",
        ],
    }[program]
    home = {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    subprocess.run(command, env=home, check=True, capture_output=True)
    assert not [
        path for path in tmp_path.rglob("*") if "onnxruntime" in path.name or "Microsoft" in str(path)
    ]


def test_it_imports_nothing_from_the_package(folder: Path):
    text = Path(onnx_runtime.__file__).read_text("utf-8")
    assert (folder / "runtime.py").read_text("utf-8") == text
    assert "import geovision" not in text
    assert "from geovision" not in text


def test_without_files_it_prints_the_metadata_of_the_model(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert onnx_runtime.main([str(folder / "clouds.onnx")]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "cloud-tiny"


def test_the_map_is_written_on_request(folder: Path, skies: Path, capsys: pytest.CaptureFixture[str]):
    photo = str(sorted(skies.rglob("*.jpg"))[0])
    assert onnx_runtime.main([str(folder / "clouds.onnx"), photo, "--map"]) == 0
    assert np.array(json.loads(capsys.readouterr().out)["class_activation_map"]).shape == (2, 2)
