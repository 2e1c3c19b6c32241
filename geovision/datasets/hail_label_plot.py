"""Maps of hail products and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geovision.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["plot_hail_maps"]

_HAIL_FIELDS = {  # name: (title, colormap, lowest value drawn, highest value)
    "maximum_reflectivity": ("largest reflectivity, dBZ", "turbo", 0, 75),
    "probability_of_severe_hail": ("probability of severe hail, %", "magma_r", 1, 100),
    "maximum_expected_size_of_hail": ("expected size of hail, mm", "viridis_r", 1, 60),
    "vertically_integrated_liquid": ("integrated liquid, kg m$^{-2}$", "YlGnBu", 1, 60),
}
_CELL_COLORS = ("white", "tab:gray", "tab:orange", "tab:red")
_CELL_STATES = ("cell", "armed", "hail")
_NOT_COVERED_COLOR = "0.85"


def plot_hail_maps(labels: Dataset) -> Figure:
    """Plot reflectivity, hail products and labels of a series of volumes, one row per time.

    White is no echo, light gray is not covered.

    Args:
        labels: Labels of `geovision.physics.hail.hail_labels`, shape (time, y, x), with x and y in m.
    """
    times = labels["time"].values
    figure = new_figure(3.4 * (len(_HAIL_FIELDS) + 1), 0.5 + 3.2 * len(times))
    rows = figure.subplots(len(times), len(_HAIL_FIELDS) + 1, squeeze=False, sharex=True, sharey=True)
    for row, time in zip(rows, times, strict=True):
        volume = labels.sel(time=time)
        for axes, name in zip(row, _HAIL_FIELDS, strict=False):
            _hail_field(figure, axes, volume, name)
        _hail_cells(row[-1], volume)
        row[0].set_ylabel(f"{str(time)[:10]} {str(time)[11:16]} UTC\nnorth of the radar, km")
    for axes in rows[-1]:
        axes.set_xlabel("east of the radar, km")
    return figure


def _hail_field(figure: Figure, axes: Axes, volume: Dataset, name: str) -> None:
    title, colors, low, high = _HAIL_FIELDS[name]
    values = volume[name].values
    shown = np.ma.masked_where(~(values >= low), values)
    axes.set_facecolor("white")
    _draw_coverage(axes, volume)
    image = axes.imshow(shown, cmap=colors, vmin=low, vmax=high, **_map_options(volume))
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set_title(title, fontsize="medium")


def _hail_cells(axes: Axes, volume: Dataset) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    state = (volume["hail"].values == 1) * 3
    if "cell" in volume:
        aloft = np.where(volume["armed"].values > 0, 2, (volume["cell"].values > 0) * 1)
        state = np.maximum(state, aloft)
    _draw_coverage(axes, volume)
    shown, colors = np.ma.masked_equal(state, 0), ListedColormap(_CELL_COLORS)
    axes.imshow(shown, cmap=colors, vmin=0, vmax=3, **_map_options(volume))
    states = _CELL_STATES if "cell" in volume else _CELL_STATES[2:]
    entries = zip(states, _CELL_COLORS[-len(states) :], strict=True)
    patches = [Patch(color=color, label=name) for name, color in entries]
    axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize="small")
    axes.set_title("cells and label" if "cell" in volume else "label", fontsize="medium")


def _draw_coverage(axes: Axes, volume: Dataset) -> None:
    from matplotlib.colors import ListedColormap

    not_covered = np.isnan(volume["probability_of_severe_hail"].values)
    axes.imshow(
        np.ma.masked_equal(not_covered, False),
        cmap=ListedColormap([_NOT_COVERED_COLOR]),
        **_map_options(volume),
    )


def _map_options(volume: Dataset) -> dict[str, Any]:
    x, y = volume["x"].values / 1000, volume["y"].values / 1000
    half = (x[1] - x[0]) / 2
    extent = (x[0] - half, x[-1] + half, y[0] - half, y[-1] + half)
    return {"extent": extent, "origin": "lower", "interpolation": "nearest"}
