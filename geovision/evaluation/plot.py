"""Figures of a classification report, in colors for color-blind readers.

Figures are created without pyplot and without global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geovision.metrics.calibration import BINS
from geovision.plots import new_figure, plot_image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "VERMILION", "confusion_matrix", "misclassified_samples", "reliability_diagram"]

# Colors of the palette of Okabe and Ito (2008).
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#6E6E6E"
_SEQUENTIAL = "Blues"  # a single hue, readable in grayscale


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Plot the confusion matrix: counts, and fractions of each row.

    Rows are labels and columns are predictions.

    Args:
        counts: Counts, shape (label, predicted class).
        classes: Names of the classes.
    """
    side = max(3.2, 0.42 * len(classes) + 1.4)
    figure = new_figure(2 * side, side + 0.6)
    left, right = figure.subplots(1, 2)
    totals = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    _draw_matrix(left, counts.astype(float), classes, "d", f"samples ({int(counts.sum())})")
    _draw_matrix(right, fractions, classes, ".2f", "fraction of the label")
    return figure


def _draw_matrix(axes: Axes, values: np.ndarray, classes: Sequence[str], form: str, title: str) -> None:
    top = values.max() or 1.0
    axes.imshow(values, cmap=_SEQUENTIAL, vmin=0, vmax=top)
    small = 9 if len(classes) <= 12 else 7
    for row, column in zip(*np.nonzero(values), strict=True):
        value = values[row, column]
        text = f"{int(value)}" if form == "d" else f"{value:{form}}".removeprefix("0")
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=small,
            color="white" if value > 0.55 * top else "black",
        )
    rotation = 45 if max(map(len, classes)) > 4 else 0
    axes.set_xticks(range(len(classes)), classes, rotation=rotation, ha="right" if rotation else "center")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.set_title(title)


def reliability_diagram(confidence: np.ndarray, correct: np.ndarray, *, error: float | None = None) -> Figure:
    """Plot the accuracy by confidence, and the number of samples per bin.

    Args:
        confidence: Probability of the most probable class, shape (sample,), 0 to 1.
        correct: Whether that class is the label, bool, shape (sample,).
        error: Calibration error, for the title. Default: None.
    """
    edges = np.linspace(0, 1, BINS + 1)
    # Bins as in torchmetrics: the lower edge belongs to the bin, and 1 to the last bin.
    number = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, BINS - 1)
    counts = np.bincount(number, minlength=BINS)
    filled = counts > 0
    mean_confidence = np.bincount(number, confidence, BINS)[filled] / counts[filled]
    right = np.bincount(number, correct.astype(float), BINS)[filled] / counts[filled]
    low, high = _wilson(right, counts[filled])
    figure = new_figure(4.6, 5.6)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    upper.errorbar(
        mean_confidence,
        right,
        yerr=[right - low, high - right],
        color=BLUE,
        marker="o",
        markersize=4,
        capsize=2,
        linewidth=1.2,
        label="observed, 95 % interval",
    )
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1.02)
    upper.legend(loc="upper left", frameon=False)
    upper.set_title("reliability" + (f", calibration error {error:.3f}" if error is not None else ""))
    lower.bar(edges[:-1], counts, width=1 / BINS, align="edge", color=BLUE, edgecolor="white")
    lower.set_xlim(0, 1)
    lower.set_xlabel("probability of the most probable class")
    lower.set_ylabel("samples")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _wilson(fraction: np.ndarray, count: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of a fraction (Wilson 1927)."""
    center = (fraction + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(fraction * (1 - fraction) / count + (z / (2 * count)) ** 2)
    # Rounding can place an end of the interval slightly inside the fraction.
    return np.minimum(center - half, fraction), np.maximum(center + half, fraction)


def misclassified_samples(
    images: Sequence[np.ndarray],
    predicted: Sequence[str],
    labels: Sequence[str],
    confidence: Sequence[float],
    class_names: Sequence[str],
) -> Figure:
    """Plot the most confident errors as images.

    Args:
        images: Images, shape (y, x, 3) each.
        predicted: Predicted class of each image.
        labels: Label of each image.
        confidence: Probability of the predicted class, 0 to 1.
        class_names: Names of the files.
    """
    titles = [
        f"predicted {prediction} {value:.2f}\nlabel {label}\n{name}"
        for prediction, label, value, name in zip(predicted, labels, confidence, class_names, strict=True)
    ]
    return plot_image_grid(images, titles, columns=6, suptitle="most confident errors")
