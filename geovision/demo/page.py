"""The page: one HTML file with its style inside, and figures beside it. It asks no other machine."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import jinja2

import geovision
from geovision._atomic_io import write_text
from geovision.spec import Task

if TYPE_CHECKING:
    from geovision.datasets.base import DatasetCard
    from geovision.demo.photos import PhotoPredictions
    from geovision.evaluation import MetricValue, Report

__all__ = ["MetricRow", "Section", "build_metric_rows", "figure_position", "write_page"]

CAPTIONS = {
    "confusion": "True classes in rows, answers in columns: counts, and the fraction of each true class.",
    "reliability": "How often the model is right when it claims a probability.",
    "mistakes": "The wrong answers that it was surest of.",
    "maps": "The sample in which there is most to see: what went in, what came out, and the truth.",
    "quantiles": "Quantiles of the answers over those of the truth: below the line the tail is too weak.",
    "spectra": "Power by wavelength: where the answer lies below the truth, it is too smooth.",
    "errors": "Bias and error of every cell over all samples held back.",
    "taylor": "Correlation as the angle, variation over the truth's as the radius, of all days and of each "
    "year or winter: the nearer to 1 on the axis, the better.",
    "mask_reliability": "How often what is said with a probability happens, and how often it is said.",
    "performance": "Detection over the part of what was said that happened, for every threshold; lines of "
    "equal critical success index.",
}
"""By figure of a report. A figure that is not named here stands under its own name."""

FLAGS = {
    "outlier": "Unlike the pictures that the model was trained on: do not rely on this answer.",
}
"""What a flag means to a reader."""


@dataclass(frozen=True)
class Section:
    """What the page shows of one task.

    Attributes:
        card: Of the data set whose layout was written.
        samples: (trained on, held back).
        steps: Optimiser steps; None for a model without gradient.
        prediction_figures: Figures of samples with what the model says.
        figures: Figures of the report.
        seconds: From the first file to the last figure.
        error: Why there is nothing else.
    """

    task: Task
    card: DatasetCard | None = None
    model: str = ""
    report: Report | None = None
    samples: tuple[int, int] = (0, 0)
    steps: int | None = None
    prediction_figures: Sequence[Path] = ()
    figures: Sequence[Path] = ()
    seconds: float = 0.0
    error: str = ""

    @property
    def metrics(self) -> list[MetricRow]:
        return build_metric_rows(self.report) if self.report else []


class MetricRow(NamedTuple):
    """One line of the metric table.

    Attributes:
        meaning: What the metric is, in a sentence.
        value, interval: As shown.
        bar: (left, width, mark) in percent of 0-1, for a metric that lies there; else None.
        headline: The task is judged by this one.
    """

    name: str
    meaning: str
    value: str
    interval: str
    bar: tuple[float, float, float] | None
    headline: bool


def build_metric_rows(report: Report) -> list[MetricRow]:
    """The metrics of a report, in its order."""
    return [
        MetricRow(
            name,
            _meaning(name),
            _format_value(figure.value),
            _format_interval(figure),
            _interval_bar(figure),
            name == report.headline,
        )
        for name, figure in report.metrics.items()
    ]


def _meaning(name: str) -> str:
    """The first sentence of the metric's own description."""
    from geovision.metrics import METRICS, function_of, parse

    text = (function_of(name).__doc__ or "") if parse(name)[0] in METRICS else ""
    first = " ".join(text.split("\n\n")[0].split()).replace("`", "")
    return re.split(r"(?<!et al)\.(?: |$)", first)[0]


def _format_value(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _format_interval(figure: MetricValue) -> str:
    return "" if math.isnan(figure.low) else f"{figure.low:.3f} to {figure.high:.3f}"


def _interval_bar(figure: MetricValue) -> tuple[float, float, float] | None:
    low, value, high = figure.low, figure.value, figure.high
    if math.isnan(low) or not 0 <= low <= value <= high <= 1:
        return None
    return round(100 * low, 1), round(100 * (high - low), 1), round(100 * value, 1)


def figure_position(path: Path) -> tuple[int, str]:
    """Where the figure of this file stands on the page: in the order of `CAPTIONS`, others last."""
    names = list(CAPTIONS)
    return (names.index(path.stem) if path.stem in names else len(names)), path.stem


def write_page(out: Path, sections: Sequence[Section], photos: Sequence[PhotoPredictions] = ()) -> Path:
    """Write ``index.html`` into `out`, whole or not at all.

    Args:
        sections: One a task.
        photos: What the shipped weights say about the reader's photos, one a task that takes them.

    Raises:
        StorageError: It could not be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("geovision.demo"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )

    def address(path: Path) -> str:
        return quote(path.relative_to(out).as_posix())

    environment.filters |= {"address": address, "words": lambda name: name.replace("_", " ")}
    text = environment.get_template("index.html.jinja").render(
        sections=sections,
        photos=photos,
        captions=CAPTIONS,
        flags=FLAGS,
        version=geovision.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        level=_confidence_level,
    )
    return write_text(out / "index.html", text)


def _confidence_level(prediction: Any) -> str:
    """How sure an answer is, for its colour."""
    if prediction.flags:
        return "flagged"
    return "sure" if prediction.confidence >= 0.66 else "open"
