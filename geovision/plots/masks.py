"""Figures of masks: maps of predictions and outcomes, reliability, and the performance diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geovision.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_mask_maps", "plot_mask_reliability", "plot_performance_diagram"]

_Field = NDArray[np.floating]


def plot_mask_maps(
    inputs: _Field,
    probability: _Field,
    target: _Field,
    *,
    threshold: float = 0.5,
    name: str = "event",
    input_name: str = "input",
    extent: tuple[float, float, float, float] | None = None,
    suptitle: str = "",
) -> Figure:
    """Plot the input, the predicted probability, and hits, misses and false alarms.

    Args:
        inputs: Input, shape (y, x), on its own grid. All fields are south first, and missing cells (NaN) are
            gray.
        probability: Predicted probability, shape (y, x), 0 to 1.
        target: Target, 0 or 1, on the grid of the probability.
        threshold: Least probability of a predicted cell. Default: 0.5.
        name: Name of the event. Default: ``"event"``.
        input_name: Title of the input. Default: ``"input"``.
        extent: Edges (west, east, south, north), in degrees. Default: None, axes in cells.
        suptitle: Title of the figure. Default: none.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    figure = new_figure(12, 4.2)
    left, middle, right = figure.subplots(1, 3)
    image = left.imshow(
        inputs, origin="lower", cmap=colormaps["viridis"].with_extremes(bad="0.8"), interpolation="nearest"
    )
    left.set_title(input_name)
    figure.colorbar(image, ax=left, shrink=0.8)
    image = middle.imshow(
        probability,
        origin="lower",
        extent=extent,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        cmap=colormaps["magma_r"].with_extremes(bad="0.8"),
    )
    middle.set_title(f"probability of {name}")
    figure.colorbar(image, ax=middle, shrink=0.8)
    predicted, observed = probability >= threshold, target >= 0.5
    table = np.where(
        predicted & observed,
        1.0,
        np.where(~predicted & observed, 2.0, np.where(predicted & ~observed, 3.0, 0.0)),
    )
    table[~(np.isfinite(probability) & np.isfinite(target))] = np.nan
    colors = ["white", "#009E73", "#0072B2", "#D55E00"]  # palette of Okabe and Ito (2008)
    right.imshow(
        table,
        origin="lower",
        extent=extent,
        vmin=0,
        vmax=3,
        interpolation="nearest",
        cmap=ListedColormap(colors).with_extremes(bad="0.8"),
    )
    names = ("hit", "miss", "false alarm")
    right.legend(
        handles=[Patch(color=c, label=n) for c, n in zip(colors[1:], names, strict=True)],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        ncols=3,
        frameon=False,
    )
    right.set_title(f"probability of at least {threshold:g}")
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def plot_mask_reliability(negative_counts: _Field, positive_counts: _Field) -> Figure:
    """Plot the observed frequency of the event by predicted probability, and the cell counts.

    Args:
        negative_counts: Cells without the event in bins of probability from 0 to 1, shape (bin,).
        positive_counts: Cells with the event in the same bins.
    """
    bins_per_tenth = len(negative_counts) // 10
    negative_counts, positive_counts = (
        each.reshape(10, bins_per_tenth).sum(1) for each in (negative_counts, positive_counts)
    )
    count = negative_counts + positive_counts
    filled = count > 0
    centers = (np.arange(10) + 0.5) / 10
    figure = new_figure(4.8, 5.6)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="calibrated")
    upper.plot(
        centers[filled],
        positive_counts[filled] / count[filled],
        marker="o",
        color="#0072B2",
        label="observed",
    )
    upper.axhline(
        positive_counts.sum() / max(count.sum(), 1),
        color="0.7",
        linewidth=0.8,
        label="frequency of the event",
    )
    upper.set(ylabel="fraction of cells with the event", ylim=(0, 1.02))
    upper.legend(loc="upper left", frameon=False)
    lower.bar(centers, np.maximum(count, 0), width=0.1, color="#0072B2", edgecolor="white")
    lower.set(
        yscale="log" if count.max() > 10 else "linear", xlim=(0, 1), xlabel="probability", ylabel="cells"
    )
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_performance_diagram(negative_counts: _Field, positive_counts: _Field, *, threshold: float) -> Figure:
    """Plot the performance diagram: detection over success ratio for every threshold.

    The lines connect equal critical success indices (Roebber 2009, doi:10.1175/2008WAF2222159.1).

    Args:
        negative_counts: Cells without the event in bins of probability from 0 to 1, shape (bin,).
        positive_counts: Cells with the event in the same bins.
        threshold: Threshold of the reported scores, which is marked.
    """
    hits, predicted = positive_counts[::-1].cumsum(), (positive_counts + negative_counts)[::-1].cumsum()
    nonempty = predicted > 0
    success, detection = hits[nonempty] / predicted[nonempty], hits[nonempty] / max(positive_counts.sum(), 1)
    figure = new_figure(5.2, 5)
    axes = figure.subplots()
    grid = np.linspace(0.01, 1, 200)
    x, y = np.meshgrid(grid, grid)
    lines = axes.contour(
        x, y, 1 / (1 / x + 1 / y - 1), levels=np.arange(0.1, 1, 0.1), colors="0.75", linewidths=0.8
    )
    axes.clabel(lines, fmt="%.1f", fontsize=8)
    axes.plot(success, detection, color="#0072B2", linewidth=1.5, label="all thresholds")
    at = int(
        np.flatnonzero(nonempty).searchsorted(
            len(negative_counts) - 1 - int(threshold * len(negative_counts))
        )
    )
    if at < len(success):
        axes.plot(success[at], detection[at], "o", color="#D55E00", label=f"threshold {threshold:g}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="success ratio, 1 - FAR", ylabel="probability of detection")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
