"""Distillation of MAUNet into MAUNet-Light, compared with MAUNet and with training without a teacher.

    python examples/studies/maunet_light.py --data ../shared/data --test-winters 1996-1998

The data are winter precipitation over Iberia, as in iberia_downscaling.py. For each seed MAUNet is trained,
then MAUNet-Light on the observations alone, and again on the observations and on the predictions of that
MAUNet for the training days. The table contains every training, and means over the seeds with 95 % intervals
(Student's t) of the RMSE and of its paired differences. The script writes a table and a figure to --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from iberia_downscaling import winters
from rain_study import SMALL, basic, whole, write_table
from scipy.stats import t

import geovision
from geovision._atomic_io import write_files, write_text
from geovision.datasets.iberia import SOURCES

WIDTHS = {"maunet": [8, 16, 32], "maunet-light": [6, 12, 25]}
KINDS = ("maunet", "maunet-light", "maunet-light, refined")


def main() -> None:
    """Run the study."""
    options = arguments()
    root = options.data / "iberia"
    training, test = winters(root, options.test_winters)
    rows = []
    for seed in range(options.seeds):
        for kind in KINDS:
            rows.append(one(kind, seed, training, test, options))
            print(rows[-1], flush=True)
    rows += summary(rows)
    facts = {"test_winters": options.test_winters, "epochs": options.epochs, "share": options.share}
    files = [root / SOURCES[name].file for name in ("eobs.pr", "ncep.pr")]
    write_table(options.out / "table.csv", rows, files, **facts)
    figure = draw(rows)
    write_files(options.out, {"figure.png": lambda place: figure.savefig(place, format="png", dpi=130)})


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains iberia/")
    parser.add_argument("--test-winters", default="1996-1998", metavar="FIRST-LAST", help="or one year")
    parser.add_argument("--seeds", type=int, default=3, help="number of training seeds")
    parser.add_argument("--epochs", type=int, default=24, help="training epochs")
    parser.add_argument("--share", type=float, default=0.5, help="weight of the teacher in the loss, 0 to 1")
    parser.add_argument("--out", type=Path, default=Path("runs/maunet_light"), help="output folder")
    return parser.parse_args()


def one(kind: str, seed: int, training: Any, test: Any, options: Any) -> dict[str, Any]:
    """Train and score one network with one seed; reuse a finished row."""
    folder = options.out / f"{kind.replace(', ', '-')}-{seed}"
    kept = folder / "row.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    name = kind.split(",")[0]
    torch.manual_seed(seed)
    arch = {"widths": WIDTHS[name], "factor": 2, "dropout": 0.0}
    model = geovision.create(f"downscale-{name}", **training.model_kwargs(), model_args=arch)
    recipe = dataclasses.replace(SMALL.with_epochs(options.epochs), seed=seed)
    begun = time.perf_counter()
    if "refined" in kind:
        teacher = geovision.load(options.out / f"maunet-{seed}" / "model")
        geovision.distill(teacher, model, training, alpha=options.share, recipe=recipe, progress=False)
    else:
        geovision.train(model, training, recipe=recipe, progress=False)
    seconds = time.perf_counter() - begun
    model.save(folder / "model")
    row = {"seed": seed, "parameters": model.num_parameters(), "seconds": round(seconds, 1)}
    row = basic(kind, *whole(model, test)) | row
    write_text(kept, json.dumps(row))
    return row


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over the seeds with intervals, and paired differences in % of the RMSE."""
    errors = {kind: np.array([row["rmse"] for row in rows if row["method"] == kind]) for kind in KINDS}
    teacher, alone, refined = errors.values()
    found = [
        {"method": f"{kind}, mean", "rmse": mean, "half_width_95": half}
        for kind, each in errors.items()
        for mean, half in [interval(each)]
    ]
    for name, difference in (
        ("refined over maunet, percent", 100 * (refined / teacher - 1)),
        ("alone over maunet, percent", 100 * (alone / teacher - 1)),
        ("refined over alone, percent", 100 * (refined / alone - 1)),
    ):
        mean, half = interval(difference)
        found.append({"method": name, "percent": mean, "half_width_95": half})
    return found


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean, and half of the width of its 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return round(float(values.mean()), 4), round(float(half), 4)


def draw(rows: list[dict[str, Any]]) -> Any:
    """Plot the RMSE of each training, and the mean of each method with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for at, kind in enumerate(KINDS):
        errors = [row["rmse"] for row in rows if row["method"] == kind]
        mean, half = interval(np.array(errors))
        axes.plot([at] * len(errors), errors, "o", color="0.6", markersize=4)
        axes.errorbar(at + 0.12, mean, half, fmt="s", capsize=4, color="tab:blue")
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.set_ylabel("RMSE, mm/day; mean with 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
