"""Ablation of the units of MAUNet on digits: max, average or both poolings, upsampling, and dropout.

    python examples/studies/maunet_toy.py

The paper uses MNIST and CelebA. This script uses the 1797 digits of 8 x 8 cells in scikit-learn, and
super-resolves each from its area means of 2 x 2 cells. This is a different and smaller task: it compares the
units and does not reproduce the results of the paper. Four fifths are fitted on and one fifth is scored, with
several seeds. A seed determines the split, the initial weights and the order. The script writes a table and a
figure to --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rain_study import rounded, write_table
from scipy.stats import t
from sklearn import datasets as bundled
from torch import Tensor, nn

from geovision._atomic_io import write_files
from geovision.models.maunet import MAUNet

POOLINGS = ("mau", "max", "average")
UPSAMPLINGS = ("usu", "transposed", "interpolate")
DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.5)
USUAL: dict[str, Any] = {"pooling": "mau", "upsampling": "usu", "dropout": 0.1}


def main() -> None:
    """Run the study."""
    options = arguments()
    fine = torch.tensor(bundled.load_digits().images, dtype=torch.float32)[:, None] / 16
    rows = []
    for changed, value in variants():
        arch = USUAL | {changed: value}
        errors = [error(fine, arch, seed, options.epochs) for seed in range(options.seeds)]
        half = float(t.ppf(0.975, len(errors) - 1) * np.std(errors, ddof=1) / np.sqrt(len(errors)))
        mean = float(np.mean(errors))
        rows.append({"changed": changed, "value": value, **rounded({"rmse": mean, "half_width_95": half})})
        print(f"{changed:12} {value!s:12} rmse {mean:.4f} +- {half:.4f}", flush=True)
    usual = F.interpolate(F.avg_pool2d(fine, 2), scale_factor=2, mode="bicubic").clamp(0, 1)
    bicubic = float((usual - fine).square().mean().sqrt())
    rows.append({"changed": "none", "value": "bicubic", "rmse": round(bicubic, 4)})
    write_table(
        options.out / "table.csv", rows, [], digits=len(fine), seeds=options.seeds, epochs=options.epochs
    )
    figure = draw(rows)
    write_files(options.out, {"figure.png": lambda place: figure.savefig(place, format="png", dpi=130)})


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--epochs", type=int, default=12, help="training epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/maunet_toy"), help="output folder")
    return parser.parse_args()


def variants() -> Iterator[tuple[str, Any]]:
    """Yield the option of `USUAL` to change, and its value."""
    for name, values in (("pooling", POOLINGS), ("upsampling", UPSAMPLINGS), ("dropout", DROPOUTS)):
        for value in values:
            yield name, value


def error(fine: Tensor, arch: dict[str, Any], seed: int, epochs: int) -> float:
    """Train a network and return its RMSE on the digits held back."""
    torch.manual_seed(seed)
    order = torch.randperm(len(fine))
    held, own = fine[order[: len(fine) // 5]], fine[order[len(fine) // 5 :]]
    network = nn.Sequential(MAUNet(1, factor=2, widths=(16, 32), **arch), nn.Conv2d(16, 1, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    steps = epochs * (len(own) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in own[torch.randperm(len(own))].split(64)[: len(own) // 64]:
            loss = (network(F.avg_pool2d(batch, 2)) - batch).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        predicted = network(F.avg_pool2d(held, 2)).clamp(0, 1)
    return float((predicted - held).square().mean().sqrt())


def draw(rows: list[dict[str, Any]]) -> Any:
    """Plot the RMSE of each variant with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, name in zip(panels, ("pooling", "upsampling", "dropout"), strict=True):
        own = [row for row in rows if row["changed"] == name]
        at = np.arange(len(own))
        axes.errorbar(
            at, [row["rmse"] for row in own], [row["half_width_95"] for row in own], fmt="o", capsize=3
        )
        axes.set_xticks(at, [str(row["value"]) for row in own])
        axes.set_title(name)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("RMSE, mean of seeds with 95 % interval")
    return figure


if __name__ == "__main__":
    main()
