"""Contingency tables of events: hits, false alarms, misses and correct negatives.

Notation of Jolliffe and Stephenson 2012, Forecast Verification, chapter 3: a hits, b false alarms, c misses,
d correct negatives, and n their sum. Scores that are undefined, for lack of events or of forecasts, are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geovision.metrics._masked import mask_pair

__all__ = ["Contingency", "contingency", "event_contingency"]


@dataclass(frozen=True)
class Contingency:
    """Contingency table of an event.

    Tables of parts of the data can be added.

    Attributes:
        hits: Number a of events that were forecast, float64; all counts have one shape.
        false_alarms: Number b of forecasts without an event.
        misses: Number c of events without a forecast.
        correct_negatives: Number d of cells without forecast and event.
    """

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
        """Total number of cells, n = a + b + c + d."""
        return self.hits + self.false_alarms + self.misses + self.correct_negatives

    @property
    def base_rate(self) -> Tensor:
        """Observed frequency of the event, (a + c) / n, 0 to 1."""
        return (self.hits + self.misses) / self.total

    @property
    def accuracy(self) -> Tensor:
        """Fraction of correct cells, (a + d) / n, 0 to 1 (best).

        It is high for any rare event that is never forecast.
        """
        return (self.hits + self.correct_negatives) / self.total

    @property
    def probability_of_detection(self) -> Tensor:
        """Probability of detection (POD), a / (a + c), 0 to 1 (best).

        The fraction of events that were forecast.
        """
        return self.hits / (self.hits + self.misses)

    @property
    def false_alarm_ratio(self) -> Tensor:
        """False alarm ratio (FAR), b / (a + b), 0 (best) to 1.

        The fraction of forecasts that were wrong.
        """
        return self.false_alarms / (self.hits + self.false_alarms)

    @property
    def probability_of_false_detection(self) -> Tensor:
        """Probability of false detection (POFD), b / (b + d), 0 (best) to 1.

        The fraction of non-events that were forecast as events.
        """
        return self.false_alarms / (self.false_alarms + self.correct_negatives)

    @property
    def critical_success_index(self) -> Tensor:
        """Critical success index (CSI), a / (a + b + c), 0 to 1 (best).

        Also known as threat score or intersection over union (IoU).
        """
        return self.hits / (self.hits + self.false_alarms + self.misses)

    @property
    def frequency_bias(self) -> Tensor:
        """Frequency bias, (a + b) / (a + c), from 0; 1 is best.

        Above 1 the event is forecast too often.
        """
        return (self.hits + self.false_alarms) / (self.hits + self.misses)

    @property
    def f1(self) -> Tensor:
        """F1 score or Dice coefficient, 2 a / (2 a + b + c), 0 to 1 (best)."""
        return 2 * self.hits / (2 * self.hits + self.false_alarms + self.misses)

    @property
    def heidke_skill_score(self) -> Tensor:
        """Heidke skill score (HSS), -1 to 1 (best).

        Accuracy relative to that of chance, which has 0:
        ``2 (a d - b c) / ((a + c)(c + d) + (a + b)(b + d))``.
        """
        a, b, c, d = self.hits, self.false_alarms, self.misses, self.correct_negatives
        return 2 * (a * d - b * c) / ((a + c) * (c + d) + (a + b) * (b + d))

    @property
    def equitable_threat_score(self) -> Tensor:
        """Equitable threat score (ETS), -1/3 to 1 (best).

        ``(a - r) / (a + b + c - r)`` with the expected hits of chance ``r = (a + b)(a + c) / n``.
        """
        random = (self.hits + self.false_alarms) * (self.hits + self.misses) / self.total
        return (self.hits - random) / (self.hits + self.false_alarms + self.misses - random)

    @property
    def symmetric_extremal_dependence_index(self) -> Tensor:
        """Symmetric extremal dependence index (SEDI), -1 to 1 (best).

        ``(ln F - ln H - ln(1 - F) + ln(1 - H)) / (ln F + ln H + ln(1 - F) + ln(1 - H))`` of the rates H = POD
        and F = POFD. It does not degenerate for rare events (Ferro and Stephenson 2011,
        doi:10.1175/WAF-D-10-05030.1). NaN if a rate is 0 or 1.
        """
        h, f = self.probability_of_detection, self.probability_of_false_detection
        logs = f.log(), h.log(), (1 - f).log(), (1 - h).log()
        index = (logs[0] - logs[1] - logs[2] + logs[3]) / sum(logs)
        inside = (h > 0) & (h < 1) & (f > 0) & (f < 1)
        return torch.where(inside, index, torch.full_like(index, torch.nan))


def contingency(
    prediction: Tensor, truth: Tensor, threshold: float, valid: Tensor | None = None
) -> Contingency:
    """Count hits, misses and false alarms of a threshold event.

    Args:
        prediction: Predicted field, any shape; NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        threshold: Least value of the event, in the unit of the fields.
        valid: Cells to include, bool, broadcastable. Default: all.

    >>> rain = torch.tensor([0.0, 2.0, 5.0, 7.0])
    >>> float(contingency(rain, torch.tensor([0.0, 6.0, 0.0, 9.0]), 5.0).critical_success_index)
    0.3333333333333333
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    return event_contingency(p >= threshold, t >= threshold, mask)


def event_contingency(forecast: Tensor, observed: Tensor, valid: Tensor | None = None) -> Contingency:
    """Count hits, misses and false alarms of an event.

    Args:
        forecast: Cells in which the event was forecast, bool, any shape.
        observed: Cells in which the event was observed, bool, same shape.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    mask = torch.ones_like(forecast) if valid is None else valid

    def count(cells: Tensor) -> Tensor:
        return (cells & mask).sum().double()

    return Contingency(
        count(forecast & observed),
        count(forecast & ~observed),
        count(~forecast & observed),
        count(~forecast & ~observed),
    )
