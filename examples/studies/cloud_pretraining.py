"""Does ImageNet help to classify clouds? The paper's question (Ji et al. 2025), asked twice.

    python examples/studies/cloud_pretraining.py --data CCSN \
        --imagenet cloud-mobilenetv2_100=weights.safetensors

Each architecture, from scratch and from ImageNet, is cross-validated under folds that keep
near-duplicates together, and under a naive random split that does not: the difference is what leaks.
Copies leak whatever label they are filed under, so beside the score of all photos stands that of those
whose copy, under the naive split, is in the training set with the same label, or with another.
One table (`table.csv`, a row a training, with the command that made it) and one figure. An
architecture without `--imagenet NAME=FILE` takes timm's weights, which needs network; `--scratch-only`
leaves it out. What is finished is read back.
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
                    **told(copies, out),
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CCSN, as its authors ship it")
    parser.add_argument("--models", nargs="+", default=PAPER)
    parser.add_argument("--imagenet", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--scratch-only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--out", type=Path, default=Path("runs/cloud_pretraining"))
    options = parser.parse_args()
    options.size = (options.size, options.size)
    return options


def trainings(options: Any) -> Iterator[tuple[str, str, str | None]]:
    """(model, where it starts, backbone weights), the quickest to have first."""
    files = dict(pair.split("=", 1) for pair in options.imagenet)
    for name in options.models:
        if name not in options.scratch_only:
            yield name, "imagenet", files.get(name, "imagenet")
        yield name, "scratch", None


def recipe(start: str, options: Any) -> Recipe:
    """The task's recipe for this start, in as many epochs as asked for."""
    own = find_task("cloud").recipes["scratch" if start == "scratch" else "fine-tune"]
    # A running mean over hundreds of steps would lag behind a short training.
    return dataclasses.replace(own.with_epochs(options.epochs), ema=0.0)


def fold_numbers(data: CCSN, count: int, *, grouped: bool) -> list[int]:
    """The fold of each photo."""
    number = np.empty(len(data), dtype=int)
    for fold, (_, test) in enumerate(data.folds(k=count, seed=0, grouped=grouped)):
        number[test] = fold
    return number.tolist()


def copied(data: CCSN, fold: Sequence[int]) -> dict[str, np.ndarray]:
    """Photos that have a near-duplicate in another fold: with their own label alone, or with another."""
    same, other = np.zeros(len(data), dtype=bool), np.zeros(len(data), dtype=bool)
    members: dict[str, list[int]] = {}
    for place, unit in enumerate(data.groups):
        members.setdefault(unit, []).append(place)
    for group in members.values():
        for place in group:
            labels = {data.labels[each] for each in group if fold[each] != fold[place]}
            same[place] = labels == {data.labels[place]}
            other[place] = bool(labels - {data.labels[place]})
    return {"copy_same_label": same, "copy_other_label": other}


def told(copies: Mapping[str, np.ndarray], out: Path) -> dict[str, object]:
    """Part of such photos whose genus was told, and how many there are."""
    answers = Predictions.join(
        [Predictions.load(path) for path in sorted(out.glob("fold-*/predictions.npz"))]
    )
    assert answers.positions is not None
    right = (answers.predicted == answers.labels).numpy()[np.argsort(answers.positions.numpy())]
    return {
        f"top1_{name}": f"{right[photos].mean():.3f} of {photos.sum()}" for name, photos in copies.items()
    }


def save(rows: list[dict[str, Any]], out: Path) -> None:
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
    """Macro-F1 with its interval, a group of bars a training, grouped beside naive folds."""
    trained = list(dict.fromkeys((row["model"], row["start"]) for row in rows))
    figure = Figure(figsize=(1.5 + 1.6 * len(trained), 4), layout="constrained")
    axes = figure.add_subplot()
    for shift, (split, colour) in zip(
        (-0.2, 0.2), (("grouped", "#0072b2"), ("naive", "#e69f00")), strict=True
    ):
        chosen = [row for row in rows if row["split"] == split]
        places = [trained.index((row["model"], row["start"])) + shift for row in chosen]
        values = np.array([row["macro_f1"] for row in chosen])
        spread = [values - [row["low"] for row in chosen], [row["high"] for row in chosen] - values]
        axes.bar(places, values, 0.38, yerr=spread, capsize=3, color=colour, label=f"{split} folds")
    axes.set_xticks(
        range(len(trained)), [f"{name.removeprefix('cloud-')}\n{start}" for name, start in trained]
    )
    axes.set_ylabel("macro-F1, out of fold")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
