"""Effect of the pixel size on polar low detection, as in Grahn and Bianchi (2022).

    python examples/studies/polarlow_resolution.py --data POLARLOWS  # the published images
    python examples/studies/polarlow_resolution.py --generated 600 \
        --pixel-sizes 2000 4000 8000 --epochs 36 --lr 2e-3

The published network receives the same ground in pixels of 500 m, 1 km and 2 km. It is trained on the
training split with the published recipe, or with `--epochs` for fewer epochs, and scored on the test split.
The script writes a table (`table.csv`: one row per pixel size, with the command) and a figure, and reuses
finished rows. `examples/studies/polarlow_sensitivity.py` analyzes the same predictions further.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import geovision
from geovision._atomic_io import write_files, write_text
from geovision.datasets.polar_lows import PolarLows
from geovision.datasets.synthetic import sar_sea
from geovision.evaluation import collect_predictions, score_classes
from geovision.registry import find_task
from geovision.spec import Recipe

METRICS = ("positive_f1", "positive_precision", "positive_recall", "pr_auc", "roc_auc")
COUNTS = ("errors", "missed", "false_alarms")


def main() -> None:
    """Run the study."""
    options = arguments()
    root = options.data or generated(options)
    rows = []
    for pixel_size in sorted(options.pixel_sizes):
        rows.append(compare(pixel_size, root, options))
        save(rows, options.out)
        print("{pixel_size:g} m: F1 {positive_f1} [{low}, {high}], {errors} errors".format(**rows[-1]))


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of train and test, as published by the authors")
    source.add_argument(
        "--generated", type=int, metavar="N", help="number of generated images to use instead"
    )
    parser.add_argument("--model", default="polarlow-xception", help="name in the registry")
    parser.add_argument(
        "--pixel-sizes",
        nargs="+",
        type=float,
        default=[500.0, 1000.0, 2000.0],
        metavar="M",
        help="pixel sizes in m",
    )
    parser.add_argument(
        "--epochs", type=int, help="epochs of a schedule that decays to zero; default: published recipe"
    )
    parser.add_argument("--lr", type=float, help="peak learning rate, with --epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/polarlow_resolution"), help="output folder")
    return parser.parse_args()


def generated(options: Any) -> Path:
    """Return the folder of generated images in the smallest pixel size, with seed 0."""
    root = options.out / f"generated-{options.generated}-{min(options.pixel_sizes):g}m"
    if not root.is_dir():
        sar_sea.write(root, options.generated, seed=0, pixel_size=min(options.pixel_sizes))
    return root


def compare(pixel_size: float, root: Path, options: Any) -> dict[str, Any]:
    """Train and score at one pixel size; return the table row."""
    out = options.out / f"{pixel_size:g}m"
    kept = out / "row.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    torch.manual_seed(0)
    model = geovision.create(options.model, pixel_size=pixel_size)
    train, test = (PolarLows(root, split=split, pixel_size=pixel_size) for split in ("train", "test"))
    begun = time.perf_counter()
    geovision.train(model, train, recipe=recipe(options), out=out / "training", resume=True)
    seconds = time.perf_counter() - begun
    predictions = collect_predictions(model, test)
    predictions.save(out / "predictions.npz")
    report = score_classes(predictions, test, provenance={"model": model.spec.name})
    report.save(out / "report")
    figures = report.metrics
    row = {
        "pixel_size": pixel_size,
        "model": model.spec.name,
        **{name: round(figures[name].value, 4) for name in METRICS},
        "low": round(figures["positive_f1"].low, 4),
        "high": round(figures["positive_f1"].high, 4),
        **{name: int(figures[name].value) for name in COUNTS},
        "pictures": len(test),
        "passes": len(set(test.groups)),
        "data": f"{options.generated} generated" if options.generated else "published",
        "steps": model.training_record["steps"],
        "training_seconds": round(seconds),
        "commit": report.provenance.get("commit", ""),
        "command": " ".join(sys.argv),
    }
    write_text(kept, json.dumps(row))
    return row


def recipe(options: Any) -> Recipe:
    """Return the published recipe, or a shorter one with the options of the command line."""
    own = find_task("polarlow").recipes["published"]
    if not options.epochs:
        return own
    (stage,) = own.stages
    shorter = dataclasses.replace(
        stage, epochs=options.epochs, lr=options.lr or stage.lr, schedule="cosine", warmup=1
    )
    return dataclasses.replace(own, stages=(shorter,), patience=0)


# --- table and figure ---------------------------------------------------------------------------


def save(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the table and the figure."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_files(
        out, {"table.csv": write, "figure.png": lambda path: draw(rows).savefig(path, format="png", dpi=150)}
    )


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Plot F1 with its interval over passes, precision and recall by pixel size."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    values = np.array([row["positive_f1"] for row in rows])
    spread = [values - [row["low"] for row in rows], [row["high"] for row in rows] - values]
    axes.errorbar(places, values, yerr=spread, fmt="o", capsize=4, color="#0072b2", label="F1")
    for name, color, mark, aside in (
        ("positive_precision", "#e69f00", "^", -0.12),
        ("positive_recall", "#009e73", "v", 0.12),
    ):
        scores = [row[name] for row in rows]
        axes.plot(places + aside, scores, mark, color=color, label=name.partition("_")[2])
    axes.set_xticks(places, [f"{row['pixel_size']:g} m" for row in rows])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_ylim(max(min(row["low"] for row in rows) - 0.15, 0), 1.01)
    axes.set_xlabel("pixel size")
    axes.set_ylabel("score of polar lows, test split")
    axes.legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    main()
