"""The page in a browser, on phone and desktop, with predictions by the server and on the device."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.pages import DESKTOP, PHONE, both_ways, choose, in_chromium, on_the_device, opened, shares
from helpers.served import Server
from PIL import Image

import geovision
from geovision.datasets.synthetic import sky
from geovision.models.geomodel import GeoModel

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = in_chromium


@pytest.fixture(scope="module")
def model() -> GeoModel:
    return geovision.create("cloud-mobilenetv2", pretrained=True)


@pytest.fixture(scope="module")
def exported(shipped_onnx: Path) -> Path:
    return shipped_onnx


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write files that a user may choose."""
    folder = tmp_path_factory.mktemp("photos")
    skies = sorted(sky.write(folder / "skies", 11, seed=3, size=(480, 640)).rglob("*.jpg"))
    shutil.copy(skies[0], folder / "sky.jpg")
    shutil.copy(skies[5], folder / "other.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    (folder / "broken.jpg").write_bytes((folder / "sky.jpg").read_bytes()[:3000])
    (folder / "text.jpg").write_text("no picture at all")
    large = Image.open(folder / "sky.jpg").resize((4000, 3000))
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(folder / "large_turned.jpg", quality=90, exif=exif)
    return folder


@both_ways
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_photo_is_predicted_as_by_the_library(
    browser: Browser,
    servers: dict[str, Server],
    model: GeoModel,
    photos: Path,
    mode: str,
    size: dict[str, int],
):
    page = opened(browser, servers[mode], size)
    for name in ("sky.jpg", "other.jpg", "large_turned.jpg"):
        (expected,) = model.predict(photos / name)
        choose(page, photos / name)
        cards = {card.code: card for card in model.target.cards}
        assert page.inner_text("#label").startswith(cards[expected.label].name.en)
        assert page.inner_text("#word") == expected.word
        found = shares(page)
        assert len(found) == 3
        for code, share in expected.top(2):
            # Browsers decode large photos completely, Pillow at a reduced scale.
            within = 1.01 if name != "large_turned.jpg" else 5
            assert abs(float(found[cards[code].name.en].split()[0]) - 100 * share) <= within
        assert page.inner_text("#caution") == cards[expected.label].caution.en
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide, "the page is wider than the screen"
    page.context.close()


@both_ways
def test_the_selected_language_is_kept(
    browser: Browser, servers: dict[str, Server], model: GeoModel, photos: Path, mode: str
):
    page = opened(browser, servers[mode], PHONE)
    choose(page, photos / "sky.jpg")
    page.click("[data-language=zh]")
    (expected,) = model.predict(photos / "sky.jpg")
    assert expected.card is not None
    assert page.inner_text("#label").startswith(expected.card.name.zh)
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert page.get_attribute("[data-language=zh]", "aria-pressed") == "true"
    page.reload()
    page.wait_for_selector("#file:not([disabled])", state="attached", timeout=60_000)
    assert "拍一张照片" in page.inner_text("#ask")
    page.context.close()


@both_ways
def test_an_unreadable_file_is_reported_and_the_next_is_predicted(
    browser: Browser, servers: dict[str, Server], photos: Path, mode: str
):
    page = opened(browser, servers[mode], PHONE)
    choose(page, photos / "text.jpg")
    assert "The browser cannot read this file as an image" in page.inner_text("#error")
    assert page.is_hidden("#answer")
    choose(page, photos / "sky.jpg")
    page.wait_for_selector("#answer:not([hidden])")
    assert page.is_hidden("#error")
    page.context.close()


@both_ways
def test_a_photo_without_sky_is_reported(
    browser: Browser, servers: dict[str, Server], photos: Path, mode: str
):
    page = opened(browser, servers[mode], PHONE)
    choose(page, photos / "noise.png")
    assert "does not look like a sky" in page.inner_text("#notices")
    choose(page, photos / "sky.jpg")
    page.context.close()


@both_ways
def test_the_activation_map_is_drawn_over_the_image(
    browser: Browser, servers: dict[str, Server], photos: Path, mode: str
):
    page = opened(browser, servers[mode], PHONE)
    choose(page, photos / "sky.jpg")
    before = page.evaluate("document.getElementById('picture').toDataURL()")
    page.click("#look")
    page.wait_for_selector("#look[aria-pressed=true]")
    assert page.evaluate("document.getElementById('picture').toDataURL()") != before
    page.click("#look")
    assert page.evaluate("document.getElementById('picture').toDataURL()") == before
    page.context.close()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_button_of_the_map_is_within_the_image(
    browser: Browser, servers: dict[str, Server], photos: Path, size: dict[str, int]
):
    page = opened(browser, servers["server"], size)
    choose(page, photos / "sky.jpg")
    button, image = (page.locator(name).bounding_box() for name in ("#look", "#picture"))
    assert button is not None
    assert image is not None
    assert image["y"] <= button["y"]
    assert button["y"] + button["height"] <= image["y"] + image["height"]
    page.context.close()


@on_the_device
def test_on_the_device_no_request_is_sent_and_the_page_works_offline(
    browser: Browser, servers: dict[str, Server], photos: Path
):
    page = opened(browser, servers["device"], PHONE)
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    urls: list[str] = []
    page.context.on("request", lambda request: urls.append(request.url))
    choose(page, photos / "sky.jpg")
    assert [url for url in urls if not url.startswith("blob:")] == []
    first = shares(page)
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("#file:not([disabled])", state="attached", timeout=60_000)
    choose(page, photos / "sky.jpg")
    assert shares(page) == first
    page.context.close()


@on_the_device
def test_the_page_can_be_installed(browser: Browser, servers: dict[str, Server]):
    page = opened(browser, servers["device"], PHONE)
    session = page.context.new_cdp_session(page)
    assert session.send("Page.getAppManifest")["errors"] == []
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] in (
        [],
        [{"errorId": "in-incognito", "errorArguments": []}],
    )
    assert page.evaluate("crossOriginIsolated")
    page.context.close()


