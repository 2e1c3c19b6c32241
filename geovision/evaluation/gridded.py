"""Reports of fields and masks: batch by batch, so that what is scored need not fit into memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from geovision import metrics as metric_table
from geovision.datasets.base import GeoDataset, Sample, collate
from geovision.errors import DatasetError
from geovision.evaluation.mask_tables import PER_SAMPLE, MaskTables
from geovision.evaluation.report import Figure, Report, as_figure, facts_of
from geovision.metrics import fields as field_scores
from geovision.metrics.bootstrap import UnitStates
from geovision.metrics.gridded import BINS, DISTRIBUTIONS, WholeField
from geovision.metrics.spectra import spectrum
from geovision.models.folder import weights_digest
from geovision.models.geomodel import GeoModel
from geovision.spec import FieldTarget, Grid, MaskTarget, Target

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["Answers", "GriddedReport", "answers", "evaluate_gridded"]

_FREE = (
    "The inputs run freely: their days are not those of the truth, so distributions alone are "
    "scored, and no error or correlation."
)

_TABLES = ("mask_table", "mask_contingency", "mask_reliability")

MOST_KEPT = 2**30
"""Bytes of answers that are kept for the scores and figures that need all of them at once."""


class Answers(NamedTuple):
    """What a model said about a batch: ``(batch, 1, y, x)``, NaN where nothing counts."""

    prediction: Tensor
    truth: Tensor
    units: list[str]
    sources: list[str]


def answers(
    model: GeoModel, data: GeoDataset, *, batch_size: int = 32, progress: bool = False
) -> Iterator[Answers]:
    """Ask a model of fields or masks about every sample of a data set, batch by batch.

    Args:
        model: Left as it was found; it is asked in evaluation mode, in float32, where it lies.

    Raises:
        DatasetError: The data set is empty, or of another task.
    """
    if not len(data):
        raise DatasetError(f"{data.card.name}: holds no samples to evaluate on")
    if data.task != model.task.name:
        raise DatasetError(
            f"{data.card.name} is of task {data.task!r}, {model.spec.name} of {model.task.name!r}"
        )
    was_training = model.training
    model.eval()
    try:
        yield from _batches(model, data, batch_size, progress)
    finally:
        model.train(was_training)


def _batches(model: GeoModel, data: GeoDataset, batch_size: int, progress: bool) -> Iterator[Answers]:
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    known = {spec.name for spec in model.inputs}
    loader = DataLoader(data, batch_size=batch_size, collate_fn=collate)
    with within_period(model, data):
        yield from _asked(model, loader, known, device, progress)


@contextlib.contextmanager
def within_period(model: GeoModel, data: GeoDataset) -> Iterator[None]:
    """Let a model whose answers depend on the whole period know that it is this data set."""
    period: Any = getattr(model.network, "period", None)
    if period is None or "whole_period" not in model.spec.capabilities:
        yield
        return

    def ask(days: Sequence[int]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        for sample in (data[day] for day in days):
            inputs = {name: values.unsqueeze(0) for name, values in sample["inputs"].items()}
            valid = {name: mask.unsqueeze(0) for name, mask in sample["valid"].items() if name in inputs}
            yield dict(model.normalise(inputs, valid)), valid

    with period(ask, len(data)):
        yield


def _asked(
    model: GeoModel, loader: DataLoader, known: set[str], device: torch.device, progress: bool
) -> Iterator[Answers]:
    head: Any = model.head
    first = True
    console = Console(stderr=True)
    for batch in track(loader, "evaluating", console=console, disable=not progress, transient=True):
        inputs = {name: value.to(device) for name, value in batch["inputs"].items() if name in known}
        valid = {name: value.to(device) for name, value in batch["valid"].items() if name in known}
        if first:
            model.check(inputs, valid=valid)
            first = False
        with torch.no_grad():
            output = model(inputs, valid=valid or None)
            prediction, truth = head.scored(
                output.values.float().cpu(), batch["target"], batch["valid"].get("target")
            )
        if output.valid is not None:
            prediction = prediction.where(output.valid.cpu().expand_as(prediction), torch.nan)
        yield Answers(prediction, truth, batch["unit"], batch["source"])


class Kept:
    """All answers together, as long as they are of one shape and there is room."""

    def __init__(self, most: int) -> None:
        self.room, self.whole = most, True
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, prediction: Tensor, truth: Tensor) -> None:
        self.room -= prediction.nbytes + truth.nbytes
        same = not self._parts or self._parts[0][0].shape[1:] == prediction.shape[1:]
        if self.room < 0 or not same:
            self.whole = False
            self._parts.clear()
        elif self.whole:
            self._parts.append((prediction, truth))

    def tensors(self) -> tuple[Tensor, Tensor] | None:
        """(prediction, truth) of all samples ``(sample, 1, y, x)``; None where they were not kept."""
        if not self.whole or not self._parts:
            return None
        return torch.cat([p for p, _ in self._parts]), torch.cat([t for _, t in self._parts])


class _Fullest:
    """The sample in which there is most to see."""

    def __init__(self) -> None:
        self.position, self.amount = -1, -np.inf
        self.prediction = self.truth = torch.empty(0)

    def look(self, prediction: Tensor, truth: Tensor, begin: int) -> None:
        amounts = truth.flatten(1).nanmean(1).nan_to_num(-torch.inf)
        at = int(amounts.argmax())
        if float(amounts[at]) > self.amount or self.position < 0:
            self.position, self.amount = begin + at, float(amounts[at])
            self.prediction, self.truth = prediction[at, 0].clone(), truth[at, 0].clone()


@dataclass(frozen=True, eq=False, kw_only=True)
class GriddedReport(Report):
    """Scores of fields or masks.

    Attributes:
        target: What was asked for.
        kept: (prediction, truth) of all samples ``(sample, 1, y, x)``, NaN where nothing counts; None where
            they were too many, or of several shapes.
        fullest: (prediction, truth) ``(y, x)`` of the sample in which there is most to see.
        position: Of that sample in the data set.
        table: Cells without and with the event by bins of probability ``(2, bin)``; None for fields.
        counted: Of masks, the table of yes and no and the reliability; None for fields.
        grid, given_grid: Middles of the cells of the answer and of the input; None where they are not
            known.
        sample: A sample of the data set by its position.
    """

    target: Target
    kept: tuple[Tensor, Tensor] | None = field(repr=False)
    fullest: tuple[Tensor, Tensor] = field(repr=False)
    position: int
    table: np.ndarray | None = None
    counted: MaskTables | None = None
    grid: Grid | None = field(default=None, repr=False)
    given_grid: Grid | None = field(default=None, repr=False)
    sample: Callable[[int], Sample] = field(repr=False)

    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """The figures by name: maps of the fullest sample; of fields quantiles against quantiles, spectra
        and errors of every cell; of masks reliability and performance.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        if isinstance(self.target, MaskTarget):
            return self._mask_figures(self.target)
        assert isinstance(self.target, FieldTarget)
        return self._field_figures(self.target)

    def _more_text(self) -> list[str]:
        return self.counted.text() if self.counted else []

    def _more_markdown(self) -> list[str]:
        return self.counted.markdown() if self.counted else []

    def _more_data(self) -> dict[str, Any]:
        return self.counted.data() if self.counted else {}

    def _more_rows(self) -> list[tuple[str, str, Figure]]:
        return self.counted.rows() if self.counted else []

    def _shown(self) -> tuple[np.ndarray, str, str]:
        """The first channel of the first input of the fullest sample, where it was read from, and its
        name."""
        found = self.sample(self.position)
        name, values = next(iter(found["inputs"].items()))
        there = found["valid"].get(name)
        values = values if there is None else values.where(there, torch.nan)
        while values.ndim > 2:
            values = values[-1 if values.ndim > 3 else 0]
        return values.float().numpy(), found["source"], name

    def _field_figures(self, target: FieldTarget) -> dict[str, matplotlib.figure.Figure]:
        from geovision.plots import fields as plots

        given, source, _ = self._shown()
        prediction, truth = (each.numpy() for each in self.fullest)
        levels = target.levels or _even_levels(truth)
        unit = target.channel.unit
        drawn = {
            "maps": plots.maps(given, prediction, truth, extent=_extent(self.grid, truth.shape),
                               coarse_extent=_extent(self.given_grid, given.shape),
                               unit=unit, levels=levels, heading=source)
        }  # fmt: skip
        if self.kept is None:
            return drawn
        prediction_all, truth_all = self.kept
        model = str(self.provenance["model"])
        pairs = field_scores.quantile_pairs(prediction_all, truth_all)
        drawn["quantiles"] = plots.quantile_quantile({model: (pairs[0].numpy(), pairs[1].numpy())}, unit=unit)
        there = torch.isfinite(prediction_all) & torch.isfinite(truth_all)
        powers = {
            name: tuple(part.numpy() for part in spectrum(values.where(there, 0.0)))
            for name, values in (("truth", truth_all), (model, prediction_all))
        }
        drawn["spectra"] = plots.spectra(powers)  # type: ignore[arg-type]
        bias = field_scores.bias(prediction_all, truth_all, over="time")[0].numpy()
        rmse = field_scores.rmse(prediction_all, truth_all, over="time")[0].numpy()
        drawn["errors"] = plots.errors(bias, rmse, extent=_extent(self.grid, bias.shape), unit=unit)
        return drawn

    def _mask_figures(self, target: MaskTarget) -> dict[str, matplotlib.figure.Figure]:
        from geovision.plots import masks

        assert self.table is not None
        given, source, name = self._shown()
        probability, truth = (each.numpy() for each in self.fullest)
        no, yes = self.table
        return {
            "maps": masks.mask_maps(
                given, probability, truth, threshold=target.threshold, name=target.name, given_name=name,
                extent=_extent(self.grid, truth.shape), heading=source,
            ),
            "mask_reliability": masks.mask_reliability(no, yes),
            "performance": masks.performance(no, yes, threshold=target.threshold),
        }  # fmt: skip


