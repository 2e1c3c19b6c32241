"""The labelled objects that `GeoModel.predict` answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geovision.spec import ClassCard, Grid, Text

__all__ = [
    "LIKELIHOOD_TERMS",
    "ClassPrediction",
    "DensePrediction",
    "FieldPrediction",
    "MaskPrediction",
    "Prediction",
    "auxiliary_unit",
    "confidence_word",
]

_EMPTY: NDArray[np.floating] = np.full((0, 0), np.nan, dtype=np.float32)

LIKELIHOOD_TERMS = (
    (0.99, Text("virtually certain", "几乎确定")),
    (0.90, Text("very likely", "很可能")),
    (0.66, Text("likely", "可能")),
    (0.33, Text("about as likely as not", "或许可能")),
    (0.0, Text("unlikely", "不可能")),
)
"""The likelihood scale of the IPCC guidance note on uncertainty (Mastrandrea et al. 2010), by the
probability from which each word holds."""


def confidence_word(probability: float, language: Literal["en", "zh"] = "en") -> str:
    """The word for a calibrated probability, after the IPCC's likelihood scale.

    >>> confidence_word(0.7)
    'likely'
    """
    word = next(word for bound, word in LIKELIHOOD_TERMS if probability >= bound)
    return word.en if language == "en" else word.zh


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        source: What was asked about: a path, or ``"[3]"`` for the fourth array.
        flags: What speaks against relying on the answer, e.g. ``"not_a_sky"``; ``"unreadable"``:
            there is none.
        error: Why there is no answer; None where there is one.
    """

    source: str
    flags: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ClassPrediction(Prediction):
    """One class out of several.

    Attributes:
        label: Code of the likeliest class.
        confidence: Its calibrated probability, 0-1.
        probabilities: Calibrated probability of each class, likeliest first; they sum to 1.
        card: What a reader should know about the class; None where the task has no cards.
        outlier_score: How far the input lies from the training data; None where not fitted.
    """

    label: str = ""
    confidence: float = 0.0
    probabilities: Mapping[str, float] = field(default_factory=dict)
    card: ClassCard | None = None
    outlier_score: float | None = None

    @property
    def word(self) -> str:
        """The confidence in words, after the IPCC's likelihood scale."""
        return confidence_word(self.confidence)

    def top(self, k: int = 3) -> list[tuple[str, float]]:
        """The `k` likeliest classes with their probabilities, likeliest first."""
        return list(self.probabilities.items())[:k]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for tables and JSON."""
        return {
            "source": self.source,
            "label": self.label,
            "confidence": self.confidence,
            "word": self.word,
            "flags": list(self.flags),
            "outlier_score": self.outlier_score,
            "probabilities": dict(self.probabilities),
        }


@dataclass(frozen=True, eq=False)
class DensePrediction(Prediction):
    """What maps have in common.

    Attributes:
        grid: Middles of the cells; None where they are not known.
        time: For when it is said, UTC; None where it is not known.
    """

    grid: Grid | None = None
    time: np.datetime64 | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in cells."""
        raise NotImplementedError

    def _place(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.time is not None:
            found["time"] = str(self.time.astype("datetime64[s]"))
        if self.grid is not None:
            found |= {"latitude": list(self.grid.lat), "longitude": list(self.grid.lon)}
        return found


def auxiliary_unit(layer: str, unit: str) -> str:
    """The unit of what a head tells of every cell: that of its field, and of a probability 1.

    >>> unit_of("quantile_0.9", "mm day-1"), unit_of("probability_of_1", "mm day-1")
    ('mm day-1', '1')
    """
    return "1" if layer.startswith("probability") else unit


@dataclass(frozen=True, eq=False)
class FieldPrediction(DensePrediction):
    """A quantity in every cell.

    Attributes:
        name, unit: Of the quantity.
        values: float32 ``(y, x)``, NaN where the answer means nothing; south first.
        layers: What else the head tells of every cell, by name, ``(y, x)`` each: quantiles, or the
            probability of a wet cell.
        grid, time: As of `DensePrediction`.
    """

    name: str = ""
    unit: str = ""
    values: NDArray[np.floating] = field(default_factory=lambda: _EMPTY)
    layers: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where the answer means something, ``(y, x)``."""
        return np.isfinite(self.values)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what is there in few numbers, and every value; NaN is None."""
        there = self.values[self.valid]
        return {
            "source": self.source,
            "flags": list(self.flags),
            "name": self.name,
            "unit": self.unit,
            "mean": float(there.mean()) if there.size else None,
            "highest": float(there.max()) if there.size else None,
            "valid_cells": int(there.size),
            "values": _to_json_values(self.values),
            "layers": {name: _to_json_values(layer) for name, layer in self.layers.items()},
            **self._place(),
        }


@dataclass(frozen=True, eq=False)
class MaskPrediction(DensePrediction):
    """Yes or no in every cell.

    Attributes:
        name: Of what is there or not.
        probability: float32 ``(y, x)``, 0-1, NaN where the answer means nothing.
        threshold: Probability from which the answer is yes.
        grid, time: As of `DensePrediction`.
    """

    name: str = ""
    probability: NDArray[np.floating] = field(default_factory=lambda: _EMPTY)
    threshold: float = 0.5

    @property
    def size(self) -> tuple[int, int]:
        return self.probability.shape[0], self.probability.shape[1]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where the answer means something, ``(y, x)``."""
        return np.isfinite(self.probability)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where the answer is yes, ``(y, x)``."""
        return self.probability >= self.threshold

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what is there in few numbers, and every probability; NaN is None."""
        there = self.probability[self.valid]
        return {
            "source": self.source,
            "flags": list(self.flags),
            "name": self.name,
            "threshold": self.threshold,
            "cells": int(self.mask.sum()),
            "highest": float(there.max()) if there.size else None,
            "valid_cells": int(there.size),
            "probability": _to_json_values(self.probability),
            **self._place(),
        }


def _to_json_values(values: NDArray[np.floating]) -> list[list[float | None]]:
    return [[float(each) if np.isfinite(each) else None for each in row] for row in values]
