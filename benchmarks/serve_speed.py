"""Throughput and latency of `geovision serve`, their stability, and the behavior under overload.

Clients are tasks of this process. Each has one open connection and sends its next request as soon as the last
response has arrived, so clients also take processor time from the server, as little as possible.

- ``crowd``: 8 clients with photos of 640 x 480, and of 12 megapixels;
- ``long``: many thousand requests, one in twenty with a bad file; memory before and after;
- ``flood``: 200 clients at the same time;
- ``browser``: the page in headless Chromium, from opening to ready and from a photo to its prediction, which
  the browser computes.

    python benchmarks/serve_speed.py crowd
    python benchmarks/serve_speed.py long --requests 20000
    python benchmarks/serve_speed.py flood browser

The script appends rows to ``serve_speed.csv`` in its folder. It needs the extra serve, and Chromium for
``browser``.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from rows import append

from geovision.datasets.synthetic import sky
from geovision.provenance import git_commit

MODEL = "cloud-mobilenetv2"
GOOD, BAD = 200, frozenset({415, 422})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("crowd", "long", "flood", "browser"), help="measurements")
    parser.add_argument("--clients", type=int, default=8, help="number of clients")
    parser.add_argument("--requests", type=int, default=2000, help="number of requests")
    parser.add_argument("--int8", action="store_true", help="serve the model in 8 bits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = drawn(Path(folder))
        for what in options.what:
            for row in MEASURED[what](photos, options):
                about = {
                    "date": datetime.date.today().isoformat(),
                    "commit": git_commit(),
                    "what": what,
                    "model": MODEL,
                    "int8": options.int8,
                }
                append(Path(__file__).with_suffix(".csv"), about | row, show=True)


def drawn(folder: Path) -> dict[str, list[bytes]]:
    """Return photos in formats of phones, and files that are not images."""
    skies = sorted(sky.write(folder / "skies", 22, seed=1, size=(480, 640)).rglob("*.jpg"))
    small = [path.read_bytes() for path in skies]
    large = []
    for path in skies[:6]:
        with Image.open(path) as image:
            image.resize((4000, 3000), Image.Resampling.BICUBIC).save(folder / "large.jpg", quality=90)
        large.append((folder / "large.jpg").read_bytes())
    bad = [b"no picture", small[0][: len(small[0]) // 3], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b""]
    return {"640x480": small, "12 megapixels": large, "bad": bad}


# --- the server ---------------------------------------------------------------------------------


@contextmanager
def served(*more: str) -> Iterator[tuple[int, int]]:
    """Run a server and yield its port and process id."""
    command = [
        Path(sys.executable).with_name("geovision"),
        "serve",
        MODEL,
        "--port",
        "0",
        "--rate-limit",
        "0",
        *more,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"localhost:(\d+)/", line)
        if found is None:
            raise SystemExit(line + process.stderr.read())
        yield int(found[1]), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def resident(process: int) -> float:
    """Return the resident memory of a process, in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


# --- the clients --------------------------------------------------------------------------------


async def client(port: int, bodies: Iterator[bytes], found: list[tuple[int, float]]) -> None:
    """Send requests in sequence on one connection; append status and seconds of each, 0 on failure."""
    reader = writer = None
    for body in bodies:
        begun = time.perf_counter()
        try:
            if writer is None or writer.is_closing():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            response = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", response)[1]))
            status = int(response.split()[1])
            if b"connection: close" in response:
                writer.close()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            status, writer = 0, None
        found.append((status, time.perf_counter() - begun))
    if writer is not None:
        writer.close()


async def crowd_of(port: int, clients: int, requests: Iterator[bytes]) -> list[tuple[int, float]]:
    """Send requests with several clients at the same time."""
    found: list[tuple[int, float]] = []
    await asyncio.gather(*(client(port, requests, found) for _ in range(clients)))
    return found