def test_the_page_supports_keyboards_and_screen_readers(
    browser: Browser, servers: dict[str, Server], photos: Path
):
    page = opened(browser, servers["server"], DESKTOP)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.dataset.language || 'skip'")
        )
    assert reached[:5] == ["skip", "en", "zh", "camera", "file"]
    choose(page, photos / "sky.jpg")
    assert page.get_attribute("#state", "aria-live") == "polite"
    assert page.inner_text("#state").startswith("Prediction: ")
    assert page.evaluate("document.activeElement.id") == "answer"
    assert page.get_attribute("#picture", "aria-label")
    page.context.close()


def test_an_unreachable_server_is_reported(browser: Browser, servers: dict[str, Server], photos: Path):
    page = opened(browser, servers["server"], PHONE)
    page.context.set_offline(True)
    choose(page, photos / "sky.jpg")
    assert "cannot be reached" in page.inner_text("#error")
    page.context.close()


@on_the_device
def test_the_page_is_below_fifteen_megabytes_without_its_model(servers: dict[str, Server]):
    about = servers["device"].request("GET", "/service-worker.js").body.decode()
    import json
    import re

    kept = json.loads(re.search(r"JSON.parse\('(.*)'\)", about)[1])
    size_in_bytes = sum(
        len(servers["device"].request("GET", f"/{name}").body) for name in kept if name != "model.onnx"
    )
    assert size_in_bytes < 15e6


def test_a_dark_color_scheme_gives_a_dark_page(browser: Browser, servers: dict[str, Server]):
    colors = []
    for scheme in ("light", "dark"):
        page = opened(browser, servers["server"], PHONE, color_scheme=scheme)
        colors.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        shot = np.asarray(Image.open(io.BytesIO(page.screenshot())))
        assert shot.size
        page.context.close()
    light, dark = (sum(map(int, c[4:-1].split(","))) for c in colors)
    assert dark < 150 < 600 < light
