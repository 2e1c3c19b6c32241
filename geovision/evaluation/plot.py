"""Figures of a report, in colours that colour-blind readers tell apart. No pyplot, no global state."""

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

# Of the palette of Okabe and Ito (2008).
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#6E6E6E"
_SEQUENTIAL = "Blues"  # one hue that only darkens: it reads the same in grey


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """True classes in rows, answers in columns: counts, and the fraction of each row.

    Args:
        counts: ``(true class, predicted class)``.
    """
    side = max(3.2, 0.42 * len(classes) + 1.4)
    figure = new_figure(2 * side, side + 0.6)
    left, right = figure.subplots(1, 2)
    totals = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    _draw_matrix(left, counts.astype(float), classes, "d", f"samples ({int(counts.sum())})")
    _draw_matrix(right, fractions, classes, ".2f", "fraction of the true class")
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
    axes.set_ylabel("true")
    axes.set_title(title)


def reliability_diagram(confidence: np.ndarray, correct: np.ndarray, *, error: float | None = None) -> Figure:
    """How often the model is right when it claims a probability, and how often it claims it.

    Args:
        confidence: Probability of the likeliest class, ``(sample,)``.
        correct: Whether it is the true one, ``(sample,)``.
        error: The calibration error, for the title.
    """
    edges = np.linspace(0, 1, BINS + 1)
    # As torchmetrics bins: the lower edge belongs to the bin, and 1 to the last.
    number = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, BINS - 1)
    counts = np.bincount(number, minlength=BINS)
    filled = counts > 0
    claimed = np.bincount(number, confidence, BINS)[filled] / counts[filled]
    right = np.bincount(number, correct.astype(float), BINS)[filled] / counts[filled]
    low, high = _wilson(right, counts[filled])
    figure = new_figure(4.6, 5.6)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    upper.errorbar(
        claimed,
        right,
        yerr=[right - low, high - right],
        color=BLUE,
        marker="o",
        markersize=4,
        capsize=2,
        linewidth=1.2,
        label="measured, 95 % interval",
    )
    upper.set_ylabel("fraction right")
    upper.set_ylim(0, 1.02)
    upper.legend(loc="upper left", frameon=False)
    upper.set_title("reliability" + (f", calibration error {error:.3f}" if error is not None else ""))
    lower.bar(edges[:-1], counts, width=1 / BINS, align="edge", color=BLUE, edgecolor="white")
    lower.set_xlim(0, 1)
    lower.set_xlabel("probability of the likeliest class")
    lower.set_ylabel("samples")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _wilson(fraction: np.ndarray, count: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a fraction (Wilson 1927)."""
    centre = (fraction + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(fraction * (1 - fraction) / count + (z / (2 * count)) ** 2)
    # Rounding may leave the end of the interval a hair inside the fraction.
    return np.minimum(centre - half, fraction), np.maximum(centre + half, fraction)


def misclassified_samples(
    images: Sequence[np.ndarray],
    predicted: Sequence[str],
    labels: Sequence[str],
    confidence: Sequence[float],
    class_names: Sequence[str],
) -> Figure:
    """The mistakes that the model was surest of, as pictures.

    Args:
        images: ``(y, x, 3)`` each.
        predicted, labels: The model's class and the true one.
        confidence: Probability of the model's class.
        class_names: Of the files.
    """
    titles = [
        f"said {answer} {value:.2f}\nfiled {truth}\n{name}"
        for answer, truth, value, name in zip(predicted, labels, confidence, class_names, strict=True)
    ]
    return plot_image_grid(images, titles, columns=6, suptitle="wrong, and surest of it")
