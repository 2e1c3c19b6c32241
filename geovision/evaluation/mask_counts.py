"""Contingency table and reliability of a mask report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geovision.evaluation.report import MetricValue
from geovision.metrics.functional.contingency import Contingency
from geovision.metrics.mask_metrics import RELIABILITY_BINS, ReliabilityCurve, reliability_from_sums

__all__ = ["MaskCounts"]

PER_SAMPLE_NOTE = (
    "Scores are pooled over all cells, object scores over all connected areas; those with per_sample=True "
    "are means over the samples in which they are defined."
)


@dataclass(frozen=True)
class MaskCounts:
    """Counts over all cells of a dataset.

    Attributes:
        contingency: Contingency table at the target's threshold.
        reliability: Reliability in bins of 0.1 of probability.
    """

    contingency: Contingency
    reliability: ReliabilityCurve

    @classmethod
    def from_metrics(cls, contingency: Tensor, reliability: Tensor) -> MaskCounts:
        """Create the counts from the values of the metrics.

        Args:
            contingency: Value of the metric ``contingency``, shape (4,).
            reliability: Value of the metric ``reliability``, shape (3, bin).
        """
        return cls(Contingency(*contingency), reliability_from_sums(reliability))

    def text(self) -> list[str]:
        """Return the lines for a terminal."""
        lines = ["", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self._counts())]
        lines += ["", "probability  forecast  observed   cells"]
        return lines + [
            f"{_bin_label(n):<11}  {forecast:8.3f}  {observed:8.3f}   {cells:,}"
            for n, forecast, observed, cells in self._rows()
        ]

    def markdown(self) -> list[str]:
        """Return the lines for a Markdown page."""
        lines = ["", "| cells | |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {count:,} |" for name, count in self._counts()]
        lines += ["", "| probability | forecast | observed | cells |", "|---|---|---|---|"]
        return lines + [
            f"| {_bin_label(n)} | {forecast:.3f} | {observed:.3f} | {cells:,} |"
            for n, forecast, observed, cells in self._rows()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; empty bins are omitted."""
        rows = [
            {"probability": _bin_label(n), "said": forecast, "happened": observed, "cells": cells}
            for n, forecast, observed, cells in self._rows()
        ]
        return {"contingency": dict(self._counts()), "reliability": rows}

    def rows(self) -> list[tuple[str, str, MetricValue]]:
        """Return (name, part, value) for the table of scores."""
        found = [("cells", name, MetricValue(count)) for name, count in self._counts()]
        for n, forecast, observed, cells in self._rows():
            found += [
                ("reliability_said", _bin_label(n), MetricValue(forecast)),
                ("reliability_happened", _bin_label(n), MetricValue(observed)),
                ("reliability_cells", _bin_label(n), MetricValue(cells)),
            ]
        return found

    def _counts(self) -> list[tuple[str, int]]:
        names = ("hits", "false_alarms", "misses", "correct_negatives")
        return [(name, int(getattr(self.contingency, name))) for name in names]

    def _rows(self) -> list[tuple[int, float, float, int]]:
        forecast, observed, cells = (each.tolist() for each in self.reliability)
        return [(n, forecast[n], observed[n], int(cells[n])) for n in range(RELIABILITY_BINS) if cells[n]]


def _bin_label(number: int) -> str:
    return f"{number / RELIABILITY_BINS:.1f}-{(number + 1) / RELIABILITY_BINS:.1f}"
