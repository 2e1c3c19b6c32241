"""Reports of classification: scores per class, confusion matrix, reliability, most confident errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geovision import metrics as metric_table
from geovision.datasets.base import GeoDataset, Sample
from geovision.evaluation import plot
from geovision.evaluation.predictions import Predictions, collect_predictions
from geovision.evaluation.report import MetricValue, Report, build_provenance, to_json, to_metric_value
from geovision.metrics.bootstrap import bootstrap
from geovision.metrics.class_mapping import unmatched_classes
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest
from geovision.registry import find_task
from geovision.spec import ClassTarget, Task

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["ClassReport", "evaluate_classes", "score_classes"]

PER_CLASS_METRICS = ("precision", "recall", "f1")
PROBABILITY_METRICS = ("brier", "nll")
"""Metrics of probabilities that every report contains in addition to those of the task."""
_MAX_ERRORS_SHOWN = 18


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassReport(Report):
    """Scores of a classification.

    Attributes:
        per_class: Precision, recall and F1 score by class.
        confusion: Confusion matrix, int64, shape (label, predicted class).
        predictions: All predictions.
        get_image: Function that returns the image of a sample by its index in the dataset, shape (y, x, 3).
            None: no images.
    """

    per_class: Mapping[str, Mapping[str, MetricValue]]
    confusion: np.ndarray
    predictions: Predictions
    get_image: Callable[[int], np.ndarray] | None = field(default=None, repr=False)

    def _extra_text(self) -> list[str]:
        columns = max([len("class"), *map(len, self.per_class)])
        cells = "".join(f"  {name:<21}" for name in PER_CLASS_METRICS)
        lines = ["", f"{'class':<{columns}}  {'samples':>7}{cells}".rstrip()]
        for (name, row), count in zip(self.per_class.items(), self.confusion.sum(axis=1), strict=True):
            cells = "".join(f"  {row[key]!s:<21}" for key in PER_CLASS_METRICS)
            lines.append(f"{name:<{columns}}  {count:>7}{cells}".rstrip())
        return lines

    def _extra_data(self) -> dict[str, Any]:
        return {
            "per_class": {
                name: {"samples": int(count)} | {key: to_json(figure) for key, figure in row.items()}
                for (name, row), count in zip(self.per_class.items(), self.confusion.sum(axis=1), strict=True)
            },
            "confusion": {"classes": list(self.predictions.classes), "counts": self.confusion.tolist()},
        }

    def _extra_rows(self) -> list[tuple[str, str, MetricValue]]:
        return [(key, name, figure) for name, row in self.per_class.items() for key, figure in row.items()]

    def _extra_files(self) -> dict[str, Callable[[Path], Any]]:
        return {"predictions.csv": self.predictions.write_csv}

    def _extra_markdown(self) -> list[str]:
        lines = [
            "",
            f"| class | samples | {' | '.join(PER_CLASS_METRICS)} |",
            "|---|---|" + "---|" * len(PER_CLASS_METRICS),
        ]
        for (name, row), count in zip(self.per_class.items(), self.confusion.sum(axis=1), strict=True):
            lines.append(f"| {name} | {count} | {' | '.join(str(row[key]) for key in PER_CLASS_METRICS)} |")
        return lines

    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """Draw the figures: confusion matrix, reliability, and most confident errors, if any.

        Returns:
            Figures by name.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        error = self.metrics.get("calibration_error")
        figures = {
            "confusion": plot.confusion_matrix(self.confusion, self.predictions.classes),
            "reliability": plot.reliability_diagram(
                self.predictions.confidence.numpy(),
                self.predictions.correct.numpy(),
                error=error.value if error else None,
            ),
        }
        wrong = self._most_confident_errors()
        if self.get_image is not None and len(wrong):
            figures["mistakes"] = self._plot_errors(wrong)
        return figures

    def _most_confident_errors(self) -> Predictions:
        """Return the wrong predictions with the highest probabilities, in descending order."""
        wrong = self.predictions.take(~self.predictions.correct)
        return wrong.take(wrong.confidence.argsort(descending=True, stable=True)[:_MAX_ERRORS_SHOWN])

    def _plot_errors(self, wrong: Predictions) -> matplotlib.figure.Figure:
        assert self.get_image is not None
        assert wrong.positions is not None
        return plot.misclassified_samples(
            [self.get_image(position) for position in wrong.positions.tolist()],
            [wrong.classes[index] for index in wrong.predicted.tolist()],
            [wrong.classes[index] for index in wrong.labels.tolist()],
            wrong.confidence.tolist(),
            [Path(source).name for source in wrong.sources],
        )


