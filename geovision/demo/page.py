"""HTML page of the demonstration.

The page is one file with inline style and local figures. It sends no network requests.
"""

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
    "confusion": "Confusion matrix, with true classes in rows and predicted classes in columns: counts and "
    "row fractions.",
    "reliability": "Reliability diagram: fraction of correct predictions by predicted probability.",
    "mistakes": "Wrong predictions with the highest confidence.",
    "maps": "Input, prediction and target of the sample with the largest mean target.",
    "quantiles": "Quantiles of the predictions against those of the targets. Below the line, the predicted "
    "tail is too weak.",
    "spectra": "Power by wavelength. If the prediction is below the target, it is too smooth.",
    "errors": "Bias and error of every cell over all validation samples.",
    "taylor": "Taylor diagram of all days and of each year or winter: correlation as the angle, normalized "
    "standard deviation as the radius. A perfect prediction is at 1 on the axis.",
    "mask_reliability": "Reliability diagram: observed frequency by predicted probability, and the number of "
    "predictions.",
    "performance": "Performance diagram: probability of detection against success ratio, for every "
    "threshold, with lines of equal critical success index.",
}
"""Captions by figure name; figures without an entry have no caption."""

FLAGS = {
    "outlier": "Unlike the training images: this prediction is not reliable.",
}
"""Descriptions of the flags of a prediction."""


@dataclass(frozen=True)
class Section:
    """Content of the page for one task.

    Attributes:
        task: Task of the section.
        card: Card of the dataset whose layout was generated.
        model: Name of the model.
        report: Evaluation report.
        samples: Number of training samples and of validation samples.
        steps: Number of optimizer steps; None for a model without gradient training.
        prediction_figures: Paths of the figures of samples with predictions.
        figures: Paths of the figures of the report.
        seconds: Duration from the first file to the last figure, in s.
        error: Reason of the failure; empty if the task succeeded. A failed section has no other content.
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
        """Rows of the metric table; empty without a report."""
        return build_metric_rows(self.report) if self.report else []


class MetricRow(NamedTuple):
    """Row of the metric table.

    Attributes:
        name: Name of the metric.
        meaning: Description of the metric in one sentence.
        value: Formatted value.
        interval: Formatted interval; empty if there is none.
        bar: (left, width, mark) of the interval bar in percent; None if the metric is not between 0 and 1.
        headline: Whether this is the main metric of the task.
    """

    name: str
    meaning: str
    value: str
    interval: str
    bar: tuple[float, float, float] | None
    headline: bool


def build_metric_rows(report: Report) -> list[MetricRow]:
    """Return the rows of the metric table in report order.

    Args:
        report: Evaluation report.
    """
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
    """Return the first sentence of a metric's docstring, without its verb."""
    from geovision.metrics import METRICS, function_of, parse

    text = (function_of(name).__doc__ or "") if parse(name)[0] in METRICS else ""
    first = " ".join(text.split("\n\n")[0].split()).replace("`", "")
    sentence = re.split(r"(?<!et al)\.(?: |$)", first)[0]
    phrase = re.sub(r"^(Compute|Count|Create|Return) (the )?", "", sentence)
    return phrase[:1].upper() + phrase[1:]


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
    """Return the sort key of a figure.

    Figures have the order of `CAPTIONS`; others follow in the order of their names.

    Args:
        path: Path of the figure.
    """
    names = list(CAPTIONS)
    return (names.index(path.stem) if path.stem in names else len(names)), path.stem


def write_page(out: Path, sections: Sequence[Section], photos: Sequence[PhotoPredictions] = ()) -> Path:
    """Write ``index.html`` atomically.

    Args:
        out: Folder of the page.
        sections: One section for each task.
        photos: Predictions of the user's photos, one entry for each task that accepts photos.

    Returns:
        Path of ``index.html``.

    Raises:
        StorageError: If the page cannot be written.
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
    """Return the CSS class of a prediction's confidence."""
    if prediction.flags:
        return "flagged"
    return "sure" if prediction.confidence >= 0.66 else "open"
