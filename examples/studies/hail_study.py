"""Shared code of `hail_ablation.py` and `hail_comparison.py`.

The studies train on generated storms of 2022 and test on those of 2023, so no storm day is in both. For every
network a fifth of the training days is held back. It serves only to choose the probability threshold of hail
with the largest CSI. Scores are computed from pooled counts. Intervals are 95 % of 1000 resamples of the test
days, for the mean over the seeds. The generator and its seed are fixed; no setting was chosen by a test
score.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

import geovision
from geovision._atomic_io import write_files, write_text
from geovision.datasets.base import Sample, collate
from geovision.datasets.hail_samples import HailSamples
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit
from geovision.registry import find_task
from geovision.spec import Recipe

__all__ = [
    "HINET",
    "SMALL",
    "WHOLE",
    "Config",
    "Counts",
    "Study",
    "arguments",
    "summary",
    "write_rows",
    "write_table",
]

SMALL = {"width": 16, "kernel": 3}
"""Options of every recurrent network in the studies, small enough for one processor core."""

HINET = SMALL | {"unet_width": 16, "source_dropout": 0.0}
THRESHOLDS = np.linspace(0.02, 0.98, 49)
RESAMPLES = 1000


@dataclass(frozen=True)
class Config:
    """Row of a table: name, model, model options, and whether the trained model is kept."""

    name: str
    model: str
    arch: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False


class InMemory(HailSamples):
    """Hail samples, each read from its file once."""

    kept: ClassVar[dict[Path, Sample]] = {}
    kept: ClassVar[dict[Path, Sample]] = {}

    def read_sample(self, index: int) -> Sample:
        """Return a sample, read from its file at the first call."""
        path = self.paths[index]
        if path not in self.kept:
            self.kept[path] = super().read_sample(index)
        return self.kept[path]


WHOLE = Config("hinet", "hail-hinet", HINET, keep=True)


def arguments(description: str | None, out: str) -> argparse.ArgumentParser:
    """Return the parser of both studies; its `parse_args` returns the options of a `Study`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generated", type=int, default=480, metavar="N", help="samples, four per storm day")
    parser.add_argument("--size", type=int, default=32, help="cells along each side, 1 km each")
    parser.add_argument("--windows", type=int, default=6, help="number of windows of 6 minutes")
    parser.add_argument("--epochs", type=int, default=6, help="training epochs")
    parser.add_argument("--batch-size", type=int, default=8, help="training batch size")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seeds", type=int, default=3, help="number of training seeds")
    parser.add_argument("--data", type=Path, default=Path("runs/hail_storms"), help="folder of the samples")
    parser.add_argument("--out", type=Path, default=Path(out), help="output folder")
    return parser


# --- one network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """Hits, false alarms and misses of each sample, shape (sample, 3), and its storm day."""

    each: NDArray[np.int64]
    days: NDArray[np.str_]

    def of(self, chosen: NDArray[np.bool_]) -> Counts:
        """Return the counts of the chosen samples."""
        return Counts(self.each[chosen], self.days[chosen])

    @property
    def csi(self) -> float:
        """Critical success index of the pooled counts."""
        return _csi(self.each.sum(0))

    @property
    def f1(self) -> float:
        """F1 score of the pooled counts."""
        csi = self.csi
        return 2 * csi / (1 + csi)

    @property
    def pod(self) -> float:
        """Probability of detection of the pooled counts."""
        hits, _, misses = self.each.sum(0)
        return float(hits / max(hits + misses, 1))

    @property
    def far(self) -> float:
        """False alarm ratio of the pooled counts."""
        hits, false_alarms, _ = self.each.sum(0)
        return float(false_alarms / max(hits + false_alarms, 1))


def _csi(counts: NDArray[np.integer]) -> float:
    """Return the CSI, or NaN without observed and predicted hail."""
    return float(counts[0] / counts.sum()) if counts.sum() else float("nan")


def counts(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], known: NDArray[np.bool_], days: Any
) -> Counts:
    """Count hits, false alarms and misses of masks, shape (sample, y, x), in the labeled cells."""
    cells = [predicted & truth, predicted & ~truth, ~predicted & truth]
    return Counts(np.stack([(each & known).sum((1, 2)) for each in cells], 1), np.asarray(days))


