"""Figures of masks: maps of what is said and seen, reliability, and the performance diagram."""

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
    """What went in, the probability that came out, and hits, misses and false alarms.

    Args:
        inputs: ``(y, x)`` on a grid of its own; the others on one grid. South first, NaN is grey.
        probability: 0-1.
        target: 0 or 1.
        threshold: Probability from which the answer is yes.
        extent: (west, east, south, north) edges in degrees; None: cells are counted.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    figure = new_figure(12, 4.2)
    left, middle, right = figure.subplots(1, 3)
    drawn = left.imshow(
        inputs, origin="lower", cmap=colormaps["viridis"].with_extremes(bad="0.8"), interpolation="nearest"
    )
    left.set_title(input_name)
    figure.colorbar(drawn, ax=left, shrink=0.8)
    drawn = middle.imshow(
        probability,
        origin="lower",
        extent=extent,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        cmap=colormaps["magma_r"].with_extremes(bad="0.8"),
    )
    middle.set_title(f"probability of {name}")
    figure.colorbar(drawn, ax=middle, shrink=0.8)
    said, seen = probability >= threshold, target >= 0.5
    table = np.where(said & seen, 1.0, np.where(~said & seen, 2.0, np.where(said & ~seen, 3.0, 0.0)))
    table[~(np.isfinite(probability) & np.isfinite(target))] = np.nan
    colours = ["white", "#009E73", "#0072B2", "#D55E00"]  # of the palette of Okabe and Ito (2008)
    right.imshow(
        table,
        origin="lower",
        extent=extent,
        vmin=0,
        vmax=3,
        interpolation="nearest",
        cmap=ListedColormap(colours).with_extremes(bad="0.8"),
    )
    names = ("hit", "miss", "false alarm")
    right.legend(
        handles=[Patch(color=c, label=n) for c, n in zip(colours[1:], names, strict=True)],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        ncols=3,
        frameon=False,
    )
    right.set_title(f"from {threshold:g}")
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def plot_mask_reliability(negative_counts: _Field, positive_counts: _Field) -> Figure:
    """How often what is said with a probability happens, and how often it is said.

    Args:
        negative_counts, positive_counts: Cells without and with the event by bins of probability from 0 to
            1, ``(bin,)``.
    """
    tenth = len(negative_counts) // 10
    negative_counts, positive_counts = (
        each.reshape(10, tenth).sum(1) for each in (negative_counts, positive_counts)
    )
    count = negative_counts + positive_counts
    filled = count > 0
    middles = (np.arange(10) + 0.5) / 10
    figure = new_figure(4.8, 5.6)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="calibrated")
    upper.plot(
        middles[filled],
        positive_counts[filled] / count[filled],
        marker="o",
        color="#0072B2",
        label="measured",
    )
    upper.axhline(
        positive_counts.sum() / max(count.sum(), 1),
        color="0.7",
        linewidth=0.8,
        label="frequency of the event",
    )
    upper.set(ylabel="fraction of cells with the event", ylim=(0, 1.02))
    upper.legend(loc="upper left", frameon=False)
    lower.bar(middles, np.maximum(count, 0), width=0.1, color="#0072B2", edgecolor="white")
    lower.set(
        yscale="log" if count.max() > 10 else "linear", xlim=(0, 1), xlabel="probability", ylabel="cells"
    )
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_performance_diagram(negative_counts: _Field, positive_counts: _Field, *, threshold: float) -> Figure:
    """The performance diagram (Roebber 2009, doi:10.1175/2008WAF2222159.1): detection over the part of what
    was said that happened, for every threshold; lines of equal critical success index.

    Args:
        negative_counts, positive_counts: As of `plot_mask_reliability`.
        threshold: That the scores are stated at; it has a mark.
    """
    hits, said = positive_counts[::-1].cumsum(), (positive_counts + negative_counts)[::-1].cumsum()
    there = said > 0
    success, detection = hits[there] / said[there], hits[there] / max(positive_counts.sum(), 1)
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
        np.flatnonzero(there).searchsorted(len(negative_counts) - 1 - int(threshold * len(negative_counts)))
    )
    if at < len(success):
        axes.plot(success[at], detection[at], "o", color="#D55E00", label=f"from {threshold:g}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="success ratio, 1 - FAR", ylabel="probability of detection")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
