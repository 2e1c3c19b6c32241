"""Shared code of the precipitation studies: training and scoring of models, tables and figures.

Scripts such as iberia_downscaling.py import this module. Finished results are read from their files, so a
stopped study is resumed.
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
"""Levels of the quantiles that the figures compare; computed in each cell and averaged over cells."""

SMALL = Recipe(
    stages=(Stage(epochs=12, batch_size=32, lr=2e-3, weight_decay=0.01, warmup=2, max_grad_norm=1.0),),
    precision="32-true",
)
"""Recipe of networks for which a few winters are enough; our choice."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Row of a study.

    Args:
        label: Name of the row in the table.
        model: Name in the registry.
        options: Options of `geovision.create` in addition to those of the data. Default: none.
        predictors: Channels in addition to precipitation. Default: None, all channels of the data.
        recipe: Training recipe. Default: None, the recipe of the model.
        seed: Seed of the training. Default: 0.
    """

    label: str
    model: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    predictors: tuple[str, ...] | None = None
    recipe: Recipe | None = None
    seed: int = 0


def folder_of(entry: Entry, out: Path) -> Path:
    """Return the folder of the results of an entry."""
    return out / entry.label.replace(" ", "_").replace("/", "_")


def fitted(entry: Entry, training: GeoDataset, out: Path) -> tuple[GeoModel, float]:
    """Return the model of an entry, trained or loaded, and its training time in s."""
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
    """Return the data with the predictors of an entry."""
    return data if entry.predictors is None else data.with_predictors(entry.predictors)


Line = tuple[list[float], list[float]]
"""Quantiles of the predictions, and of the targets."""


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
"""Names of metrics, and their short names in the tables of the studies."""


def scored(entry: Entry, model: GeoModel, test: GeoDataset, seconds: float) -> tuple[dict[str, Any], Line]:
    """Return the table row of a model and the quantiles of predictions and targets.

    The row contains the metrics of the task, and the interval of the RMSE over groups.
    """
    report = geovision.evaluate(model, test, n_bootstrap=200)
    assert isinstance(report, DenseReport)
    assert report.predictions is not None
    error = report.metrics["rmse"]
    row: dict[str, Any] = {"method": entry.label, "model": entry.model, "parameters": model.num_parameters()}
    row |= {"seconds": round(seconds, 1), "rmse": error.value, "rmse_low": error.low, "rmse_high": error.high}
    row |= {COLUMNS.get(name, name): each.value for name, each in report.metrics.items() if name != "rmse"}
    return rounded(row), quantiles(*report.predictions)


Further = Callable[[GeoModel, GeoDataset], dict[str, Any]]
"""Function that returns further columns of a row, from the model and the test data."""


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Round the floats of a row to 4 decimals."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def quantiles(prediction: Tensor, truth: Tensor) -> Line:
    """Return quantiles in time, averaged over the cells with observations."""
    known = torch.isfinite(truth).any(0)
    predicted, observed = (
        [float(extremes.quantile(each, q)[known].nanmean()) for q in QUANTILES]
        for each in (prediction, truth)
    )
    return predicted, observed


def whole(model: GeoModel, data: GeoDataset) -> tuple[Tensor, Tensor]:
    """Return predictions and targets of all samples, shape (sample, 1, y, x)."""
    parts = list(predict_batches(model, data))
    return torch.cat([each.prediction for each in parts]), torch.cat([each.truth for each in parts])


def basic(label: str, prediction: Tensor, truth: Tensor) -> dict[str, Any]:
    """Return a row with RMSE, correlation and P99 bias of any predictions."""
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
    """Train, score and print each entry; reuse finished rows."""
    for entry in entries:
        kept = folder_of(entry, out) / "row.json"
        if kept.is_file():
            row, line = json.loads(kept.read_text())
        else:
            model, seconds = fitted(entry, with_predictors(training, entry), out)
            selected = with_predictors(test, entry)
            row, line = scored(entry, model, selected, seconds)
            row |= further(model, selected) if further else {}
            write_text(kept, json.dumps([row, line]))
        interval = f"[{row['rmse_low']:.3f}, {row['rmse_high']:.3f}]"
        print(
            f"{entry.label:32} rmse {row['rmse']:.3f} {interval}  r {row['correlation']:.3f}  "
            f"P99 {row['p99_bias']:+.2f}  {row['seconds']:.0f} s",
            flush=True,
        )
        yield entry, row, line


def networks(task: str, widths: Sequence[int], factor: int) -> list[Entry]:
    """Return MAUNet, MAUNet-Light and comparable networks, in a size for few data.

    They are trained for 24 epochs without dropout, which was best on the winters 1990 to 1995. Dropout scales
    the remaining values up, so the maximum of four values increases. A network with max pooling then receives
    larger values in training than in prediction, and its predictions are too dry.
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
    """Return MAUNet, a plain U-Net of equal parameter count, and the published SRCNN, with several seeds.

    Each network learns the residual of bicubic interpolation. With few days no network learns by itself that
    the fine field is close to the coarse one. MAUNet is also trained without this base.
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
    """Return the mean over the seeds of each method, and the lowest and highest RMSE."""
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
    """Return all statistical models of a task except ridge regression, which depends on its predictors."""
    names = [name for name in registry.list_models(task=task) if registry.find_model(name).fit != "gradient"]
    return [
        Entry(name.removeprefix(f"{task}-"), name, predictors=())
        for name in names
        if not name.endswith("ridge")
    ]


# --- table and figure ---------------------------------------------------------------------------


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], files: Sequence[Path], **facts: Any) -> None:
    """Write rows as CSV, each with its provenance."""
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
    """Plot error and P99 bias of each method, and its quantiles against those of the observations.

    Args:
        path: PNG file to write.
        points: Methods, and their error and bias of P99.
        lines: Methods, and their quantiles and those of the observations.
        curves: Further pairs of error and bias of P99, drawn as lines. Default: None.
        unit: Unit of the axes. Default: mm/day.
        across: Name of the error of a point. Default: RMSE.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.axhline(0, color="0.8", linewidth=1)
    for (name, (errors, tails)), style in zip((curves or {}).items(), itertools.cycle(("-", "--", ":"))):
        left.plot(errors, tails, style, color="0.5", linewidth=1, label=name)
    # The legend is outside of the axes, because labels at the points would overlap.
    styles = ((f"C{number % 10}", marker) for marker in "osD^" for number in range(10))
    for (name, (error, tail)), (color, marker) in zip(points.items(), styles, strict=False):
        left.plot(error, tail, marker, color=color, markersize=5, label=name)
    left.set(xlabel=f"{across}, {unit}", ylabel=f"bias of P99, {unit}")
    most = max(float(np.max(each)) for pair in lines.values() for each in pair) * 1.05
    right.plot([0, most], [0, most], color="0.8", linewidth=1)
    for name, (predicted, observed) in lines.items():
        right.plot(observed, predicted, marker=".", markersize=4, linewidth=1, label=name)
    right.set(xlabel=f"quantile of the observations, {unit}", ylabel=f"quantile of the predictions, {unit}")
    right.legend(frameon=False, fontsize=8)
    left.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    write_files(path.parent, {path.name: lambda place: figure.savefig(place, format="png", dpi=130)})
