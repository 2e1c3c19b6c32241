"""Reports of fields and masks, computed batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geovision import metrics as metric_table
from geovision.datasets.base import GeoDataset, Sample
from geovision.evaluation.dense_predictions import DensePredictions, EnsembleConfig, predict_batches
from geovision.evaluation.mask_counts import PER_SAMPLE_NOTE, MaskCounts
from geovision.evaluation.report import MetricValue, Report, build_provenance, to_metric_value
from geovision.metrics.bootstrap import GroupedMetrics
from geovision.metrics.ensemble import EnsembleMetric
from geovision.metrics.field_metrics import DISTRIBUTIONS, FullFieldMetric
from geovision.metrics.functional import regression as field_scores
from geovision.metrics.functional.spectra import spectrum
from geovision.metrics.mask_metrics import PROBABILITY_BINS
from geovision.metrics.spells import SpellBias
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest
from geovision.spec import FieldTarget, Grid, MaskTarget, Target

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["DenseReport", "ensemble_for", "evaluate_dense", "score_dense"]

_UNPAIRED_NOTE = (
    "The inputs are a free-running simulation, whose days do not correspond to those of the target; only "
    "distributions are scored, not errors or correlations."
)

_TABLE_METRICS = ("probability_histogram", "contingency", "reliability")

_MAX_GROUPS_SHOWN = 9
"""Largest number of groups in a diagram that the color cycle of matplotlib can distinguish."""

MAX_BUFFER_BYTES = 2**30
"""Largest size of predictions and targets that are kept for scores and figures of all samples."""


class PredictionBuffer:
    """Buffer of all predictions and targets, if they have one shape and fit.

    Args:
        max_bytes: Largest size, in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.remaining_bytes, self.is_complete = max_bytes, True
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, prediction: Tensor, truth: Tensor) -> None:
        """Add a batch, or discard everything if the shape differs or the size is exceeded.

        Args:
            prediction: Prediction, shape (sample, 1, y, x).
            truth: Target, same shape.
        """
        self.remaining_bytes -= prediction.nbytes + truth.nbytes
        same = not self._parts or self._parts[0][0].shape[1:] == prediction.shape[1:]
        if self.remaining_bytes < 0 or not same:
            self.is_complete = False
            self._parts.clear()
        elif self.is_complete:
            self._parts.append((prediction, truth))

    def tensors(self) -> tuple[Tensor, Tensor] | None:
        """Return prediction and target of all samples, shape (sample, 1, y, x); None if discarded."""
        if not self.is_complete or not self._parts:
            return None
        return torch.cat([p for p, _ in self._parts]), torch.cat([t for _, t in self._parts])


class _ExampleSelector:
    """Selector of the sample with the largest mean target."""

    def __init__(self) -> None:
        self.position, self.mean_value = -1, -np.inf
        self.prediction = self.truth = torch.empty(0)

    def update(self, prediction: Tensor, truth: Tensor, begin: int) -> None:
        amounts = truth.flatten(1).nanmean(1).nan_to_num(-torch.inf)
        at = int(amounts.argmax())
        if float(amounts[at]) > self.mean_value or self.position < 0:
            self.position, self.mean_value = begin + at, float(amounts[at])
            self.prediction, self.truth = prediction[at, 0].clone(), truth[at, 0].clone()


