"""The labelled objects that `GeoModel.predict` answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geovision.spec import ClassCard, Text

__all__ = ["WORDS", "ClassPrediction", "Prediction", "confidence_word"]

WORDS = (
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
    word = next(word for bound, word in WORDS if probability >= bound)
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
