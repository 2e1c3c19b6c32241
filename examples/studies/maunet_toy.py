"""What the units of MAUNet do: maxima alone, averages alone, and both; and how much is dropped.

    python examples/studies/maunet_toy.py

The paper shows this on MNIST and CelebA. Here it is the 1797 digits of 8 x 8 cells that scikit-learn
bundles, each made fine again from its area means of 2 x 2 cells: another and smaller task, which says how
the units compare, and nothing about the paper's figures. Four fifths are fitted on, one fifth is scored,
from several seeds; a seed draws the split, the first weights and the order. Writes a table and a figure to
--out.
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("runs/maunet_toy"))
    return parser.parse_args()


def variants() -> Iterator[tuple[str, Any]]:
    """What is changed of `USUAL`, and to what."""
    for name, values in (("pooling", POOLINGS), ("upsampling", UPSAMPLINGS), ("dropout", DROPOUTS)):
        for value in values:
            yield name, value


def error(fine: Tensor, arch: dict[str, Any], seed: int, epochs: int) -> float:
    """Root of the mean squared error on the digits held back."""
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
        said = network(F.avg_pool2d(held, 2)).clamp(0, 1)
    return float((said - held).square().mean().sqrt())


def draw(rows: list[dict[str, Any]]) -> Any:
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
    panels[0].set_ylabel("RMSE, 95 % of seeds' mean")
    return figure


if __name__ == "__main__":
    main()
