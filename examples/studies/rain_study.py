"""What the studies of rain share: models trained and scored one after another, a table, and a figure.

Not run by itself; see iberia_downscaling.py and its like. What is finished is read back, so that a study that
was stopped goes on.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import geovision
from geovision import registry
from geovision._atomic_io import sha256, write_files, write_text
from geovision.datasets.base import GeoDataset
from geovision.evaluation import DenseReport, predict_batches
from geovision.metrics.functional import extremes, regression
from geovision.models.geomodel import GeoModel
from geovision.provenance import run_provenance
from geovision.spec import Recipe, Stage

QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Of each cell, averaged over cells, that figures compare."""

SMALL = Recipe(
    stages=(Stage(epochs=12, batch_size=32, lr=2e-3, weight_decay=0.01, warmup=2, max_grad_norm=1.0),),
    precision="32-true",
)
"""For networks that a few winters are enough for: our choice."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of a study.

    Args:
        label: As it stands in the table.
        model: Of the registry.
        options: Of `geovision.create`, beside those of the data.
        predictors: Beside rain; None: all that the data give.
        recipe: None: the model's own.
        seed: Of the training.
    """

    label: str
    model: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    predictors: tuple[str, ...] | None = None
    recipe: Recipe | None = None
    seed: int = 0


def folder_of(entry: Entry, out: Path) -> Path:
    return out / entry.label.replace(" ", "_").replace("/", "_")


def fitted(entry: Entry, training: GeoDataset, out: Path) -> tuple[GeoModel, float]:
    """The model of an entry, trained or read back, and the seconds that it took."""
    folder = folder_of(entry, out)
    kept = folder / "seconds.json"
    if kept.is_file():
        return geovision.load(folder / "model"), float(json.loads(kept.read_text()))
    torch.manual_seed(entry.seed)
    model = geovision.create(entry.model, **{**training.model_kwargs(), **entry.options})
    recipe = dataclasses.replace(entry.recipe or model.recipe, seed=entry.seed)
    begun = time.perf_counter()
    if model.spec.fit != "none":
        geovision.train(model, training, recipe=recipe, progress=False)
    seconds = time.perf_counter() - begun
    model.save(folder / "model")
    write_text(kept, json.dumps(round(seconds, 1)))
    return model, seconds


def with_predictors(data: Any, entry: Entry) -> Any:
    return data if entry.predictors is None else data.with_predictors(entry.predictors)


Line = tuple[list[float], list[float]]
"""Quantiles of answers, and of truths."""


COLUMNS = {
    "csi(threshold=1)": "csi_1",
    "csi(threshold=10)": "csi_10",
    "ets(threshold=10)": "ets_10",
    "pod(threshold=10)": "pod_10",
    "far(threshold=10)": "far_10",
    "fss(threshold=10, scale=5)": "fss_10_5",
    "quantile_bias(q=0.95)": "p95_bias",
    "quantile_bias(q=0.99)": "p99_bias",
    "quantile_bias(q=0.999)": "p999_bias",
    "wet_day_frequency_bias": "r01_bias",
    "psnr(data_range=100)": "psnr",
    "ssim(data_range=100)": "ssim",
    "ms_ssim(data_range=100)": "ms_ssim",
}
"""Metric to the short name of its column in the tables of the studies."""


def scored(entry: Entry, model: GeoModel, test: GeoDataset, seconds: float) -> tuple[dict[str, Any], Line]:
    """The row of a table by the metrics of the task, with an interval of the error over units; and quantiles
    of answers and truths."""
    report = geovision.evaluate(model, test, n_bootstrap=200)
    assert isinstance(report, DenseReport)
    assert report.predictions is not None
    error = report.metrics["rmse"]
    row: dict[str, Any] = {"method": entry.label, "model": entry.model, "parameters": model.num_parameters()}
    row |= {"seconds": round(seconds, 1), "rmse": error.value, "rmse_low": error.low, "rmse_high": error.high}
    row |= {COLUMNS.get(name, name): each.value for name, each in report.metrics.items() if name != "rmse"}
    return rounded(row), quantiles(*report.predictions)


