"""Labeled predictions that `GeoModel.predict` returns."""

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
"""Lower bounds of the probability and terms of the IPCC likelihood scale (Mastrandrea et al. 2010)."""


def confidence_word(probability: float, language: Literal["en", "zh"] = "en") -> str:
    """Return the IPCC likelihood term of a calibrated probability.

    Args:
        probability: Calibrated probability, 0-1.
        language: Language of the term, ``"en"`` or ``"zh"``. Default: ``"en"``.

    >>> confidence_word(0.7)
    'likely'
    """
    word = next(word for bound, word in LIKELIHOOD_TERMS if probability >= bound)
    return word.en if language == "en" else word.zh


@dataclass(frozen=True)
class Prediction:
    """Prediction for one sample.

    Attributes:
        source: Source of the sample: a path, or ``"[3]"`` for the fourth array.
        flags: Reasons not to rely on the prediction, such as ``"not_a_sky"``; with ``"unreadable"``, there
            is no prediction.
        error: Reason why there is no prediction; None if there is one.
    """

    source: str
    flags: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ClassPrediction(Prediction):
    """Predicted class of one sample.

    Attributes:
        label: Code of the most probable class.
        confidence: Calibrated probability of this class, 0-1.
        probabilities: Calibrated probability of each class by code, in descending order; their sum is 1.
        card: Description of the class; None if the task has no cards.
        outlier_score: Distance of the input from the training data, where above 1 is an outlier; None if
            the score is not fitted.
    """

    label: str = ""
    confidence: float = 0.0
    probabilities: Mapping[str, float] = field(default_factory=dict)
    card: ClassCard | None = None
    outlier_score: float | None = None

    @property
    def word(self) -> str:
        """IPCC likelihood term of the confidence."""
        return confidence_word(self.confidence)

    def top(self, k: int = 3) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, in descending order.

        Args:
            k: Number of classes. Default: 3.
        """
        return list(self.probabilities.items())[:k]

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain data for tables and JSON."""
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
    """Base class of predicted maps.

    Attributes:
        grid: Cell centers; None if unknown.
        time: Valid time of the prediction, UTC; None if unknown.
    """

    grid: Grid | None = None
    time: np.datetime64 | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        raise NotImplementedError

    def _place(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.time is not None:
            found["time"] = str(self.time.astype("datetime64[s]"))
        if self.grid is not None:
            found |= {"latitude": list(self.grid.lat), "longitude": list(self.grid.lon)}
        return found


def auxiliary_unit(layer: str, unit: str) -> str:
    """Return the unit of an auxiliary field; probabilities are dimensionless.

    Args:
        layer: Name of the auxiliary field.
        unit: Unit of the predicted field.

    >>> auxiliary_unit("quantile_0.9", "mm day-1"), auxiliary_unit("probability_of_1", "mm day-1")
    ('mm day-1', '1')
    """
    return "1" if layer.startswith("probability") else unit


@dataclass(frozen=True, eq=False)
class FieldPrediction(DensePrediction):
    """Predicted quantity in every cell.

    Attributes:
        name: Name of the quantity.
        unit: Unit of the quantity.
        values: Predicted values, float32, shape ``(y, x)``, south first; NaN in invalid cells.
        layers: Auxiliary fields by name, shape ``(y, x)`` each, such as quantiles or the probability of a
            wet cell.
        grid: Cell centers; None if unknown.
        time: Valid time of the prediction, UTC; None if unknown.
    """

    name: str = ""
    unit: str = ""
    values: NDArray[np.floating] = field(default_factory=lambda: _EMPTY)
    layers: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Mask of the cells with a valid prediction, shape ``(y, x)``."""
        finite: NDArray[np.bool_] = np.isfinite(self.values)
        return finite

    def as_dict(self) -> dict[str, Any]:
        """Return statistics and all values for JSON; NaN becomes None."""
        valid_values = self.values[self.valid]
        return {
            "source": self.source,
            "flags": list(self.flags),
            "name": self.name,
            "unit": self.unit,
            "mean": float(valid_values.mean()) if valid_values.size else None,
            "highest": float(valid_values.max()) if valid_values.size else None,
            "valid_cells": int(valid_values.size),
            "values": _to_json_values(self.values),
            "layers": {name: _to_json_values(layer) for name, layer in self.layers.items()},
            **self._place(),
        }


@dataclass(frozen=True, eq=False)
class MaskPrediction(DensePrediction):
    """Predicted mask: a probability in every cell.

    Attributes:
        name: Name of the phenomenon.
        probability: Probabilities, float32, shape ``(y, x)``, 0-1; NaN in invalid cells.
        threshold: Probability from which a cell is positive, 0-1.
        grid: Cell centers; None if unknown.
        time: Valid time of the prediction, UTC; None if unknown.
    """

    name: str = ""
    probability: NDArray[np.floating] = field(default_factory=lambda: _EMPTY)
    threshold: float = 0.5

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.probability.shape[0], self.probability.shape[1]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Mask of the cells with a valid prediction, shape ``(y, x)``."""
        finite: NDArray[np.bool_] = np.isfinite(self.probability)
        return finite

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask of the positive cells, shape ``(y, x)``."""
        return self.probability >= self.threshold

    def as_dict(self) -> dict[str, Any]:
        """Return statistics and all probabilities for JSON; NaN becomes None."""
        valid_values = self.probability[self.valid]
        return {
            "source": self.source,
            "flags": list(self.flags),
            "name": self.name,
            "threshold": self.threshold,
            "cells": int(self.mask.sum()),
            "highest": float(valid_values.max()) if valid_values.size else None,
            "valid_cells": int(valid_values.size),
            "probability": _to_json_values(self.probability),
            **self._place(),
        }


def _to_json_values(values: NDArray[np.floating]) -> list[list[float | None]]:
    return [[float(each) if np.isfinite(each) else None for each in row] for row in values]
