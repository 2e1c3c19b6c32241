"""A figure of one answer that is a map, without a truth to hold it to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geovision.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_prediction_map"]


def plot_prediction_map(
    values: NDArray[np.floating],
    label: str,
    *,
    threshold: float | None = None,
    extent: tuple[float, float, float, float] | None = None,
    suptitle: str = "",
) -> Figure:
    """One field under its colours; grey where it means nothing.

    Args:
        values: ``(y, x)``, south first, NaN where there is no answer.
        label: What they are, with their unit.
        threshold: Of a probability, from which the answer is yes: cells from there on are outlined, and
            colours go from 0 to 1. None: a field.
        extent: (west, east, south, north) edges in degrees; None: cells are counted.
    """
    from matplotlib import colormaps

    figure = new_figure(6.4, 5.2)
    axes = figure.subplots()
    colours, low, high = ("viridis", None, None) if threshold is None else ("magma_r", 0, 1)
    drawn = axes.imshow(
        values,
        origin="lower",
        extent=extent,
        interpolation="nearest",
        vmin=low,
        vmax=high,
        cmap=colormaps[colours].with_extremes(bad="0.8"),
    )
    figure.colorbar(drawn, ax=axes, label=label)
    if threshold is not None:
        said = values >= threshold
        if said.any() and not said.all():
            axes.contour(said, levels=[0.5], colors="tab:blue", linewidths=1, extent=extent, origin="lower")
    if extent is not None:
        axes.set_xlabel("longitude, degrees east")
        axes.set_ylabel("latitude, degrees north")
    axes.set_title(suptitle, fontsize="medium")
    return figure
