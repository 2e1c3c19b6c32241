"""Comparison of classifiers of auroral forms on one split, as in Kvammen et al. (2020).

    python examples/studies/aurora_comparison.py --data KVAMMEN  # the published data
    python examples/studies/aurora_comparison.py --generated 784 --size 64 --epochs 8 --batch-size 16

Every model is trained on the training split of the data set and scored on its test split. Networks start from
scratch, and also from other weights if `--backbone-weights MODEL=FILE` gives a file (or `MODEL=imagenet`,
with network access). The baselines of the paper use pixels, and features if they have such weights. The
script writes a table (`table.csv`: one row per training, macro-averaged precision first, with the command)
and a figure. It reuses finished rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import geovision
from geovision import registry
from geovision._atomic_io import write_files, write_text
from geovision.datasets.image_classification import ImageDataset
from geovision.datasets.kvammen import KvammenAurora
from geovision.evaluation import Report
from geovision.spec import Recipe

METRICS = ("macro_precision", "macro_recall", "macro_f1")


def main() -> None:
    """Run the study."""
    options = arguments()
    root = options.data or generated(options)
    rows, matrices = [], {}
    for name, start, weights in trainings(options):
        row, matrix = compare(name, start, weights, root, options)
        rows.append(row)
        matrices[f"{name.removeprefix('aurora-')}\n{start}"] = matrix
        save(rows, matrices, options.out)
        print(f"{name}, {start}: macro precision {row['macro_precision']} [{row['low']}, {row['high']}]")


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data", type=Path, help="folder of TrainingImages and TestImages, as published by the authors"
    )
    source.add_argument(
        "--generated", type=int, metavar="N", help="number of generated frames to use instead"
    )
    own = [name for name in registry.list_models(task="aurora") if name != "aurora-tiny"]
    parser.add_argument("--models", nargs="+", default=own, help="names in the registry")
    parser.add_argument(
        "--backbone-weights", nargs="*", default=[], metavar="MODEL=FILE", help="pretrained backbones"
    )
    parser.add_argument("--epochs", type=int, help="training epochs; default: as in each recipe")
    parser.add_argument("--batch-size", type=int, help="training batch size; default: as in each recipe")
    parser.add_argument("--size", type=int, help="height and width in pixels; default: as in each model")
    parser.add_argument("--out", type=Path, default=Path("runs/aurora_comparison"), help="output folder")
    return parser.parse_args()


def generated(options: Any) -> Path:
    """Return the folder of the generated frames, which are written at the first call."""
    root = options.out / f"generated-{options.generated}"
    if not root.is_dir():
        KvammenAurora.synthetic(root, options.generated, seed=0)
    return root


def trainings(options: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yield model, initialization and backbone weights of each training."""
    files = dict(pair.split("=", 1) for pair in options.backbone_weights)
    for name in options.models:
        closed = registry.find_model(name).fit == "closed_form"
        on_pixels = not registry.find_model(name).model_args.get("backbone")
        if on_pixels:
            yield name, "pixels", None
        if name in files:
            yield name, "features" if closed else "imagenet", files[name]
        if not closed:
            yield name, "scratch", None


def compare(
    name: str, start: str, weights: str | None, root: Path, options: Any
) -> tuple[dict[str, Any], np.ndarray]:
    """Train and score one model; return its table row and its confusion matrix."""
    out = options.out / f"{name}-{start}"
    kept = out / "row.json"
    if kept.is_file():
        row = json.loads(kept.read_text())
        return row, np.array(row.pop("confusion"))
    torch.manual_seed(0)
    size = (options.size, options.size) if options.size else None
    model = geovision.create(name, backbone_weights=weights, size=size)
    train, test = (loaded(root, split, model) for split in ("train", "test"))
    begun = time.perf_counter()
    geovision.train(model, train, recipe=recipe(name, start, options), out=out / "training", resume=True)
    seconds = time.perf_counter() - begun
    report = geovision.evaluate(model, test)
    report.save(out / "report")
    row = described(name, start, report, options) | {"training_seconds": round(seconds)}
    write_text(kept, json.dumps(row | {"confusion": report.confusion.tolist()}))
    return row, report.confusion


def loaded(root: Path, split: str, model: Any) -> ImageDataset:
    """Return a split in the input size of a model."""
    data = geovision.load_dataset("kvammen", root, split=split, size=model.inputs[0].size)
    assert isinstance(data, ImageDataset)
    return data


def recipe(name: str, start: str, options: Any) -> Recipe:
    """Return the recipe of a training, with the options of the command line."""
    known = registry.find_task("aurora").available_recipes(registry.find_model(name))
    chosen = known["scratch" if start == "scratch" else "fine-tune"]
    if options.epochs:
        chosen = chosen.with_epochs(options.epochs)
    if options.batch_size:
        stages = tuple(replace(stage, batch_size=options.batch_size) for stage in chosen.stages)
        chosen = replace(chosen, stages=stages)
    return chosen


def described(name: str, start: str, report: Report, options: Any) -> dict[str, Any]:
    """Return the table row of a report."""
    first = report.metrics[METRICS[0]]
    own = {metric: round(report.metrics[metric].value, 4) for metric in METRICS}
    published = [r.value for r in registry.find_task("aurora").published if r.model == name]
    return {
        "model": name,
        "start": start,
        METRICS[0]: own[METRICS[0]],
        "low": round(first.low, 4),
        "high": round(first.high, 4),
        METRICS[1]: own[METRICS[1]],
        METRICS[2]: own[METRICS[2]],
        "published": published[0] if published and start != "pixels" else "",
        "data": f"{options.generated} generated" if options.generated else "published",
        "epochs": options.epochs or "",
        "commit": report.provenance.get("commit", ""),
        "command": " ".join(sys.argv),
    }


# --- table and figure ---------------------------------------------------------------------------


def save(rows: list[dict[str, Any]], matrices: dict[str, np.ndarray], out: Path) -> None:
    """Write the table and the figure."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    figure = draw(rows, matrices)
    write_files(
        out, {"table.csv": write, "figure.png": lambda path: figure.savefig(path, format="png", dpi=150)}
    )


def draw(rows: list[dict[str, Any]], matrices: dict[str, np.ndarray]) -> Figure:
    """Plot macro precision with its interval, and the confusion matrix of each model below."""
    count = len(rows)
    figure = Figure(figsize=(max(5, 2.1 * count), 6), layout="constrained")
    grid = figure.add_gridspec(2, count, height_ratios=(3, 2))
    axes = figure.add_subplot(grid[0, :])
    values = np.array([row["macro_precision"] for row in rows])
    spread = [values - [row["low"] for row in rows], [row["high"] for row in rows] - values]
    axes.bar(range(count), values, 0.6, yerr=spread, capsize=3, color="#0072b2")
    axes.set_xticks(range(count), list(matrices))
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(0, 1)
    axes.axhline(1 / 7, color="0.5", lw=0.8, ls=":", label="chance")
    axes.set_ylabel("macro precision, test split")
    axes.legend(frameon=False, loc="upper left")
    codes = registry.find_task("aurora").target.classes  # type: ignore[union-attr]
    for place, matrix in enumerate(matrices.values()):
        below = figure.add_subplot(grid[1, place])
        below.imshow(matrix / matrix.sum(1, keepdims=True).clip(1), vmin=0, vmax=1, cmap="Blues")
        below.set_xticks([])
        below.set_yticks(range(len(codes)), codes if place == 0 else [], fontsize=7)
        below.set_xlabel("predicted", fontsize=8)
        if place == 0:
            below.set_ylabel("true")
    return figure


if __name__ == "__main__":
    main()
