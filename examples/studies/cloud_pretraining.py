"""Effect of ImageNet pretraining on cloud classification (Ji et al. 2025), under two kinds of folds.

    python examples/studies/cloud_pretraining.py --data CCSN \
        --imagenet cloud-mobilenetv2_100=weights.safetensors

Each architecture is cross-validated from scratch and from ImageNet weights. Grouped folds keep
near-duplicates together; a naive random split does not, so the difference is the leakage. Copies leak with
any label. The table therefore contains the score of all photos, and the scores of photos that have a copy in
the training set of the naive split, with the same label or with another one.

The script writes a table (`table.csv`: one row per training, with the command) and a figure, and reuses
finished folds. An architecture without `--imagenet NAME=FILE` uses the weights of timm, which needs network
access; `--scratch-only` excludes these weights.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import geovision
from geovision._atomic_io import write_files, write_text
from geovision.datasets.ccsn import CCSN
from geovision.evaluation import Predictions, cross_validate
from geovision.registry import find_task
from geovision.spec import Recipe

SPLITS = ("grouped", "naive")
PAPER = ("cloud-resnet50", "cloud-mobilenetv2_100", "cloud-vit")
PUBLISHED = {
    ("cloud-resnet50", "scratch"): 0.85,
    ("cloud-mobilenetv2_100", "scratch"): 0.87,
    ("cloud-vit", "scratch"): 0.79,
    ("cloud-vit", "imagenet"): 0.96,
}


def main() -> None:
    """Run the study."""
    options = arguments()
    data = geovision.load_dataset("ccsn", options.data)
    assert isinstance(data, CCSN)
    rows = []
    folds = {split: fold_numbers(data, options.folds, grouped=split == "grouped") for split in SPLITS}
    copies = copied(data, folds["naive"])
    for name, start, weights in trainings(options):
        for split in SPLITS:
            out = options.out / f"{name}-{start}-{split}"
            report = cross_validate(
                name,
                data,
                folds=folds[split],
                recipe=recipe(start, options),
                backbone_weights=weights,
                size=options.size,
                out=out,
            )
            figure = report.metrics["macro_f1"]
            rows.append(
                {
                    "model": name,
                    "start": start,
                    "split": split,
                    "macro_f1": round(figure.value, 4),
                    "low": round(figure.low, 4),
                    "high": round(figure.high, 4),
                    "top3": round(report.metrics["accuracy(top_k=3)"].value, 4),
                    **copy_accuracy(copies, out),
                    "published": PUBLISHED.get((name, start), ""),
                    "folds": options.folds,
                    "epochs": options.epochs,
                    "size": options.size[0],
                    "commit": report.provenance.get("commit", ""),
                    "command": " ".join(sys.argv),
                }
            )
            save(rows, options.out)
            print(f"{name} from {start}, {split} folds: macro-F1 {figure}")


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of CCSN, as published by its authors"
    )
    parser.add_argument("--models", nargs="+", default=PAPER, help="names in the registry")
    parser.add_argument("--imagenet", nargs="*", default=[], metavar="NAME=FILE", help="ImageNet weights")
    parser.add_argument(
        "--scratch-only", nargs="*", default=[], metavar="NAME", help="models without ImageNet weights"
    )
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    parser.add_argument("--epochs", type=int, default=30, help="training epochs")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--out", type=Path, default=Path("runs/cloud_pretraining"), help="output folder")
    options = parser.parse_args()
    options.size = (options.size, options.size)
    return options


def trainings(options: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yield model, initialization and backbone weights, the fastest first."""
    files = dict(pair.split("=", 1) for pair in options.imagenet)
    for name in options.models:
        if name not in options.scratch_only:
            yield name, "imagenet", files.get(name, "imagenet")
        yield name, "scratch", None


def recipe(start: str, options: Any) -> Recipe:
    """Return the task's recipe for an initialization, with the requested number of epochs."""
    own = find_task("cloud").recipes["scratch" if start == "scratch" else "fine-tune"]
    # An average of the weights over hundreds of steps would lag behind a short training.
    return dataclasses.replace(own.with_epochs(options.epochs), ema=0.0)


def fold_numbers(data: CCSN, count: int, *, grouped: bool) -> list[int]:
    """Return the fold of each photo."""
    number = np.empty(len(data), dtype=int)
    for fold, (_, test) in enumerate(data.folds(k=count, seed=0, grouped=grouped)):
        number[test] = fold
    return number.tolist()


def copied(data: CCSN, fold: Sequence[int]) -> dict[str, np.ndarray]:
    """Return masks of photos with a near-duplicate in another fold, with equal and with other labels."""
    same, other = np.zeros(len(data), dtype=bool), np.zeros(len(data), dtype=bool)
    members: dict[str, list[int]] = {}
    for place, group_name in enumerate(data.groups):
        members.setdefault(group_name, []).append(place)
    for group in members.values():
        for place in group:
            labels = {data.labels[each] for each in group if fold[each] != fold[place]}
            same[place] = labels == {data.labels[place]}
            other[place] = bool(labels - {data.labels[place]})
    return {"copy_same_label": same, "copy_other_label": other}


def copy_accuracy(copies: Mapping[str, np.ndarray], out: Path) -> dict[str, object]:
    """Return the accuracy on photos with copies, and their number."""
    predictions = Predictions.join(
        [Predictions.load(path) for path in sorted(out.glob("fold-*/predictions.npz"))]
    )
    assert predictions.positions is not None
    right = (predictions.predicted == predictions.labels).numpy()[np.argsort(predictions.positions.numpy())]
    return {
        f"top1_{name}": f"{right[photos].mean():.3f} of {photos.sum()}" for name, photos in copies.items()
    }


def save(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the table and the figure."""
    lines: list[str] = []
    writer = csv.DictWriter(_Lines(lines), fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "table.csv", "".join(lines))
    write_files(out, {"figure.png": lambda path: draw(rows).savefig(path, format="png", dpi=150)})


class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Plot macro-F1 with its interval, one group of bars per training, for both kinds of folds."""
    trained = list(dict.fromkeys((row["model"], row["start"]) for row in rows))
    figure = Figure(figsize=(1.5 + 1.6 * len(trained), 4), layout="constrained")
    axes = figure.add_subplot()
    for shift, (split, color) in zip(
        (-0.2, 0.2), (("grouped", "#0072b2"), ("naive", "#e69f00")), strict=True
    ):
        chosen = [row for row in rows if row["split"] == split]
        places = [trained.index((row["model"], row["start"])) + shift for row in chosen]
        values = np.array([row["macro_f1"] for row in chosen])
        spread = [values - [row["low"] for row in chosen], [row["high"] for row in chosen] - values]
        axes.bar(places, values, 0.38, yerr=spread, capsize=3, color=color, label=f"{split} folds")
    axes.set_xticks(
        range(len(trained)), [f"{name.removeprefix('cloud-')}\n{start}" for name, start in trained]
    )
    axes.set_ylabel("macro-F1, out of fold")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
