"""Sensitivity of polar low detection to swath edges, sea ice and land: a test of the claim of the paper.

    python examples/studies/polarlow_sensitivity.py --trained runs/polarlow_resolution --covers covers.csv
    python examples/studies/polarlow_sensitivity.py --trained runs/polarlow_resolution --generated 600

The script reads the predictions of `examples/studies/polarlow_resolution.py`, one set per pixel size. It
scores them by the fraction of the network's window outside the swath, under ice, or on land. The images
contain the swath, but not ice and land. For published images these come from a CSV file with the columns
``picture`` (file name), ``ice`` and ``land`` (fractions 0-1). Generated images are generated again, with
their ice and land. The script writes a table (`table.csv`: one row per pixel size, cover and range) and a
figure; intervals are over passes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from geovision import metrics
from geovision._atomic_io import write_files
from geovision.datasets.polar_lows import PolarLows
from geovision.datasets.synthetic import sar_sea
from geovision.evaluation import Predictions
from geovision.metrics.bootstrap import bootstrap
from geovision.models.loading import read
from geovision.provenance import git_commit
from geovision.registry import find_task

COVERS = ("swath", "ice", "land")
RANGES = ((0.0, 0.0), (0.0, 0.1), (0.1, 0.3), (0.3, 1.0))
"""Ranges of fractions, above the first and up to the second; the first range is zero alone."""

Fractions = dict[str, dict[str, float]]
"""Fraction of each cover, by file name."""


def main() -> None:
    """Run the study."""
    options = arguments()
    rows: list[dict[str, Any]] = []
    folders = [path.parent for path in options.trained.glob("*m/predictions.npz")]
    if not folders:
        sys.exit(f"{options.trained}: no predictions; run examples/studies/polarlow_resolution.py first")
    drawn = covers_of_generated(options) if options.generated else covers_of_file(options.covers)
    for folder in sorted(folders, key=lambda each: float(each.name[:-1])):
        predictions = Predictions.load(folder / "predictions.npz")
        pixel_size = float(folder.name[:-1])
        (seen,) = read(folder / "training" / "model").inputs
        ground = (seen.size[0] if seen.size else 0) * pixel_size
        swath = {name: {"swath": lost} for name, lost in outside_the_swath(predictions, pixel_size).items()}
        fractions = {name: swath[name] | drawn(name, ground) for name in swath}
        rows += table(predictions, fractions, pixel_size)
    save(rows, options.out or options.trained / "sensitivity")
    for row in rows:
        print(
            "{pixel_size:5g} m  {cover:5} {above:.1f}-{upto:.1f}  {pictures:4} images  "
            "F1 {positive_f1} [{low}, {high}]".format(**row)
        )


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True, help="output folder of polarlow_resolution.py")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--covers", type=Path, help="CSV file with the columns picture, ice and land")
    source.add_argument("--generated", type=int, metavar="N", help="same value as for polarlow_resolution.py")
    parser.add_argument(
        "--out", type=Path, help="output folder; default: sensitivity, next to the predictions"
    )
    return parser.parse_args()


# --- covers -------------------------------------------------------------------------------------


def outside_the_swath(predictions: Predictions, pixel_size: float) -> dict[str, float]:
    """Return the fraction of the network's window without data, by file name."""
    sources = [Path(source) for source in predictions.sources]
    root = sources[0].parents[2]
    data = PolarLows(root, pixel_size=pixel_size)
    place = {path.name: number for number, path in enumerate(data.paths)}
    return {
        source.name: 1 - float(data[place[source.name]]["valid"]["image"][0].float().mean())
        for source in sources
    }


def covers_of_file(path: Path | None) -> Any:
    """Return a function of the measured fractions of ice and land; without a file there are none."""
    known: Fractions = {}
    if path is not None:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                known[row["picture"]] = {name: float(row[name]) for name in ("ice", "land")}

    def of(name: str, ground: float) -> dict[str, float]:
        return known.get(name, {})

    return of


def covers_of_generated(options: Any) -> Any:
    """Return a function of the fractions of ice and land in the window of generated images.

    The images are generated again, in coarse pixels.
    """
    pixel_size = 4000.0
    scenes = {}
    for index in range(options.generated):
        path, scene = sar_sea.image_at(index, seed=0, pixel_size=pixel_size)
        scenes[Path(path).name] = scene

    def of(name: str, ground: float) -> dict[str, float]:
        scene = scenes[name]
        side = scene.land.shape[0]
        edge = round((side - ground / pixel_size) / 2)
        middle = slice(edge, side - edge)
        inside = scene.seen[middle, middle]
        return {
            "ice": float((scene.ice[middle, middle] & inside).mean()),
            "land": float((scene.land[middle, middle] & inside).mean()),
        }

    return of


# --- the table and the figure -------------------------------------------------------------------


def table(predictions: Predictions, fractions: Fractions, pixel_size: float) -> list[dict[str, Any]]:
    """Return a row for each cover and range with images."""
    f1 = metrics.create("positive_f1", find_task("polarlow").target)
    rows = []
    for cover in COVERS:
        values = torch.tensor([fractions[Path(s).name].get(cover, np.nan) for s in predictions.sources])
        for above, upto in RANGES:
            some = predictions.take((values == 0) if upto == 0 else (values > above) & (values <= upto))
            if not len(some):
                continue
            found = bootstrap({"f1": f1}, some.probabilities, some.labels, some.groups)["f1"]
            wrong = ~some.correct
            rows.append(
                {
                    "pixel_size": pixel_size,
                    "cover": cover,
                    "above": above,
                    "upto": upto,
                    "pictures": len(some),
                    "lows": int((some.labels == 1).sum()),
                    "errors": int(wrong.sum()),
                    "positive_f1": round(float(found.value), 4),
                    "low": round(float(found.low), 4),
                    "high": round(float(found.high), 4),
                    "commit": git_commit() or "",
                    "command": " ".join(sys.argv),
                }
            )
    return rows


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
    """Plot F1 against the covered fraction, one panel per cover and one line per pixel size."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, len(COVERS), sharey=True)
    sizes = sorted({row["pixel_size"] for row in rows})
    names = ["0"] + [f"{above:.0%}-{upto:.0%}" for above, upto in RANGES[1:]]
    for cover, axes in zip(COVERS, panels, strict=True):
        for shift, size in zip(np.linspace(-0.15, 0.15, len(sizes)), sizes, strict=True):
            own = [row for row in rows if (row["cover"], row["pixel_size"]) == (cover, size)]
            places = [RANGES.index((row["above"], row["upto"])) + shift for row in own]
            values = np.array([row["positive_f1"] for row in own])
            spread = [values - [row["low"] for row in own], [row["high"] for row in own] - values]
            axes.errorbar(places, values, yerr=spread, fmt="o-", capsize=3, label=f"{size:g} m")
        axes.set_xticks(range(len(RANGES)), names, fontsize=8)
        axes.set_xlim(-0.5, len(RANGES) - 0.5)
        axes.set_title({"swath": "outside the swath", "ice": "under ice", "land": "on land"}[cover])
        axes.set_ylim(0, 1.02)
    panels[0].set_ylabel("F1 of polar lows, test split")
    panels[-1].legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    main()