class Study:
    """Data of a study, and the steps that are equal for all networks.

    Args:
        options: Options that the parser of `arguments` returns.
    """

    def __init__(self, options: Any) -> None:
        self.options = options
        side, windows = options.size, options.windows
        root = options.data / f"{options.generated}-{side}x{side}-{windows}"
        if not root.is_dir():
            HailSamples.synthetic(root, options.generated, seed=0, size=(side, side), windows=windows)
        self.root = root
        train, self.test = (InMemory(root, split=split) for split in ("train", "test"))
        self.train, self.inner = train.group_split(0.2, seed=0)

    def row(self, config: Config, seed: int) -> dict[str, Any]:
        """Train, choose the threshold on the inner days, score on the test days; reuse a stored row."""
        kept = self.options.out / "rows" / f"{config.name}-{seed}.json".replace(" ", "_")
        if kept.is_file():
            return json.loads(kept.read_text("utf-8"))
        torch.manual_seed(seed)
        model = geovision.create(
            config.model, model_args=dict(config.arch), head_args={"error": "bce", "positive_weight": 3.0}
        )
        begun = time.process_time()
        geovision.train(model, self.train, recipe=self._recipe(seed), progress=False)
        seconds = time.process_time() - begun
        if config.keep:
            model.save(self.folder(config, seed))
        threshold = self._threshold(probabilities(model, self.inner))
        found = self._scored(probabilities(model, self.test) >= threshold)
        row = {
            "config": config.name,
            "model": config.model,
            "arch": dict(config.arch),
            "seed": seed,
            "parameters": model.num_parameters(),
            "steps": model.training_record["steps"],
            "cpu_seconds": round(seconds),
            "threshold": round(threshold, 2),
            "counts": found.each.tolist(),
            "commit": git_commit(),
            "command": " ".join(sys.argv),
        }
        write_text(kept, json.dumps(row))
        print(f"{config.name}, seed {seed}: CSI {found.csi:.3f}, {seconds:.0f} s", flush=True)
        return row

    def folder(self, config: Config, seed: int) -> Path:
        """Return the folder of a trained model that is kept."""
        return self.options.out / "models" / f"{config.name}-{seed}"

    def bounds(self) -> list[dict[str, Any]]:
        """Return the rows of the ceiling and the floors, or the stored ones.

        The ceiling is the oracle on the true state. The floor is a logistic regression of each source, cell
        by cell.
        """
        kept = self.options.out / "rows" / "bounds.json"
        if kept.is_file():
            return json.loads(kept.read_text("utf-8"))
        oracle = np.stack([self.test.oracle(index) for index in range(len(self.test))]).astype(bool)
        rows = [self._bound("ceiling: oracle", oracle)]
        for name, sources in FLOORS.items():
            fitted = _Logistic(sources, self.train)
            threshold = self._threshold(fitted.probabilities(self.inner))
            rows.append(self._bound(f"floor: {name}", fitted.probabilities(self.test) >= threshold))
        write_text(kept, json.dumps(rows))
        return rows

    def _bound(self, name: str, predicted: NDArray[np.bool_]) -> dict[str, Any]:
        counted = self._scored(predicted).each.tolist()
        return {"config": name, "seed": 0, "counts": counted, "commit": git_commit() or ""}

    def _recipe(self, seed: int) -> Recipe:
        (stage,) = find_task("hail").recipes["short"].stages
        stage = dataclasses.replace(
            stage, epochs=self.options.epochs, batch_size=self.options.batch_size, lr=self.options.lr
        )
        return Recipe(stages=(stage,), seed=seed, precision="32-true")

    def _scored(self, predicted: NDArray[np.bool_]) -> Counts:
        truth, known = labels(self.test)
        return counts(predicted, truth, known, self.test.groups)

    def _threshold(self, probability: NDArray[np.floating]) -> float:
        truth, known = labels(self.inner)
        scores = [counts(probability >= t, truth, known, self.inner.groups).csi for t in THRESHOLDS]
        return float(THRESHOLDS[int(np.nanargmax(scores))])


