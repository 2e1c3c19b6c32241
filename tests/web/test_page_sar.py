"""Radar images without torch: standalone runtime, server and browser agree with the library.

Unsuitable images are refused with the reason.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.entries import tiny
from helpers.pages import DESKTOP, PHONE, both_ways, choose, in_chromium, on_the_device, opened, shares
from helpers.served import Server
from PIL import Image

import geovision
from geovision import onnx_runtime, registry
from geovision.datasets.synthetic import sar_sea
from geovision.errors import InputError, OptionError
from geovision.export import build_metadata, calibration_inputs, export_onnx
from geovision.models.geomodel import GeoModel
from geovision.models.input_items import iter_input_items
from geovision.readers.sar_png import write_image
from geovision.web import validate_page_metadata

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images with pixels of 2 km and of other sizes and shapes, and images that are refused."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(6):
        _, scene = sar_sea.image_at(index, seed=2, pixel_size=2000)
        write_image(folder / f"sea{index}.png", scene.counts, 2000.0)
    blocks = np.kron(RNG.integers(0, 256, (2, 120, 90), np.uint8), np.ones((1, 7, 7), np.uint8))
    noise = RNG.integers(1, 256, blocks.shape, np.uint8)
    fine = np.where(blocks < 60, 0, np.where(blocks < 120, noise, blocks))[:, :803, :599]
    write_image(folder / "fine.png", fine)
    write_image(folder / "small.png", fine[:, 100:131, 80:180], 2000.0)
    Image.fromarray(noise[[0, 1, 1], :90, :120].transpose(1, 2, 0)).save(folder / "photo.png")
    Image.open(folder / "sea0.png").save(folder / "compressed.jpg")
    Image.fromarray(noise[0]).save(folder / "grey.png")
    (folder / "deep.png").write_bytes(sixteen_bits(noise[0].astype(np.uint16) * 257))
    write_image(folder / "coarse.png", fine[:, :200, :200], 3000.0)
    return folder


TAKEN = ("sea0", "sea3", "fine", "small")
REFUSED = {
    "photo.png": ("red and green differ", "color channels of one measurement differ"),
    "compressed.jpg": ("red and green differ", "compression has changed it"),
    "grey.png": ("a gray image", "a measurement that the model requires is missing"),
    "deep.png": ("more than 8 bits per color", "more than 8 bits per color"),
    "coarse.png": (
        "pixels of 3000 m cannot be averaged to 2000 m",
        "cannot be averaged to the pixel size of the model",
    ),
}


def sixteen_bits(counts: np.ndarray) -> bytes:
    """Return a PNG of three colors with 16 bits each, which Pillow does not write."""
    height, width = counts.shape
    rows = np.repeat(counts.astype(">u2")[..., None], 3, axis=2).reshape(height, -1).view(np.uint8)
    data = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(data, 1),
        b"IEND": b"",
    }
    written = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks.items():
        written += struct.pack(">I", len(content)) + name + content
        written += struct.pack(">I", zlib.crc32(name + content))
    return written


@pytest.fixture(scope="module")
def model(files: Path) -> GeoModel:
    """Return an untrained model with distinct predictions and a fitted outlier score."""
    torch.manual_seed(0)
    made = geovision.create("polarlow-tiny")
    given = [next(iter_input_items(files / f"sea{n}.png", made.inputs)).load(made.inputs) for n in range(6)]
    batch = torch.stack([each.inputs["image"] for each in given]).float() / 255
    is_valid = torch.stack([each.valid["image"] for each in given])
    with torch.no_grad():
        features = made.features({"image": batch}, valid={"image": is_valid})
        made.head.outlier.fit(features)
        made.head.linear.weight.mul_(20 / (features @ made.head.linear.weight.T).std())
        made.head.linear.bias.copy_(-made.head.linear.weight @ features.mean(0))
    return made


@pytest.fixture(scope="module")
def exported(model: GeoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(model, tmp_path_factory.mktemp("exported") / "lows.onnx")


@pytest.fixture(scope="module")
def alone(exported: Path) -> onnx_runtime.OnnxModel:
    return onnx_runtime.OnnxModel(exported)


# --- equal inputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAKEN)
def test_an_image_is_read_as_by_the_library(
    name: str, alone: onnx_runtime.OnnxModel, model: GeoModel, files: Path
):
    path = files / f"{name}.png"
    expected = next(iter_input_items(path, model.inputs)).load(model.inputs)
    for source in (path, path.read_bytes()):
        found = alone.read(source)
        np.testing.assert_array_equal(found["image"], expected.inputs["image"].numpy() / np.float32(255))
        np.testing.assert_array_equal(found["image_valid"], expected.valid["image"].numpy())
    assert found["image_valid"].any()


def test_an_array_is_windowed_and_checked(alone: onnx_runtime.OnnxModel, model: GeoModel):
    values = RNG.random((2, 301, 90), np.float32)
    found = alone.read(values)
    expected = next(iter_input_items(values, model.inputs)).load(model.inputs)
    np.testing.assert_array_equal(found["image"], expected.inputs["image"].numpy())
    np.testing.assert_array_equal(found["image_valid"], expected.valid["image"].numpy())
    values[0, 150, 45] = np.nan
    with pytest.raises(onnx_runtime.InputError, match="channel 'cross_pol': NaN or infinite"):
        alone.read(values)
    with pytest.raises(onnx_runtime.InputError, match="decibels need a declared mapping"):
        alone.read(np.full((2, 128, 128), 30.0))


def test_predictions_equal_those_of_predict(alone: onnx_runtime.OnnxModel, model: GeoModel, files: Path):
    paths = [files / f"{name}.png" for name in ("sea0", "sea1", "sea2", "sea3", "sea4", "sea5", *TAKEN)]
    predictions = alone.predict([alone.read(path) for path in paths])
    for prediction, expected in zip(predictions, model.predict(paths, precision="float32"), strict=True):
        assert prediction["label"] == expected.label
        assert prediction["flags"] == list(expected.flags)
        assert prediction["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    assert {prediction["label"] for prediction in predictions} == {"pos", "neg"}


@pytest.mark.parametrize("name", REFUSED)
def test_unsuitable_images_are_refused_in_one_line(
    name: str, alone: onnx_runtime.OnnxModel, model: GeoModel, servers: dict[str, Server], files: Path
):
    message, _ = REFUSED[name]
    with pytest.raises(onnx_runtime.InputError, match=message):
        alone.read(files / name)
    with pytest.raises(InputError, match=message):
        model.predict(files / name)
    reply = servers["server"].predict((files / name).read_bytes())
    assert reply.status == 422
    assert message in reply.json["detail"]
    assert "\n" not in reply.json["detail"]


def test_the_server_takes_backscatter_as_an_array(model: GeoModel, servers: dict[str, Server]):
    values = RNG.random((2, 301, 90), np.float32)
    written = io.BytesIO()
    np.save(written, values)
    reply = servers["server"].predict(written.getvalue())
    (expected,) = model.predict(values, precision="float32")
    assert reply.json["label"] == expected.label
    assert reply.json["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)


def test_an_invalid_pixel_size_is_reported(alone: onnx_runtime.OnnxModel, files: Path, tmp_path: Path):
    content = (files / "sea0.png").read_bytes().replace(b"pixel_size\x002000", b"pixel_size\x002 km")
    (tmp_path / "it.png").write_bytes(with_checksums(content))
    with pytest.raises(onnx_runtime.InputError, match="entry 'pixel_size' is '2 km'; expected a length"):
        alone.read(tmp_path / "it.png")


def with_checksums(png: bytes) -> bytes:
    """Return the PNG with correct checksums."""
    written, at = png[:8], 8
    while at < len(png):
        length = struct.unpack(">I", png[at : at + 4])[0]
        body = png[at + 4 : at + 8 + length]
        written += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return written


def test_int8_models_take_masks(model: GeoModel, files: Path, tmp_path: Path):
    ranges = calibration_inputs(model, [files / f"sea{n}.png" for n in range(6)])
    small = onnx_runtime.OnnxModel(export_onnx(model, tmp_path / "small.onnx", calibration=ranges))
    (prediction,) = small.predict([small.read(files / "sea0.png")])
    (expected,) = model.predict(files / "sea0.png")
    assert prediction["label"] == expected.label


# --- models with a page -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hail-convlstm", "downscale-maunet", "biascorrect-quantile-mapping"])
def test_fields_and_masks_have_no_page(name: str):
    known = registry.find_model(name)
    with pytest.raises(
        OptionError, match=f"the page does not support {name}; expected a model that classifies one image"
    ):
        validate_page_metadata(build_metadata(tiny(known)))


@pytest.mark.parametrize("name", ["cloud-tiny", "aurora-resnet18", "polarlow-xception", "polarlow-resnet18"])
def test_models_of_images_have_a_page(name: str):
    validate_page_metadata(build_metadata(tiny(registry.find_model(name))))


# --- the page -----------------------------------------------------------------------------------


@in_chromium
@on_the_device
@pytest.mark.parametrize("name", TAKEN)
def test_a_browser_reads_the_same_values(
    name: str, browser: Browser, servers: dict[str, Server], alone: onnx_runtime.OnnxModel, files: Path
):
    page = opened(browser, servers["device"], PHONE)
    path = files / f"{name}.png"
    measured = page.evaluate(
        """async (content) => {
            const file = new Blob([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))]);
            const { measure } = await import("./measurements.js");
            const [input] = (await (await fetch("page.json")).json()).inputs;
            const { pixels, valid } = await measure(file, input);
            return [[...pixels.map((value) => Math.round(255 * value))], [...valid]];
        }""",
        base64.b64encode(path.read_bytes()).decode(),
    )
    expected = alone.read(path)
    np.testing.assert_array_equal(measured[0], np.rint(expected["image"].ravel() * 255))
    np.testing.assert_array_equal(measured[1], expected["image_valid"].ravel())
    page.context.close()


@in_chromium
@both_ways
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_predicts_as_the_library(
    browser: Browser,
    servers: dict[str, Server],
    model: GeoModel,
    files: Path,
    mode: str,
    size: dict[str, int],
):
    page = opened(browser, servers[mode], size)
    assert page.is_hidden("#camera")
    assert "Choose a radar image" in page.inner_text("#ask")
    assert "cross-polarized in red and green" in page.inner_text("#hint")
    for name in TAKEN:
        choose(page, files / f"{name}.png")
        (expected,) = model.predict(files / f"{name}.png", precision="float32")
        assert expected.card is not None
        assert page.inner_text("#label").startswith(expected.card.name.en)
        assert page.inner_text("#caution") == expected.card.caution.en
        found = shares(page)
        for code, share in expected.probabilities.items():
            name_of_class = model.target.card(code).name.en
            assert abs(float(found[name_of_class].split()[0]) - 100 * share) <= 1.01
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    page.click("[data-language=zh]")
    assert "选择雷达图像" in page.inner_text("#ask")
    assert page.inner_text("#label").startswith(expected.card.name.zh)
    page.context.close()


@in_chromium
@both_ways
def test_the_page_reports_unsuitable_images(
    browser: Browser, servers: dict[str, Server], files: Path, mode: str
):
    page = opened(browser, servers[mode], PHONE)
    for name, messages in REFUSED.items():
        choose(page, files / name)
        assert page.is_hidden("#answer")
        assert any(words in page.inner_text("#error") for words in messages), name
    choose(page, files / "sea0.png")
    page.wait_for_selector("#answer:not([hidden])")
    page.context.close()


@in_chromium
@both_ways
def test_an_unusual_image_is_reported(
    browser: Browser, servers: dict[str, Server], model: GeoModel, files: Path, mode: str
):
    (expected,) = model.predict(files / "fine.png")
    assert expected.flags == ("outside_training_domain",)
    page = opened(browser, servers[mode], PHONE)
    choose(page, files / "fine.png")
    assert "does not look like a radar image of the sea" in page.inner_text("#notices")
    page.context.close()


@in_chromium
@both_ways
def test_the_map_covers_the_center_and_the_rest_is_darkened(
    browser: Browser, servers: dict[str, Server], files: Path, mode: str
):
    page = opened(browser, servers[mode], PHONE)
    choose(page, files / "sea0.png")
    before = canvas(page)
    page.click("#look")
    page.wait_for_selector("#look[aria-pressed=true]")
    after = canvas(page)
    unseen = np.ones(before.shape[:2], bool)
    unseen[36:164, 36:164] = False  # the center 128 of 200 pixels
    dark = before[unseen] * 0.22 + np.array([0, 0, 40]) * 0.78
    assert np.abs(after[unseen] - dark).max() < 2
    assert (after[~unseen] != before[~unseen]).any()
    page.context.close()


def canvas(page) -> np.ndarray:
    """Return the image on the page, shape (y, x, 3)."""
    url = page.evaluate("document.getElementById('picture').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB")).astype(float)


@in_chromium
@on_the_device
def test_static_files_work_without_a_network(browser: Browser, servers: dict[str, Server], files: Path):
    page = opened(browser, servers["device"], PHONE)
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    choose(page, files / "sea3.png")
    first = shares(page)
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("#file:not([disabled])", state="attached", timeout=60_000)
    choose(page, files / "sea3.png")
    assert shares(page) == first
    assert json.loads(page.evaluate("fetch('page.json').then((reply) => reply.text())"))["mode"] == "device"
    page.context.close()
