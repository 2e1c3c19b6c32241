"""What is counted of a mask, for its report: yes and no, and what happened at each probability."""

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
    """Counts over all cells of a data set.

    Attributes:
        contingency: At the target's threshold.
        reliability: By tenths of probability.
    """

    contingency: Contingency
    reliability: ReliabilityCurve

    @classmethod
    def from_metrics(cls, contingency: Tensor, reliability: Tensor) -> MaskCounts:
        """From the values of the metrics ``contingency`` and ``reliability``."""
        return cls(Contingency(*contingency), reliability_from_sums(reliability))

    def text(self) -> list[str]:
        """For a terminal."""
        lines = ["", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self._counts())]
        lines += ["", "probability   said   happened   cells"]
        return lines + [
            f"{_bin_label(n):<11}  {said:6.3f}  {happened:8.3f}   {cells:,}"
            for n, said, happened, cells in self._rows()
        ]

    def markdown(self) -> list[str]:
        """For a page."""
        lines = ["", "| cells | |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {count:,} |" for name, count in self._counts()]
        lines += ["", "| probability | said | happened | cells |", "|---|---|---|---|"]
        return lines + [
            f"| {_bin_label(n)} | {said:.3f} | {happened:.3f} | {cells:,} |"
            for n, said, happened, cells in self._rows()
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; tenths in which nothing was said are left out."""
        rows = [
            {"probability": _bin_label(n), "said": said, "happened": happened, "cells": cells}
            for n, said, happened, cells in self._rows()
        ]
        return {"contingency": dict(self._counts()), "reliability": rows}

    def rows(self) -> list[tuple[str, str, MetricValue]]:
        """For a table: what, of which part, how much."""
        found = [("cells", name, MetricValue(count)) for name, count in self._counts()]
        for n, said, happened, cells in self._rows():
            found += [
                ("reliability_said", _bin_label(n), MetricValue(said)),
                ("reliability_happened", _bin_label(n), MetricValue(happened)),
                ("reliability_cells", _bin_label(n), MetricValue(cells)),
            ]
        return found

    def _counts(self) -> list[tuple[str, int]]:
        names = ("hits", "false_alarms", "misses", "correct_negatives")
        return [(name, int(getattr(self.contingency, name))) for name in names]

    def _rows(self) -> list[tuple[int, float, float, int]]:
        said, happened, cells = (each.tolist() for each in self.reliability)
        return [(n, said[n], happened[n], int(cells[n])) for n in range(RELIABILITY_BINS) if cells[n]]


def _bin_label(number: int) -> str:
    return f"{number / RELIABILITY_BINS:.1f}-{(number + 1) / RELIABILITY_BINS:.1f}"