Further = Callable[[GeoModel, GeoDataset], dict[str, Any]]
"""What a study adds to a row, of the model and the data to score."""


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def quantiles(prediction: Tensor, truth: Tensor) -> Line:
    """Quantiles in time, averaged over the cells that have a truth."""
    known = torch.isfinite(truth).any(0)
    said, true = (
        [float(extremes.quantile(each, q)[known].nanmean()) for q in QUANTILES]
        for each in (prediction, truth)
    )
    return said, true


def whole(model: GeoModel, data: GeoDataset) -> tuple[Tensor, Tensor]:
    """Answers and truths of all samples ``(sample, 1, y, x)``."""
    parts = list(predict_batches(model, data))
    return torch.cat([each.prediction for each in parts]), torch.cat([each.truth for each in parts])


def basic(label: str, prediction: Tensor, truth: Tensor) -> dict[str, Any]:
    """Error, correlation and tail of answers that no model of the registry gives as they are."""
    return rounded(
        {
            "method": label,
            "rmse": float(regression.rmse(prediction, truth)),
            "correlation": float(regression.correlation(prediction, truth)),
            "p99_bias": float(extremes.quantile_bias(prediction, truth, 0.99)),
        }
    )


def compare(
    entries: Sequence[Entry], training: Any, test: Any, out: Path, further: Further | None = None
) -> Iterator[tuple[Entry, dict[str, Any], Line]]:
    """Train and score entry by entry, and say so; what was scored before is read back."""
    for entry in entries:
        kept = folder_of(entry, out) / "row.json"
        if kept.is_file():
            row, line = json.loads(kept.read_text())
        else:
            model, seconds = fitted(entry, with_predictors(training, entry), out)
            asked = with_predictors(test, entry)
            row, line = scored(entry, model, asked, seconds)
            row |= further(model, asked) if further else {}
            write_text(kept, json.dumps([row, line]))
        interval = f"[{row['rmse_low']:.3f}, {row['rmse_high']:.3f}]"
        print(
            f"{entry.label:32} rmse {row['rmse']:.3f} {interval}  r {row['correlation']:.3f}  "
            f"P99 {row['p99_bias']:+.2f}  {row['seconds']:.0f} s",
            flush=True,
        )
        yield entry, row, line


def networks(task: str, widths: Sequence[int], factor: int) -> list[Entry]:
    """MAUNet, its light one and its peers, of the size that few data are enough for.

    Without dropout and for 24 epochs, which was best on the winters 1990 to 1995: the largest of four values
    is larger where some were dropped and the rest scaled up, so that a network with pooling by the largest
    trains on more than it is given afterwards, and its answers are too dry.
    """
    recipe = SMALL.with_epochs(24)
    light = [max(round(0.78 * width), 1) for width in widths]
    arches: dict[str, dict[str, Any]] = {
        "maunet": {"widths": list(widths), "dropout": 0.0},
        "maunet-light": {"widths": light, "dropout": 0.0},
        "unet": {"widths": list(widths), "dropout": 0.0},
        "edsr": {"width": 2 * widths[0], "blocks": 4},
        "srdrn": {"width": 2 * widths[0], "blocks": 4, "finest": 2 * widths[0]},
        "srcnn": {},
    }
    return [
        Entry(name, f"{task}-{name}", {"model_args": {"factor": factor, **arch}}, recipe=recipe)
        for name, arch in arches.items()
    ]