def labels(data: HailSamples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the hail masks and the masks of labeled cells, shape (sample, y, x)."""
    samples = [data[index] for index in range(len(data))]
    truth = np.stack([sample["target"][0].numpy() > 0.5 for sample in samples])
    known = [sample["valid"].get("target") for sample in samples]
    return truth, np.stack(
        [np.ones_like(t) if k is None else k[0].numpy() for t, k in zip(truth, known, strict=True)]
    )


@torch.inference_mode()
def probabilities(model: GeoModel, data: HailSamples, *, batch_size: int = 32) -> NDArray[np.float32]:
    """Return the predicted probability of hail, shape (sample, y, x)."""
    model.eval()
    found = []
    for begin in range(0, len(data), batch_size):
        batch = collate([data[index] for index in range(begin, min(begin + batch_size, len(data)))])
        values = model(batch["inputs"], valid=batch["valid"]).values
        found.append(torch.sigmoid(values[:, 0]).numpy())
    return np.concatenate(found)


# --- the floor ------------------------------------------------------------------------------------

FLOORS = {
    "radar": ("radar",),
    "FY4B": ("fy4b",),
    "ERA5": ("era5",),
    "DEM": ("dem",),
    "all sources": ("radar", "fy4b", "era5", "dem"),
}


class _Logistic:
    """Logistic regression of single cells on the last window of some sources and its masks."""

    def __init__(self, sources: Sequence[str], data: HailSamples) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.sources = sources
        self.model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        truth, known = labels(data)
        self.model.fit(
            np.concatenate([self._features(s) for s in _each(data)])[known.ravel()],
            truth.ravel()[known.ravel()],
        )

    def probabilities(self, data: HailSamples) -> NDArray[np.floating]:
        shape = data[0]["target"].shape[-2:]
        return np.stack(
            [self.model.predict_proba(self._features(s))[:, 1].reshape(shape) for s in _each(data)]
        )

    def _features(self, sample: Sample) -> NDArray[np.floating]:
        """Return values, mean values where missing, and the missing fraction, shape (cell, feature)."""
        specs = {spec.name: spec for spec in find_task("hail").inputs}
        columns = []
        for name in self.sources:
            values, valid = sample["inputs"][name], sample["valid"].get(name)
            valid = torch.ones_like(values, dtype=torch.bool) if valid is None else valid
            if values.ndim == 4:
                values, valid = values[-1], valid[-1]
            means = torch.tensor([channel.mean for channel in specs[name].channels]).view(-1, 1, 1)
            columns += [torch.where(valid, values, means), (~valid).float().mean(0, keepdim=True)]
        return torch.cat(columns).flatten(1).T.numpy()


def _each(data: HailSamples) -> Iterable[Sample]:
    return (data[index] for index in range(len(data)))


# --- tables ---------------------------------------------------------------------------------------


def summary(study: Study, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one line per configuration.

    A line contains the mean over the seeds, the CSI of each seed, and the interval over the test days. It
    also contains the difference from the complete HINet, with its interval over the same days.
    """
    days, terrain = np.asarray(study.test.groups), np.asarray(study.test.terrain)
    every: dict[str, list[Counts]] = {}
    for row in rows:
        every.setdefault(row["config"], []).append(Counts(np.array(row["counts"]), days))
    whole = every[WHOLE.name]
    lines = []
    for name, tables in every.items():
        own = [row for row in rows if row["config"] == name]
        low, high = _interval(_draws(tables))
        line: dict[str, Any] = {"config": name, "seeds": len(own)}
        line |= {"csi": _mean(t.csi for t in tables), "low": low, "high": high}
        more = line["csi"] - _mean(t.csi for t in whole)
        line["more_than_hinet"] = "{:+.3f} [{:+.3f}, {:+.3f}]".format(
            more, *_interval(_draws(tables) - _draws(whole))
        )
        line |= {"csi_seeds": " ".join(f"{t.csi:.3f}" for t in tables)}
        line |= {score: _mean(getattr(t, score) for t in tables) for score in ("f1", "pod", "far")}
        for kind in ("plain", "complex"):
            line[f"csi_{kind}"] = _mean(t.of(terrain == kind).csi for t in tables)
            line[f"f1_{kind}"] = _mean(t.of(terrain == kind).f1 for t in tables)
        line |= {key: own[0].get(key, "") for key in ("parameters", "steps", "cpu_seconds", "commit")}
        lines.append(line | {"command": " ".join(sys.argv)})
    return lines


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)  # NaN without events to score


def _interval(draws: NDArray[np.floating]) -> tuple[float, float]:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def _draws(tables: Sequence[Counts]) -> NDArray[np.floating]:
    """Return the mean CSI over seeds of each bootstrap resample, shape (resample,).

    Days are resampled with their samples, and the days are the same for every network.
    """
    days, index = np.unique(tables[0].days, return_inverse=True)
    by_day = np.stack(
        [
            np.stack([np.bincount(index, weights=t.each[:, k], minlength=len(days)) for k in range(3)], 1)
            for t in tables
        ]
    )
    rng = np.random.default_rng(0)
    draws = [by_day[:, rng.integers(len(days), size=len(days))].sum(1) for _ in range(RESAMPLES)]
    return np.array([np.mean([_csi(each) for each in draw]) for draw in draws])


def write_table(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the lines to a CSV file and print them."""
    write_rows(lines, path)
    for line in lines:
        print(
            "{config:<28} CSI {csi:.3f} [{low:.3f}, {high:.3f}]  {more_than_hinet}  F1 {f1:.3f}  plain "
            "{csi_plain:.3f}  complex {csi_complex:.3f}  seeds {csi_seeds}".format(**line)
        )


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to a CSV file."""

    def write(target: Path) -> None:
        with target.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_files(path.parent, {path.name: write})
