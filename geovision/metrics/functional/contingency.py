"""Scores of yes or no: hits, false alarms, misses and correct negatives of an event.

As in Jolliffe and Stephenson 2012, Forecast Verification, chapter 3: with a hits, b false alarms,
c misses, d correct negatives and n all together. What is undefined, for want of events or of forecasts,
is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geovision.metrics._masked import mask_pair

__all__ = ["Contingency", "contingency", "event_contingency"]


@dataclass(frozen=True)
class Contingency:
    """Counts, float64 of one shape; tables of parts of the data add up."""

    hits: Tensor
    false_alarms: Tensor
    misses: Tensor
    correct_negatives: Tensor

    def __add__(self, other: Contingency) -> Contingency:
        return Contingency(
            self.hits + other.hits,
            self.false_alarms + other.false_alarms,
            self.misses + other.misses,
            self.correct_negatives + other.correct_negatives,
        )

    @property
    def total(self) -> Tensor:
        """n = a + b + c + d."""
        return self.hits + self.false_alarms + self.misses + self.correct_negatives

    @property
    def base_rate(self) -> Tensor:
        """(a + c) / n, how often the event happened."""
        return (self.hits + self.misses) / self.total

    @property
    def accuracy(self) -> Tensor:
        """(a + d) / n, 0-1; high for any rare event that is never forecast."""
        return (self.hits + self.correct_negatives) / self.total

    @property
    def probability_of_detection(self) -> Tensor:
        """POD = a / (a + c), 0-1: the part of the events that was forecast."""
        return self.hits / (self.hits + self.misses)

    @property
    def false_alarm_ratio(self) -> Tensor:
        """FAR = b / (a + b), 0-1: the part of the forecasts that were wrong."""
        return self.false_alarms / (self.hits + self.false_alarms)

    @property
    def probability_of_false_detection(self) -> Tensor:
        """POFD = b / (b + d), 0-1: the part of the non-events that was forecast as events."""
        return self.false_alarms / (self.false_alarms + self.correct_negatives)

    @property
    def critical_success_index(self) -> Tensor:
        """CSI = a / (a + b + c), 0-1."""
        return self.hits / (self.hits + self.false_alarms + self.misses)

    @property
    def frequency_bias(self) -> Tensor:
        """(a + b) / (a + c): above 1 the event is forecast too often."""
        return (self.hits + self.false_alarms) / (self.hits + self.misses)

    @property
    def f1(self) -> Tensor:
        """2 a / (2 a + b + c), 0-1, also the Dice coefficient."""
        return 2 * self.hits / (2 * self.hits + self.false_alarms + self.misses)

    @property
    def heidke_skill_score(self) -> Tensor:
        """HSS, -1 to 1: accuracy beyond that of chance, which has 0."""
        a, b, c, d = self.hits, self.false_alarms, self.misses, self.correct_negatives
        return 2 * (a * d - b * c) / ((a + c) * (c + d) + (a + b) * (b + d))

    @property
    def equitable_threat_score(self) -> Tensor:
        """ETS = (a - r) / (a + b + c - r) with the hits of chance r = (a + b)(a + c) / n, -1/3 to 1."""
        random = (self.hits + self.false_alarms) * (self.hits + self.misses) / self.total
        return (self.hits - random) / (self.hits + self.false_alarms + self.misses - random)

    @property
    def symmetric_extremal_dependence_index(self) -> Tensor:
        """SEDI, -1 to 1, which does not fade for rare events; of the rates H = POD and F = POFD,
        (ln F - ln H - ln(1 - F) + ln(1 - H)) / (ln F + ln H + ln(1 - F) + ln(1 - H))
        (Ferro and Stephenson 2011, doi:10.1175/WAF-D-10-05030.1). NaN where a rate is 0 or 1."""
        h, f = self.probability_of_detection, self.probability_of_false_detection
        logs = f.log(), h.log(), (1 - f).log(), (1 - h).log()
        found = (logs[0] - logs[1] - logs[2] + logs[3]) / sum(logs)
        inside = (h > 0) & (h < 1) & (f > 0) & (f < 1)
        return torch.where(inside, found, torch.full_like(found, torch.nan))


def contingency(
    prediction: Tensor, truth: Tensor, threshold: float, valid: Tensor | None = None
) -> Contingency:
    """Counts of the event that a field reaches a threshold.

    Args:
        prediction, truth: Of one shape and unit; a cell that is NaN in either does not count.
        threshold: In that unit; a value equal to it is an event.
        valid: Cells that count, broadcastable.

    >>> rain = torch.tensor([0.0, 2.0, 5.0, 7.0])
    >>> float(contingency(rain, torch.tensor([0.0, 6.0, 0.0, 9.0]), 5.0).critical_success_index)
    0.3333333333333333
    """
    p, t, there = mask_pair(prediction, truth, valid)
    return event_contingency(p >= threshold, t >= threshold, there)


def event_contingency(forecast: Tensor, observed: Tensor, valid: Tensor | None = None) -> Contingency:
    """Counts of an event that is said and seen, bool of one shape."""
    there = torch.ones_like(forecast) if valid is None else valid

    def count(cells: Tensor) -> Tensor:
        return (cells & there).sum().double()

    return Contingency(
        count(forecast & observed),
        count(forecast & ~observed),
        count(~forecast & observed),
        count(~forecast & ~observed),
    )
