"""Time and memory of MAUNet-Light and MAUNet: forward pass, training step and size on disk.

Both networks are those of the registry, newly initialized, and downscale by a factor of 4. Each case runs in
a separate process. Its memory is the increase of the largest resident set after the model is loaded. Turns
alternate, and the best counts.

    python benchmarks/light_speed.py

The script appends rows to ``light_speed.csv`` in its folder. It needs the extra train.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from memory import forget_peak, peak
from rows import append

import geovision
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit

NAMES = ("downscale-maunet", "downscale-maunet-light")
COARSE = (32, 32)
DAYS = {"one day": 1, "16 days": 16}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="number of turns of each case")
    parser.add_argument("--case", nargs=2, metavar=("MODEL", "WORK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measured(*options.case)))
        return
    for work in (*DAYS, "training step of 16"):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
        for _ in range(options.turns):
            for name in NAMES:
                done = subprocess.run(
                    [sys.executable, __file__, "--case", name, work],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
        best = {
            name: {key: min(each[key] for each in turns) for key in turns[0]} for name, turns in found.items()
        }
        for name, figures in best.items():
            append(
                Path(__file__).with_suffix(".csv"),
                {
                    "date": datetime.date.today().isoformat(),
                    "commit": git_commit() or "",
                    "model": name,
                    "work": work,
                    "coarse": "x".join(map(str, COARSE)),
                    **figures,
                    "time_over_teacher": round(figures["ms"] / best[NAMES[0]]["ms"], 3),
                    "memory_over_teacher": round(figures["mb"] / best[NAMES[0]]["mb"], 3),
                    "threads": torch.get_num_threads(),
                },
                show=True,
            )


def measured(name: str, work: str) -> dict[str, float]:
    """Return time and memory of a case, in this process."""
    torch.manual_seed(0)
    model = geovision.create(name)
    figures: dict[str, float] = {"parameters": model.num_parameters(), "mb_on_disk": on_disk(model)}
    count = DAYS.get(work, 16)
    rain = {model.inputs[0].name: torch.rand(count, len(model.inputs[0].channels), *COARSE) * 20}
    once = training_step(model, rain) if work.startswith("training") else prediction(model, rain)
    forget_peak()
    before = peak()
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        once()
        times.append(time.perf_counter() - begun)
    return figures | {"ms": round(1000 * min(times), 2), "mb": round(max(peak() - before, 0), 1)}


def prediction(model: GeoModel, rain: dict[str, torch.Tensor]) -> Callable[[], object]:
    """Return a function that runs one forward pass."""

    def once() -> object:
        with torch.inference_mode():
            return model(rain)

    return once


def training_step(model: GeoModel, rain: dict[str, torch.Tensor]) -> Callable[[], object]:
    """Return a function that runs one training step."""
    optimizer = torch.optim.Adam(model.train().parameters())

    def once() -> None:
        optimizer.zero_grad()
        model(rain).values.square().mean().backward()
        optimizer.step()

    return once


def on_disk(model: GeoModel) -> float:
    """Return the size of the weights on disk, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        saved = model.save(folder)
        return round(sum(path.stat().st_size for path in Path(saved).rglob("*.safetensors")) / 1e6, 2)


if __name__ == "__main__":
    main()
