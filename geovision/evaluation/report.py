"""The scores of a model on a data set, with where they come from, as tables, figures and files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from geovision import metrics as metric_table
from geovision.datasets.base import GeoDataset, Sample
from geovision.evaluation import figures, provenance
from geovision.evaluation.predictions import Predictions, collect
from geovision.metrics.bootstrap import Estimate, bootstrap
from geovision.metrics.merging import unmatched
from geovision.models.folder import weights_digest
from geovision.models.geomodel import GeoModel
from geovision.provenance import origin
from geovision.registry import find_task
from geovision.spec import ClassTarget, Task
from geovision.storage import write_files

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["Figure", "Report", "evaluate", "score"]

PER_CLASS = ("precision", "recall", "f1")
ALWAYS = ("brier", "nll")
"""Scores of the probabilities that every report holds beside its task's own metrics."""
_WORST = 18


class Figure(NamedTuple):
    """One number with the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        interval = "" if math.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


@dataclass(frozen=True, eq=False)
class Report:
    """Scores over all samples together (pooled), with intervals over units.

    Attributes:
        task: The task, whose first metric is the headline.
        metrics: By name.
        per_class: By class: precision, recall, f1.
        confusion: int64 ``(true class, predicted class)``.
        predictions: Every answer.
        provenance: What gives this result again: model, weights, data, seed, version, command.
        notes: What a reader must know beside the numbers.
        picture: The picture of a sample by its position in the data set, ``(y, x, 3)``; None: there
            is none to show.
    """

    task: Task
    metrics: Mapping[str, Figure]
    per_class: Mapping[str, Mapping[str, Figure]]
    confusion: np.ndarray
    predictions: Predictions
    provenance: Mapping[str, Any]
    notes: Sequence[str] = ()
    picture: Callable[[int], np.ndarray] | None = field(default=None, repr=False)

    @property
    def headline(self) -> str:
        """Name of the metric that the task is judged by."""
        return next(name for name in self.task.metrics if name in self.metrics)

    def text(self) -> str:
        """The scores as a table for a terminal."""
        width = max(map(len, self.metrics))
        lines = [f"{name:<{width}}  {figure}" for name, figure in self.metrics.items()]
        support = self.confusion.sum(axis=1)
        columns = max([len("class"), *map(len, self.per_class)])
        cells = "".join(f"  {name:<21}" for name in PER_CLASS)
        lines += ["", f"{'class':<{columns}}  {'samples':>7}{cells}".rstrip()]
        for (name, row), count in zip(self.per_class.items(), support, strict=True):
            cells = "".join(f"  {row[key]!s:<21}" for key in PER_CLASS)
            lines.append(f"{name:<{columns}}  {count:>7}{cells}".rstrip())
        lines += ["", self._samples(), *self.notes]
        return "\n".join(lines)

    def _samples(self) -> str:
        units = len(set(self.predictions.units))
        interval = "" if not self.provenance.get("bootstrap") else "; 95 % intervals over units"
        return f"{len(self.predictions)} samples in {units} units{interval}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is undefined is None."""
        return {
            "headline": self.headline,
            "metrics": {name: _plain(figure) for name, figure in self.metrics.items()},
            "per_class": {
                name: {"samples": int(count)} | {key: _plain(figure) for key, figure in row.items()}
                for (name, row), count in zip(self.per_class.items(), self.confusion.sum(axis=1), strict=True)
            },
            "confusion": {"classes": list(self.predictions.classes), "counts": self.confusion.tolist()},
            "samples": len(self.predictions),
            "units": len(set(self.predictions.units)),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """The figures by name: confusion, reliability, and mistakes where there are any to show.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        error = self.metrics.get("calibration_error")
        drawn = {
            "confusion": figures.confusion_matrix(self.confusion, self.predictions.classes),
            "reliability": figures.reliability_diagram(
                self.predictions.confidence.numpy(), self.predictions.correct.numpy(),
                error=error.value if error else None,
            ),
        }  # fmt: skip
        wrong = self._surest_mistakes()
        if self.picture is not None and len(wrong):
            drawn["mistakes"] = self._mistakes(wrong)
        return drawn

    def _surest_mistakes(self) -> Predictions:
        """The wrong answers with the highest probabilities, surest first."""
        wrong = self.predictions.take(~self.predictions.correct)
        return wrong.take(wrong.confidence.argsort(descending=True, stable=True)[:_WORST])

    def _mistakes(self, wrong: Predictions) -> matplotlib.figure.Figure:
        assert self.picture is not None
        assert wrong.positions is not None
        return figures.mistakes(
            [self.picture(position) for position in wrong.positions.tolist()],
            [wrong.classes[index] for index in wrong.predicted.tolist()],
            [wrong.classes[index] for index in wrong.labels.tolist()],
            wrong.confidence.tolist(),
            [Path(source).name for source in wrong.sources],
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``metrics.csv``, ``predictions.csv``, ``report.md`` and the
        figures as PNG, all of them or none.

        Raises:
            StorageError: They could not be written; what stood in `folder` is untouched.
            MissingExtraError: matplotlib is not installed.
        """
        folder, drawn = Path(folder), self.figures()
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        writers: dict[str, Callable[[Path], Any]] = {
            "metrics.json": partial(_write_text, text=text + "\n"),
            "metrics.csv": self._write_metrics,
            "predictions.csv": self.predictions.write_csv,
            "report.md": partial(_write_text, text=self.markdown(drawn)),
        }
        for name, figure in drawn.items():
            writers[f"{name}.png"] = partial(figure.savefig, format="png", dpi=130)
        write_files(folder, writers)
        return folder

    def _write_metrics(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["metric", "class", "value", "low", "high"])
            writer.writerows([name, "", *_cells(figure)] for name, figure in self.metrics.items())
            for name, row in self.per_class.items():
                writer.writerows([key, name, *_cells(figure)] for key, figure in row.items())

    def markdown(self, pictures: Sequence[str] | Mapping[str, Any] = ()) -> str:
        """The report as a page; `pictures` are names of PNG files beside it."""
        lines = [f"# {self.provenance['model']} on {self.provenance['data']}", "", self._samples(), ""]
        lines += ["| metric | value |", "|---|---|"]
        lines += [f"| {name} | {figure} |" for name, figure in self.metrics.items()]
        lines += ["", f"| class | samples | {' | '.join(PER_CLASS)} |", "|---|---|" + "---|" * len(PER_CLASS)]
        for (name, row), count in zip(self.per_class.items(), self.confusion.sum(axis=1), strict=True):
            lines.append(f"| {name} | {count} | {' | '.join(str(row[key]) for key in PER_CLASS)} |")
        lines += [""] + [f"- {note}" for note in self.notes]
        lines += ["", *(f"![{name}]({name}.png)\n" for name in pictures), "## Provenance", ""]
        lines += [f"- {key}: `{value}`" for key, value in self.provenance.items()]
        return "\n".join(lines) + "\n"


def _plain(figure: Figure) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figure._asdict().items()}


