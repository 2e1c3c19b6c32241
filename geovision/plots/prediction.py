"""Figure of a predicted map, without a target."""

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
    """Plot a predicted field; missing cells are gray.

    Args:
        values: Field, shape (y, x), south first, NaN where missing.
        label: Name of the quantity, with its unit.
        threshold: Threshold of a probability. Cells from it upwards are outlined, and colors range from 0 to
            1. Default: None, a field.
        extent: Edges (west, east, south, north), in degrees. Default: None, axes in cells.
        suptitle: Title of the figure. Default: none.
    """
    from matplotlib import colormaps

    figure = new_figure(6.4, 5.2)
    axes = figure.subplots()
    colors, low, high = ("viridis", None, None) if threshold is None else ("magma_r", 0, 1)
    image = axes.imshow(
        values,
        origin="lower",
        extent=extent,
        interpolation="nearest",
        vmin=low,
        vmax=high,
        cmap=colormaps[colors].with_extremes(bad="0.8"),
    )
    figure.colorbar(image, ax=axes, label=label)
    if threshold is not None:
        predicted = values >= threshold
        if predicted.any() and not predicted.all():
            axes.contour(
                predicted, levels=[0.5], colors="tab:blue", linewidths=1, extent=extent, origin="lower"
            )
    if extent is not None:
        axes.set_xlabel("longitude, degrees east")
        axes.set_ylabel("latitude, degrees north")
    axes.set_title(suptitle, fontsize="medium")
    return figure
