"""Web page in headless Chromium, for tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import geovision
from geovision.web.browser_runtime import RUNTIME_FILES
from helpers.served import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = [
    "DESKTOP",
    "PHONE",
    "both_ways",
    "choose",
    "chromium",
    "in_chromium",
    "on_the_device",
    "opened",
    "shares",
]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
RESULT = ",".join(("#answer:not([hidden])", "#error:not([hidden])"))
OWN = Path(geovision.__file__).parent / "web" / "ort"

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; install Debian's package")
on_the_device = pytest.mark.skipif(
    not all((OWN / name).is_file() for name in RUNTIME_FILES),
    reason="the browser's runtime is not here; make install",
)
both_ways = pytest.mark.parametrize("mode", ["server", pytest.param("device", marks=on_the_device)])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser for the duration of tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The root user of a container has no sandbox.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser: Browser, server: Server, size: dict[str, int], **options) -> Page:
    """Open the page and wait until it accepts files."""
    page = browser.new_context(viewport=size, **{"locale": "en-GB"} | options).new_page()
    page.goto(server.url)
    page.wait_for_selector("#file:not([disabled])", state="attached", timeout=60_000)
    return page


def choose(page: Page, file: Path) -> None:
    """Select a file and wait for the prediction or an error."""
    page.set_input_files("#file", str(file))
    page.wait_for_selector(RESULT, timeout=60_000)


def shares(page: Page) -> dict[str, str]:
    """Return the displayed probability text of each class."""
    return {
        item.locator("span").nth(0).inner_text(): item.locator("span").nth(1).inner_text()
        for item in page.locator("#likely li").all()
    }