# --- creation -----------------------------------------------------------------------------------


def evaluate_classes(
    model: GeoModel, data: GeoDataset, *, batch_size: int, n_bootstrap: int, seed: int, progress: bool
) -> ClassReport:
    """Evaluate a class model on a dataset. See `geovision.evaluate`.

    Args:
        model: Class model.
        data: Samples.
        batch_size: Samples per forward pass.
        n_bootstrap: Number of bootstrap resamples; 0 computes no intervals.
        seed: Seed of the bootstrap.
        progress: Whether to show a progress bar on stderr.
    """
    predictions = collect_predictions(model, data, batch_size=batch_size, progress=progress)
    provenance = {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "temperature": float(model.head.temperature),  # type: ignore[arg-type]
    }
    return score_classes(
        predictions,
        data,
        provenance=provenance,
        notes=_merging_notes(model, data),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def score_classes(
    predictions: Predictions,
    data: GeoDataset,
    *,
    provenance: Mapping[str, Any],
    notes: Sequence[str] = (),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> ClassReport:
    """Score predictions that were collected before.

    Args:
        predictions: Predictions of samples of `data`.
        data: Samples that were predicted. Images of errors are read from them.
        provenance: Provenance of the predictions; at least ``"model"``.
        notes: Remarks for the reader of the report. Default: none.
        n_bootstrap: Number of bootstrap resamples; 0 computes no intervals. Default: 1000.
        seed: Seed of the bootstrap. Default: 0.
    """
    task = find_task(data.task)
    target = _scored_target(predictions.classes, task)
    names = dict.fromkeys((*task.metrics, *PROBABILITY_METRICS))
    single = metric_table.applicable(names, target)
    several = metric_table.applicable(PER_CLASS_METRICS, target)
    estimates = bootstrap(
        single | several,
        predictions.probabilities,
        predictions.labels,
        predictions.groups,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    confusion = metric_table.create("confusion", target)(predictions.probabilities, predictions.labels)
    return ClassReport(
        task=task,
        metrics={name: to_metric_value(estimates[name]) for name in single},
        per_class={
            label: {name: to_metric_value(estimates[name], column) for name in PER_CLASS_METRICS}
            for column, label in enumerate(predictions.classes)
        },
        confusion=confusion.numpy(),
        predictions=predictions,
        provenance=build_provenance(
            data, predictions.sources, provenance, n_bootstrap=n_bootstrap, seed=seed
        ),
        groups=predictions.groups,
        notes=tuple(notes),
        get_image=lambda position: to_image(data[position]),
    )


def _scored_target(classes: tuple[str, ...], task: Task) -> ClassTarget:
    """Return the scored classes as a target, with their class cards."""
    task_target = task.target
    cards = [task_target.card(code) for code in classes] if isinstance(task_target, ClassTarget) else []
    positive = (
        task_target.positive
        if isinstance(task_target, ClassTarget) and task_target.positive in classes
        else ""
    )
    return ClassTarget(
        classes, tuple(card for card in cards if card) if all(cards) else (), positive=positive
    )


def _merging_notes(model: GeoModel, data: GeoDataset) -> list[str]:
    """Return notes on merged and excluded classes."""
    assert isinstance(model.target, ClassTarget)
    assert isinstance(data.target, ClassTarget)
    if data.class_mapping is None or data.target.classes == model.target.classes:
        return []
    notes = [
        "Probabilities of the model's classes are summed: "
        + "; ".join(f"{name} = {' + '.join(parts)}" for name, parts in data.class_mapping.merged.items())
    ]
    notes += [f"Not scored: {name} ({reason})" for name, reason in data.class_mapping.excluded.items()]
    if unmatched := unmatched_classes(model.target.classes, data.class_mapping):
        notes.append(
            f"Without counterpart in {data.card.name}, excluded from the sums: {', '.join(unmatched)}"
        )
    return notes


def to_image(sample: Sample) -> np.ndarray:
    """Return the first input as an image, shape (y, x, 3), 0 to 1.

    Three channels are shown as they are. For any other number, the first channel is stretched over its range.

    Args:
        sample: Sample of a dataset.
    """
    values = next(iter(sample["inputs"].values())).float()
    if values.shape[0] != 3:
        first = values[0] - torch.nan_to_num(values[0], nan=torch.inf).min()
        values = (first / torch.nan_to_num(first).max().clamp_min(1e-12)).nan_to_num().expand(3, -1, -1)
    return values.clamp(0, 1).permute(1, 2, 0).numpy()