@dataclass(frozen=True, eq=False, kw_only=True)
class DenseReport(Report):
    """Scores of fields or masks.

    Attributes:
        target: Target of the model.
        predictions: Prediction and target of all samples, shape (sample, 1, y, x), NaN where missing. None if
            they were too large or had several shapes.
        example: Prediction and target, shape (y, x), of the sample with the largest mean target.
        example_index: Index of that sample in the dataset.
        probability_histogram: Cells without and with the event in bins of probability, shape (2, bin). None
            for fields.
        mask_counts: Contingency table and reliability of masks. None for fields.
        output_grid: Centers of the cells of the prediction. None: unknown.
        input_grid: Centers of the cells of the input. None: unknown.
        get_sample: Function that returns a sample of the dataset by its index.
    """

    target: Target
    predictions: tuple[Tensor, Tensor] | None = field(repr=False)
    example: tuple[Tensor, Tensor] = field(repr=False)
    example_index: int
    probability_histogram: np.ndarray | None = None
    mask_counts: MaskCounts | None = None
    output_grid: Grid | None = field(default=None, repr=False)
    input_grid: Grid | None = field(default=None, repr=False)
    get_sample: Callable[[int], Sample] = field(repr=False)

    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """Draw the figures.

        The figures show maps of the example. For fields they also show quantiles, spectra, errors of every
        cell and the Taylor diagram; for masks reliability and the performance diagram.

        Returns:
            Figures by name.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        if isinstance(self.target, MaskTarget):
            return self._mask_figures(self.target)
        assert isinstance(self.target, FieldTarget)
        return self._field_figures(self.target)

    def _extra_text(self) -> list[str]:
        return self.mask_counts.text() if self.mask_counts else []

    def _extra_markdown(self) -> list[str]:
        return self.mask_counts.markdown() if self.mask_counts else []

    def _extra_data(self) -> dict[str, Any]:
        return self.mask_counts.as_dict() if self.mask_counts else {}

    def _extra_rows(self) -> list[tuple[str, str, MetricValue]]:
        return self.mask_counts.rows() if self.mask_counts else []

    def _example_input(self) -> tuple[np.ndarray, str, str]:
        """Return the first channel of the example's first input, its source and its name."""
        found = self.get_sample(self.example_index)
        name, values = next(iter(found["inputs"].items()))
        valid = found["valid"].get(name)
        values = values if valid is None else values.where(valid, torch.nan)
        while values.ndim > 2:
            values = values[-1 if values.ndim > 3 else 0]
        return values.float().numpy(), found["source"], name

    def _field_figures(self, target: FieldTarget) -> dict[str, matplotlib.figure.Figure]:
        from geovision.plots import fields as plots

        given, source, _ = self._example_input()
        prediction, truth = (each.numpy() for each in self.example)
        levels = target.contour_levels or _contour_levels(truth)
        unit = target.channel.unit
        figures = {
            "maps": plots.plot_fields(
                given,
                prediction,
                truth,
                extent=_extent(self.output_grid, truth.shape),
                coarse_extent=_extent(self.input_grid, given.shape),
                unit=unit,
                levels=levels,
                suptitle=source,
            )
        }
        if self.predictions is None:
            return figures
        prediction_all, truth_all = self.predictions
        model = str(self.provenance["model"])
        pairs = field_scores.quantile_pairs(prediction_all, truth_all)
        figures["quantiles"] = plots.plot_quantile_quantile(
            {model: (pairs[0].numpy(), pairs[1].numpy())}, unit=unit
        )
        valid = torch.isfinite(prediction_all) & torch.isfinite(truth_all)
        powers = {
            name: tuple(part.numpy() for part in spectrum(values.where(valid, 0.0)))
            for name, values in (("target", truth_all), (model, prediction_all))
        }
        figures["spectra"] = plots.plot_spectra(powers)  # type: ignore[arg-type]
        bias = field_scores.bias(prediction_all, truth_all, over="time")[0].numpy()
        rmse = field_scores.rmse(prediction_all, truth_all, over="time")[0].numpy()
        figures["errors"] = plots.plot_errors(
            bias, rmse, extent=_extent(self.output_grid, bias.shape), unit=unit
        )
        if "correlation" in self.metrics:  # requires corresponding days
            figures["taylor"] = plots.plot_taylor_diagram(self._taylor_statistics(prediction_all, truth_all))
        return figures

    def _taylor_statistics(self, prediction: Tensor, truth: Tensor) -> dict[str, tuple[float, float]]:
        """Return ratio of standard deviations and correlation, for all samples and for each group.

        Groups are omitted if there are more than `_MAX_GROUPS_SHOWN`.
        """
        names = list(dict.fromkeys(self.groups))
        chosen = {"all": list(range(len(self.groups)))}
        if 1 < len(names) <= _MAX_GROUPS_SHOWN:
            for name in names:
                chosen[name] = [number for number, group in enumerate(self.groups) if group == name]
        found = {}
        for name, days in chosen.items():
            ratio = field_scores.std_ratio(prediction[days], truth[days])
            correlation = field_scores.correlation(prediction[days], truth[days])
            if torch.isfinite(ratio) and torch.isfinite(correlation):
                found[name] = float(ratio), float(correlation)
        return found

    def _mask_figures(self, target: MaskTarget) -> dict[str, matplotlib.figure.Figure]:
        from geovision.plots import masks

        assert self.probability_histogram is not None
        given, source, name = self._example_input()
        probability, truth = (each.numpy() for each in self.example)
        without_event, with_event = self.probability_histogram
        return {
            "maps": masks.plot_mask_maps(
                given,
                probability,
                truth,
                threshold=target.threshold,
                name=target.name,
                input_name=name,
                extent=_extent(self.output_grid, truth.shape),
                suptitle=source,
            ),
            "mask_reliability": masks.plot_mask_reliability(without_event, with_event),
            "performance": masks.plot_performance_diagram(
                without_event, with_event, threshold=target.threshold
            ),
        }


