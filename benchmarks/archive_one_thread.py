"""Processor time per frame of an archive, compared with two common methods, each with one thread.

The methods are those of `archive_speed.py`: a plain loop, the pipeline of transformers, and `predict_archive`
in this process, which also writes a table. Other work on the machine changes these times little.

    python benchmarks/archive_one_thread.py

The script appends rows to ``archive_one_thread.csv`` in its folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import torch
from archive_speed import archives, arguments, described, pipeline, plain_loop, run, seconds
from rows import append

from geovision.inference import ExecutorConfig
from geovision.models.geomodel import GeoModel


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__ or "", frames=(256,), turns=3)
    torch.set_num_threads(1)
    for model, source, root in archives(options):
        append(options.out / "archive_one_thread.csv", one_thread(model, source, root, options), show=True)


def one_thread(model: GeoModel, source: Path, root: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return ms of processor time per frame for each method, in this process."""
    files = sorted(source.glob("*.png"))
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_loop(model, files),
        "transformers": lambda: pipeline(model, files),
        "archive": lambda: run(model, source, root, ExecutorConfig(0), precision=options.precision),
    }
    if importlib.util.find_spec("transformers") is None:
        del ways["transformers"]
    best = dict.fromkeys(("plain", "transformers", "archive"), float("inf"))
    for _ in range(options.turns):
        for name, way in ways.items():
            cost = 1000 * seconds(way, time.process_time) / len(files)
            best[name] = min(best[name], cost)
            print(f"{model.spec.name}, {name}: {cost:.1f} ms", flush=True)
    return described(model, len(files), options.turns, options.precision) | {
        **{f"{name}_ms": round(cost, 2) if cost < float("inf") else "" for name, cost in best.items()},
        "better_over_archive": round(min(best["plain"], best["transformers"]) / best["archive"], 2),
    }


if __name__ == "__main__":
    main()