def measured(
    port: int, clients: int, count: int, bodies: list[bytes], bad: list[bytes], one_in: int = 0
) -> dict:
    """Return counts of responses, latency and throughput of a number of requests."""
    requests = (
        bad[n // one_in % len(bad)] if one_in and n % one_in == 0 else bodies[n % len(bodies)]
        for n in range(count)
    )
    begun = time.perf_counter()
    found = asyncio.run(crowd_of(port, clients, requests))
    seconds = time.perf_counter() - begun
    statuses = Counter(status for status, _ in found)
    times = [taken for status, taken in found if status == GOOD]
    p50, p99 = np.percentile(times, [50, 99]) if times else (np.nan, np.nan)
    others = sum(n for status, n in statuses.items() if status not in {GOOD, 503, *BAD})
    return {
        "clients": clients,
        "requests": count,
        "predicted": statuses[GOOD],
        "refused_bad_files": sum(statuses[status] for status in BAD),
        "shed_503": statuses[503],
        "lost_or_other": others,
        "p50_ms": round(1000 * float(p50), 1),
        "p99_ms": round(1000 * float(p99), 1),
        "predictions_per_s": round(statuses[GOOD] / seconds, 1),
    }


# --- the measurements ---------------------------------------------------------------------------


def crowd(photos: dict[str, list[bytes]], options: argparse.Namespace) -> Iterator[dict]:
    """Yield the rows of a few clients with small and with large photos."""
    with served(*(["--precision", "int8"] if options.int8 else [])) as (port, process):
        measured(port, options.clients, 100, photos["640x480"], [])  # warm-up
        for kind, share in (("640x480", 1), ("12 megapixels", 4)):
            row = measured(port, options.clients, options.requests // share, photos[kind], [])
            yield {"photos": kind} | row | {"memory_mb": round(resident(process), 1)}


def long(photos: dict[str, list[bytes]], options: argparse.Namespace) -> Iterator[dict]:
    """Yield the row of many requests with some bad files."""
    with served(*(["--precision", "int8"] if options.int8 else [])) as (port, process):
        measured(port, options.clients, 1000, photos["640x480"], photos["bad"], 20)
        before = resident(process)
        row = measured(port, options.clients, options.requests, photos["640x480"], photos["bad"], 20)
        yield (
            {"photos": "640x480"}
            | row
            | {
                "memory_mb": round(resident(process), 1),
                "memory_before_mb": round(before, 1),
            }
        )


def flood(photos: dict[str, list[bytes]], options: argparse.Namespace) -> Iterator[dict]:
    """Yield the row of 200 clients at the same time."""
    with served(*(["--precision", "int8"] if options.int8 else [])) as (port, process):
        measured(port, 8, 100, photos["640x480"], [])
        row = measured(port, 200, options.requests, photos["640x480"], [])
        yield {"photos": "640x480"} | row | {"memory_mb": round(resident(process), 1)}


def browser(photos: dict[str, list[bytes]], options: argparse.Namespace) -> Iterator[dict]:
    """Yield the rows of the page in a browser."""
    from playwright.sync_api import sync_playwright

    with (
        served("--offline", *(["--precision", "int8"] if options.int8 else [])) as (port, _),
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_context(viewport={"width": 390, "height": 844}).new_page()
        begun = time.perf_counter()
        page.goto(f"http://localhost:{port}/")
        page.wait_for_selector("#file:not([disabled])", state="attached", timeout=120_000)
        ready = time.perf_counter() - begun
        for kind in ("640x480", "12 megapixels"):
            times = []
            for index, photo in enumerate([photos[kind][0], *photos[kind][:6]]):
                begun = time.perf_counter()
                file = {"name": f"{index}.jpg", "mimeType": "image/jpeg", "buffer": photo}
                page.set_input_files("#file", file)
                page.wait_for_selector("#answer:not([hidden])", timeout=60_000)
                times.append(time.perf_counter() - begun)
            yield {
                "photos": kind,
                "ready_s": round(ready, 2),
                "first_prediction_s": round(times[0], 2),
                "later_predictions_s": round(float(np.median(times[1:])), 3),
            }
        chromium.close()


MEASURED = {"crowd": crowd, "long": long, "flood": flood, "browser": browser}


if __name__ == "__main__":
    main()
