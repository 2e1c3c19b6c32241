"""Figure page.png: the web page on a phone, light and dark, in English and Chinese, with an activation map.

    python examples/figures/page.py

The script needs the extra serve, playwright, and Chromium with a Chinese font (Debian: chromium,
fonts-noto-cjk).
"""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from geovision.datasets.synthetic import sky

IMAGES = Path(__file__).parents[2] / "docs" / "images"

PHONE = {"width": 390, "height": 844}
SHOTS = (
    {"language": "en", "scheme": "light", "photo": 6, "mapped": False},
    {"language": "en", "scheme": "light", "photo": 6, "mapped": True},
    {"language": "zh", "scheme": "dark", "photo": 2, "mapped": False},
)


def main() -> None:
    """Take the screenshots and write the figure."""
    with tempfile.TemporaryDirectory() as folder:
        skies = sorted(sky.write(Path(folder), 11, seed=5, size=(480, 640)).rglob("*.jpg"))
        command = [Path(sys.executable).with_name("geovision"), "serve", "cloud-mobilenetv2", "--port", "0"]
        process = subprocess.Popen([*command, "--offline"], stderr=subprocess.PIPE, text=True)
        try:
            url = re.search(r"http://\S+/", process.stderr.readline())[0]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                shots = [shot(browser, url, skies, **options) for options in SHOTS]
                browser.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    beside(shots).save(IMAGES / "page.png", optimize=True)


def shot(
    browser: Browser, url: str, skies: list[Path], *, language: str, scheme: str, photo: int, mapped: bool
) -> Image.Image:
    """Return a screenshot of the whole page with a prediction."""
    page = browser.new_context(viewport=PHONE, color_scheme=scheme, locale=language).new_page()
    page.goto(url)
    page.wait_for_selector("#file:not([disabled])", state="attached", timeout=60_000)
    page.set_input_files("#file", str(skies[photo]))
    page.wait_for_selector("#answer:not([hidden])", timeout=60_000)
    page.wait_for_timeout(500)  # animation of the bars
    if mapped:
        page.click("#look")
        page.wait_for_selector("#look[aria-pressed=true]")
    taken = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    page.context.close()
    return taken


def beside(shots: list[Image.Image], gap: int = 24) -> Image.Image:
    """Join images side by side on gray."""
    whole = Image.new(
        "RGB",
        (sum(each.width + gap for each in shots) + gap, max(each.height for each in shots) + 2 * gap),
        "#8895a3",
    )
    left = gap
    for each in shots:
        whole.paste(each, (left, gap))
        left += each.width + gap
    return whole


if __name__ == "__main__":
    main()