def _extent(grid: Grid | None, shape: Sequence[int]) -> tuple[float, float, float, float] | None:
    """Edges of a grid, where it is known and of this size."""
    from geovision.plots.fields import extent_of

    return extent_of(grid) if grid is not None and grid.size == tuple(shape) else None


def _even_levels(values: np.ndarray) -> tuple[float, ...]:
    there = values[np.isfinite(values)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)
    return tuple(np.linspace(low, high if high > low else low + 1, 11).tolist())


def evaluate_gridded(
    model: GeoModel, data: GeoDataset, *, batch_size: int, resamples: int, seed: int, progress: bool
) -> GriddedReport:
    """Score a model of fields or masks on a data set. See `geovision.evaluate`."""
    names = [n for n in model.task.metrics if data.synchronous or n in DISTRIBUTIONS]
    found = metric_table.applicable(names, model.target)
    is_mask = isinstance(model.target, MaskTarget)
    whole = {name: metric for name, metric in found.items() if isinstance(metric, WholeField)}
    summed = {name: metric for name, metric in found.items() if name not in whole}
    if is_mask:
        summed |= metric_table.applicable(_TABLES, model.target)
    states, kept, fullest = UnitStates(summed), Kept(MOST_KEPT), _Fullest()
    units: list[str] = []
    sources: list[str] = []
    for batch in answers(model, data, batch_size=batch_size, progress=progress):
        states.update(batch.prediction, batch.truth, batch.units)
        kept.add(batch.prediction, batch.truth)
        fullest.look(batch.prediction, batch.truth, len(units))
        units += batch.units
        sources += batch.sources
    estimates = states.estimates(resamples=resamples, seed=seed)
    tables = {name: estimates.pop(name).value for name in _TABLES if name in summed}
    table = tables["mask_table"][: 2 * BINS].reshape(2, BINS).numpy() if is_mask else None
    counted = MaskTables.of(tables["mask_contingency"], tables["mask_reliability"]) if is_mask else None
    scores = {name: as_figure(estimate) for name, estimate in estimates.items()}
    together = kept.tensors()
    notes = [] if data.synchronous else [_FREE]
    if together:
        scores |= {name: Figure(float(metric(*together))) for name, metric in whole.items()}
    elif whole:
        notes.append(f"Not scored, for the answers were too many to be kept or of several sizes: "
                     f"{', '.join(whole)}")  # fmt: skip
    if any(name.endswith("per_sample") for name in scores):
        notes.append(PER_SAMPLE)
    facts = {"model": model.spec.name, "weights": weights_digest(model)}
    return GriddedReport(
        task=model.task,
        metrics={name: scores[name] for name in found if name in scores},
        provenance=facts_of(data, sources, facts, resamples=resamples, seed=seed),
        units=units,
        notes=notes,
        target=model.target,
        kept=together,
        fullest=(fullest.prediction, fullest.truth),
        position=fullest.position,
        table=table,
        counted=counted,
        grid=model.options.grids.target if model.options.grids else None,
        given_grid=model.options.grids.given if model.options.grids else None,
        sample=data.__getitem__,
    )