def _extent(grid: Grid | None, shape: Sequence[int]) -> tuple[float, float, float, float] | None:
    """Return the edges of a grid if it is known and has this shape."""
    from geovision.plots.fields import grid_extent

    return grid_extent(grid) if grid is not None and grid.size == tuple(shape) else None


def _contour_levels(values: np.ndarray) -> tuple[float, ...]:
    valid = values[np.isfinite(values)]
    low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 1.0)
    return tuple(np.linspace(low, high if high > low else low + 1, 11).tolist())


def evaluate_dense(
    model: GeoModel,
    data: GeoDataset,
    *,
    batch_size: int,
    n_bootstrap: int,
    seed: int,
    progress: bool,
    members: int | None = None,
) -> DenseReport:
    """Evaluate a field or mask model on a dataset. See `geovision.evaluate`.

    Args:
        model: Field or mask model.
        data: Samples.
        batch_size: Samples per forward pass.
        n_bootstrap: Number of bootstrap resamples; 0 computes no intervals.
        seed: Seed of the bootstrap and of the ensemble.
        progress: Whether to show a progress bar on stderr.
        members: Number of ensemble members; 0 for no ensemble. Default: those that the model provides.
    """
    ensemble = ensemble_for(model, data, members, seed=seed)
    return score_dense(
        predict_batches(model, data, batch_size=batch_size, progress=progress, ensemble=ensemble),
        model,
        data,
        provenance={"model": model.spec.name, "weights": weights_digest(model)},
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def ensemble_for(
    model: GeoModel, data: GeoDataset, members: int | None = None, *, seed: int = 0
) -> EnsembleConfig | None:
    """Return the ensemble that the metrics of a model's task need, or None.

    Args:
        model: Field or mask model.
        data: Samples to be scored.
        members: Number of members; 0 for no ensemble. Default: None, those that the model provides.
        seed: Seed of the draws. Default: 0.
    """
    needed = any(isinstance(metric, EnsembleMetric) for metric in _supported_metrics(model, data).values())
    return EnsembleConfig(members, seed) if needed and members != 0 else None


def _supported_metrics(model: GeoModel, data: GeoDataset) -> dict[str, Any]:
    """Return the metrics of a model's task that the samples support."""
    names = [n for n in model.task.metrics if data.synchronous or metric_table.parse(n)[0] in DISTRIBUTIONS]
    return metric_table.applicable(names, model.target)


def score_dense(
    batches: Iterable[DensePredictions],
    model: GeoModel,
    data: GeoDataset,
    *,
    provenance: Mapping[str, Any],
    notes: Sequence[str] = (),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> DenseReport:
    """Score predictions of fields or masks, in batches.

    Args:
        batches: Predictions and targets of all samples, in their order.
        model: Model with the task, target and grids of the predictions.
        data: Samples that were predicted.
        provenance: Provenance of the predictions; at least ``"model"``.
        notes: Remarks for the reader of the report. Default: none.
        n_bootstrap: Number of bootstrap resamples; 0 computes no intervals. Default: 1000.
        seed: Seed of the bootstrap. Default: 0.
    """
    found = _supported_metrics(model, data)
    is_mask = isinstance(model.target, MaskTarget)
    whole = {name: metric for name, metric in found.items() if isinstance(metric, FullFieldMetric)}
    of_members = {name: metric for name, metric in found.items() if isinstance(metric, EnsembleMetric)}
    summed = {name: metric for name, metric in found.items() if name not in {**whole, **of_members}}
    if is_mask:
        summed |= metric_table.applicable(_TABLE_METRICS, model.target)
    states, ensembles = GroupedMetrics(summed), GroupedMetrics(of_members)
    buffer, example = PredictionBuffer(MAX_BUFFER_BYTES), _ExampleSelector()
    groups: list[str] = []
    sources: list[str] = []
    notes = [*notes, *([] if data.synchronous else [_UNPAIRED_NOTE])]
    for batch in batches:
        states.update(batch.prediction, batch.truth, batch.groups)
        if batch.members:
            ensembles.update(batch.members.fields.float().cpu(), batch.truth, batch.groups)
            note = f"{', '.join(of_members)}: of {batch.members.fields.shape[1]} {batch.members.origin}."
            notes += [note] if note not in notes else []
        buffer.add(batch.prediction, batch.truth)
        example.update(batch.prediction, batch.truth, len(groups))
        groups += batch.groups
        sources += batch.sources
    estimates = states.estimates(n_bootstrap=n_bootstrap, seed=seed)
    estimates |= ensembles.estimates(n_bootstrap=n_bootstrap, seed=seed)
    tables = {name: estimates.pop(name).value for name in _TABLE_METRICS if name in summed}
    table = (
        tables["probability_histogram"][: 2 * PROBABILITY_BINS].reshape(2, PROBABILITY_BINS).numpy()
        if is_mask
        else None
    )
    mask_counts = MaskCounts.from_metrics(tables["contingency"], tables["reliability"]) if is_mask else None
    scores = {name: to_metric_value(estimate) for name, estimate in estimates.items()}
    all_fields = buffer.tensors()
    scores |= _full_field_scores(whole, all_fields, groups, data.is_consecutive, notes)
    if any("per_sample" in name for name in scores):
        notes.append(PER_SAMPLE_NOTE)
    return DenseReport(
        task=model.task,
        metrics={name: scores[name] for name in found if name in scores},
        provenance=build_provenance(data, sources, provenance, n_bootstrap=n_bootstrap, seed=seed),
        groups=groups,
        notes=notes,
        target=model.target,
        predictions=all_fields,
        example=(example.prediction, example.truth),
        example_index=example.position,
        probability_histogram=table,
        mask_counts=mask_counts,
        output_grid=model.config.grids.target if model.config.grids else None,
        input_grid=model.config.grids.given if model.config.grids else None,
        get_sample=data.__getitem__,
    )


def _full_field_scores(
    metrics: Mapping[str, FullFieldMetric],
    all_fields: tuple[Tensor, Tensor] | None,
    groups: Sequence[str],
    follows: Sequence[bool] | None,
    notes: list[str],
) -> dict[str, MetricValue]:
    """Return the scores of all fields at once, and add a note for each omission."""
    spells = {name: metric for name, metric in metrics.items() if isinstance(metric, SpellBias)}
    others = {name: metric for name, metric in metrics.items() if name not in spells}
    if all_fields is None:
        if metrics:
            notes.append(
                f"Not scored, because the predictions exceed the buffer or have several shapes: "
                f"{', '.join(metrics)}"
            )
        return {}
    scores = {name: MetricValue(float(metric(*all_fields))) for name, metric in others.items()}
    if follows is None:
        if spells:
            notes.append(f"Not scored, because the samples are not consecutive days: {', '.join(spells)}")
        return scores
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group, begins = torch.tensor([numbers[each] for each in groups]), ~torch.tensor(follows)
    return scores | {name: MetricValue(float(m(*all_fields, group, begins))) for name, m in spells.items()}