def _cells(figure: Figure) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in figure]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


# --- making one ---------------------------------------------------------------------------------


def evaluate(
    model: GeoModel, data: GeoDataset, *, batch_size: int = 32, bootstrap: int = 1000, seed: int = 0,
    progress: bool = False,
) -> Report:  # fmt: skip
    """Score a model on a data set. See `geovision.evaluate`."""
    predictions = collect(model, data, batch_size=batch_size, progress=progress)
    facts = {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "temperature": float(model.head.temperature),  # type: ignore[arg-type]
    }
    return score(
        predictions, data, facts=facts, notes=_merging_notes(model, data), resamples=bootstrap, seed=seed
    )


def score(
    predictions: Predictions, data: GeoDataset, *, facts: Mapping[str, Any], notes: Sequence[str] = (),
    resamples: int = 1000, seed: int = 0,
) -> Report:  # fmt: skip
    """Score answers that were collected before.

    Args:
        predictions: Of samples of `data`.
        data: What was asked about; pictures of mistakes are taken from it.
        facts: Where the answers come from, to stand in the report; at least ``"model"``.
        notes: What a reader must know beside the numbers.
        resamples: Of the bootstrap; 0 gives no intervals.
        seed: Of the bootstrap.
    """
    task = find_task(data.task)
    target = _scored_target(predictions.classes, task)
    names = dict.fromkeys((*task.metrics, *ALWAYS))
    single = metric_table.applicable(names, target)
    several = metric_table.applicable(PER_CLASS, target)
    found = bootstrap(
        single | several, predictions.probabilities, predictions.labels, predictions.units,
        resamples=resamples, seed=seed,
    )  # fmt: skip
    confusion = metric_table.create("confusion", target)(predictions.probabilities, predictions.labels)
    known = {
        **facts,
        "data": data.card.name,
        "data_digest": provenance.data_digest(predictions.sources),
        "bootstrap": resamples,
        "seed": seed,
        **origin(),
    }
    return Report(
        task,
        {name: _figure(found[name]) for name in single},
        {
            label: {name: _figure(found[name], column) for name in PER_CLASS}
            for column, label in enumerate(predictions.classes)
        },
        confusion.numpy(),
        predictions,
        known,
        tuple(notes),
        lambda position: as_picture(data[position]),
    )


def _figure(estimate: Estimate, column: int | None = None) -> Figure:
    return Figure(*(float(value if column is None else value[column]) for value in estimate))


def _scored_target(classes: tuple[str, ...], task: Task) -> ClassTarget:
    """The classes that were scored, with the task's cards where they are the task's."""
    own = task.target
    cards = [own.card(code) for code in classes] if isinstance(own, ClassTarget) else []
    positive = own.positive if isinstance(own, ClassTarget) and own.positive in classes else ""
    return ClassTarget(
        classes, tuple(card for card in cards if card) if all(cards) else (), positive=positive
    )


def _merging_notes(model: GeoModel, data: GeoDataset) -> list[str]:
    """What merging classes left out of the score."""
    assert isinstance(model.target, ClassTarget)
    assert isinstance(data.target, ClassTarget)
    if data.merging is None or data.target.classes == model.target.classes:
        return []
    notes = [
        "Probabilities of the model's classes are summed: "
        + "; ".join(f"{name} = {' + '.join(parts)}" for name, parts in data.merging.merged.items())
    ]
    notes += [f"Not scored: {name} ({reason})" for name, reason in data.merging.excluded.items()]
    if alone := unmatched(model.target.classes, data.merging):
        notes.append(f"Without counterpart in {data.card.name}, left out of the sums: {', '.join(alone)}")
    return notes


def as_picture(sample: Sample) -> np.ndarray:
    """The first input of a sample as a picture ``(y, x, 3)``, 0-1: three channels as they are, any
    other number by the first one, stretched over its range."""
    values = next(iter(sample["inputs"].values())).float()
    if values.shape[0] != 3:
        first = values[0] - torch.nan_to_num(values[0], nan=torch.inf).min()
        values = (first / torch.nan_to_num(first).max().clamp_min(1e-12)).nan_to_num().expand(3, -1, -1)
    return values.clamp(0, 1).permute(1, 2, 0).numpy()