def like_maunet(
    widths: Sequence[int], factor: int, *, seeds: int, epochs: int, batch_size: int = 32
) -> list[Entry]:
    """MAUNet, a plain U-Net of as many parameters, and SRCNN as published, from several seeds.

    Each learns what bicubic interpolation leaves: with few days none finds by itself that the fine field is
    nearly the coarse one. MAUNet is there without as well.
    """
    recipe = SMALL.with_epochs(epochs)
    recipe = dataclasses.replace(
        recipe, stages=(dataclasses.replace(recipe.stages[0], batch_size=batch_size),)
    )

    def parameters(name: str, scale: float) -> int:
        arch = {"widths": [round(scale * width) for width in widths], "factor": factor}
        return geovision.create(f"downscale-{name}", model_args=arch).num_parameters()

    own = parameters("maunet", 1.0)
    scale = min(np.linspace(1.0, 1.3, 31).tolist(), key=lambda each: abs(parameters("unet", each) - own))
    arches: dict[str, dict[str, Any]] = {
        "maunet": {"widths": list(widths), "dropout": 0.1},
        "unet": {"widths": [round(scale * width) for width in widths], "dropout": 0.1},
        "srcnn": {"widths": [64, 32], "dropout": None},
    }
    entries = [
        Entry(
            "maunet without base",
            "downscale-maunet",
            {"model_args": {"factor": factor, **arches["maunet"]}},
            recipe=recipe,
        )
    ]
    for name, arch in arches.items():
        options = {"network": name, "factor": factor, "base": "bicubic", **arch}
        entries += [
            Entry(
                f"{name} seed {seed}",
                "downscale-maunet-residual",
                {"model_args": options, "head_args": {"share": 0.0}},
                recipe=recipe,
                seed=seed,
            )
            for seed in range(seeds)
        ]
    return entries


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds of each method, and the lowest and highest error."""
    found = []
    several = [row for row in rows if " seed " in row["method"]]
    for name in dict.fromkeys(row["method"].split(" seed ")[0] for row in several):
        own = [row for row in several if row["method"].startswith(f"{name} seed ")]
        numbers = [key for key, value in own[0].items() if isinstance(value, float)]
        mean = {key: float(np.mean([row[key] for row in own])) for key in numbers}
        errors = [row["rmse"] for row in own]
        mean |= {"rmse_low": min(errors), "rmse_high": max(errors)}
        found.append({**own[0], **rounded(mean), "method": f"{name}, {len(own)} seeds"})
    return found


def baselines(task: str) -> list[Entry]:
    """Every statistical entry of a task, but the ridge regression, which depends on its predictors."""
    names = [name for name in registry.list_models(task=task) if registry.find_model(name).fit != "gradient"]
    return [
        Entry(name.removeprefix(f"{task}-"), name, predictors=())
        for name in names
        if not name.endswith("ridge")
    ]


# --- table and figure ---------------------------------------------------------------------------


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], files: Sequence[Path], **facts: Any) -> None:
    """Rows as CSV, each with what it was made of."""
    digest = ",".join(sha256(file)[:12] for file in files)
    stamp = {**run_provenance(), "data": digest, **facts}
    names = list(dict.fromkeys(name for row in rows for name in row))

    def write(place: Path) -> None:
        with place.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, [*names, *stamp], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, **stamp} for row in rows)

    write_files(path.parent, {path.name: write})


def draw(
    path: Path,
    points: Mapping[str, tuple[float, float]],
    lines: Mapping[str, tuple[Any, Any]],
    *,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    unit: str = "mm/day",
    across: str = "RMSE",
) -> None:
    """Error and tail of each method, and quantiles of some against those of the truth.

    Args:
        points: Method to (error, bias of P99).
        lines: Method to (its quantiles, those of the truth).
        curves: Further (error, bias of P99), drawn as lines.
        across: What the first number of a point is.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.axhline(0, color="0.8", linewidth=1)
    for (name, (errors, tails)), style in zip((curves or {}).items(), itertools.cycle(("-", "--", ":"))):
        left.plot(errors, tails, style, color="0.5", linewidth=1, label=name)
    # Each its own colour and mark, told beside: names within the picture would lie on each other.
    looks = ((f"C{number % 10}", mark) for mark in "osD^" for number in range(10))
    for (name, (error, tail)), (colour, mark) in zip(points.items(), looks, strict=False):
        left.plot(error, tail, mark, color=colour, markersize=5, label=name)
    left.set(xlabel=f"{across}, {unit}", ylabel=f"bias of P99, {unit}")
    most = max(float(np.max(each)) for pair in lines.values() for each in pair) * 1.05
    right.plot([0, most], [0, most], color="0.8", linewidth=1)
    for name, (said, true) in lines.items():
        right.plot(true, said, marker=".", markersize=4, linewidth=1, label=name)
    right.set(xlabel=f"quantile of the truth, {unit}", ylabel=f"quantile of the answer, {unit}")
    right.legend(frameon=False, fontsize=8)
    left.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    write_files(path.parent, {path.name: lambda place: figure.savefig(place, format="png", dpi=130)})
