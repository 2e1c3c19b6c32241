"""Overhead of geovision over the libraries it uses: import, listing, model creation and forward pass.

Each pair is measured in alternating turns, and the median is reported, so that other work on the machine
affects both equally.

    python benchmarks/overheads.py [--repeats 9]

The script prints a table and appends its rows to ``benchmarks/overheads.csv``.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TABLE = Path(__file__).with_suffix(".csv")
GEOVISION = str(Path(sys.executable).with_name("geovision"))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="number of turns")
    repeats = parser.parse_args().repeats
    rows = [
        *processes(repeats),
        *building(repeats),
        *forward("cloud-mobilenetv2_100", repeats),
        *forward("cloud-resnet50", repeats),
    ]
    for what, value, bound in rows:
        print(f"{what:62} {value:8.3f}   at most {bound}")
    append(rows)


# --- whole processes ----------------------------------------------------------------------------


def processes(repeats: int) -> list[tuple[str, float, float]]:
    """Return the seconds of `import geovision` beyond an empty interpreter, and of `geovision list`."""
    code = "import sys, geovision; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    empty, imported, listed = alternate(
        repeats,
        lambda: run(sys.executable, "-c", "pass"),
        lambda: run(sys.executable, "-c", code),  # fails if the import has loaded torch
        lambda: run(GEOVISION, "list"),
    )
    return [
        ("import geovision, without the interpreter's start, s", imported - empty, 0.15),
        ("geovision list, whole process, s", listed, 0.5),
    ]


def run(*command: str) -> None:
    """Run a command."""
    subprocess.run(command, check=True, capture_output=True)


# --- building -----------------------------------------------------------------------------------


def building(repeats: int) -> list[tuple[str, float, float]]:
    """Return the ratio of `create` to `timm.create_model`, both newly initialized."""
    import timm

    import geovision

    theirs, ours = alternate(
        repeats,
        lambda: timm.create_model("resnet50", num_classes=11),
        lambda: geovision.create("cloud-resnet50"),
    )
    return [("create('cloud-resnet50') / timm.create_model('resnet50')", ours / theirs, 1.1)]


# --- a forward pass -----------------------------------------------------------------------------


def forward(name: str, repeats: int) -> list[tuple[str, float, float]]:
    """Return the ratio of `GeoModel.forward` to the bare network with its head, at batch 8, in float32."""
    import torch

    import geovision

    model = geovision.create(name)
    photos = torch.rand(8, 3, 224, 224)
    network, head = model.network.model, model.head.linear
    with torch.inference_mode():
        bare, whole = alternate(3 * repeats, lambda: head(network(photos)), lambda: model(photos))
    return [(f"{name}: forward / bare network, batch 8", whole / bare, 1.03)]


def alternate(repeats: int, *ways: Callable[[], object]) -> list[float]:
    """Return the median seconds of each function in alternating turns; the first turn is not counted."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(repeats + 1):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            if turn:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


# --- the table ----------------------------------------------------------------------------------


def append(rows: list[tuple[str, float, float]]) -> None:
    """Append the rows to the table."""
    import torch

    from geovision.provenance import git_commit

    new = not TABLE.exists()
    with TABLE.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(["date", "commit", "what", "value", "at_most", "threads", "torch"])
        for what, value, bound in rows:
            day = datetime.date.today().isoformat()
            writer.writerow(
                [
                    day,
                    git_commit() or "",
                    what,
                    round(value, 3),
                    bound,
                    torch.get_num_threads(),
                    torch.__version__,
                ]
            )


if __name__ == "__main__":
    main()
