"""Figure of an explanation: images, maps, and bars of sources."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision.attribution.geometry import InputWindow
from geovision.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geovision.attribution.result import Explanation

__all__ = ["plot_explanation"]

_PANEL_SIZE = 5.0  # inches
_MAX_PIXELS = 900  # per side of a panel
_MAX_TIME_STEPS = 6  # per sequence
_BAR_HEIGHT = 0.22  # inches
_CLIP_PERCENTILE = 99  # so that a few extreme cells do not take the whole color scale
_OPACITY = 0.75


@dataclass(frozen=True)
class _Panel:
    """One image with its map; one time step of a sequence."""

    title: str
    image: NDArray[Any]
    cells: NDArray[np.floating]
    window: InputWindow
    shape: tuple[int, int]


def plot_explanation(explanation: Explanation) -> Figure:
    """Draw one row per input, with one panel per time step.

    Of long sequences the last time step and some earlier ones are drawn. The color scale covers positive
    contributions up to their 99th percentile; the arrays of the explanation contain all values.

    Args:
        explanation: Explanation to draw.

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    rows = list(_rows(explanation))
    height, width = rows[0][0].shape
    columns = max(map(len, rows))
    side = _PANEL_SIZE if columns == 1 else _PANEL_SIZE * max(3 / (2 + columns), 0.4)
    tall = side * min(max(height / width, 0.4), 2.0)
    bars = _bar_panels(explanation)
    heights = [
        (tall + 0.2) * len(rows) + 0.3,
        _BAR_HEIGHT * max(map(len, bars.values())) + 0.6 if bars else 0.0,
    ]
    figure = new_figure(max(side * columns * 1.2 + 0.3, 6.0 if bars else 0.0), sum(heights))
    maps: Any = figure
    if bars:
        parts: Any = figure.subfigures(2, 1, height_ratios=heights)
        maps, below = parts
        _draw_bars(below, bars)
    axes = maps.subplots(len(rows), columns, squeeze=False)
    positive = np.concatenate([panel.cells[panel.cells > 0].ravel() for row in rows for panel in row])
    most = float(np.percentile(positive, _CLIP_PERCENTILE)) if positive.size else 0.0
    for places, row in zip(axes, rows, strict=True):
        for place, panel in zip(places, row, strict=False):
            drawn = _draw_panel(place, panel, most or 1.0)
        for place in places[len(row) :]:
            place.set_axis_off()
    maps.colorbar(drawn, ax=axes, shrink=0.8, label=_color_scale(explanation))
    maps.suptitle(_title(explanation), fontsize=11)
    return figure


def _title(explanation: Explanation) -> str:
    probability = "" if explanation.probability is None else f", probability {explanation.probability:.3f}"
    return f"{explanation.label}{probability}, by {explanation.config.method}"


def _color_scale(explanation: Explanation) -> str:
    return "relative importance" if explanation.unit == "1" else "contribution to the logit"


def _bar_panels(explanation: Explanation) -> dict[str, dict[str, float]]:
    """Return contributions and ablations of each source, by panel title.

    It is empty for predictions from a single source.
    """
    if not explanation.ablation:
        return {}
    added = explanation.contributions
    if explanation.config.method == "deeplift":  # channels of a layer contain the name of their source
        (by_channel,) = added.values()
    else:
        by_channel = {name: sum(each.values()) for name, each in added.items()}
    panels = {
        "contribution to the logit": by_channel,
        "drop of the score without each source": dict(explanation.ablation),
    }
    return {title: each for title, each in panels.items() if each}


def _draw_bars(figure: Any, panels: dict[str, dict[str, float]]) -> None:
    """Draw panels of bars, with one color per source."""
    sources = list(dict.fromkeys(name.split()[0] for each in panels.values() for name in each))
    for axes, (title, each) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        colors = [f"C{sources.index(name.split()[0])}" for name in each]
        axes.barh(list(each), list(each.values()), color=colors)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.invert_yaxis()
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)


def _rows(explanation: Explanation) -> Iterator[list[_Panel]]:
    several = len(explanation.inputs) > 1
    for name, each in explanation.inputs.items():
        images, cells = (
            _ensure_time_axis(_to_rgb(each.image, _MAX_PIXELS)),
            _ensure_time_axis(each.cells[..., None]),
        )
        count, row = len(cells), []
        for moment in np.unique(np.linspace(count - 1, 0, min(count, _MAX_TIME_STEPS)).round().astype(int)):
            title = [name] if several else []
            title += [f"time {moment}"] if count > 1 else []
            row.append(
                _Panel(
                    " ".join(title),
                    images[moment if len(images) == count else -1],
                    cells[moment][..., 0],
                    each.window,
                    each.shape,
                )
            )
        yield row


def _ensure_time_axis(values: NDArray[Any]) -> NDArray[Any]:
    """Add a time axis to values of shape (y, x, channel)."""
    return values if values.ndim == 4 else values[None]


def _to_rgb(image: NDArray[Any], max_pixels: int) -> NDArray[np.floating]:
    """Convert an image to RGB from 0 to 1.

    An image without exactly three channels is drawn as the mean of its channels, in gray.
    """
    step = max(1, max(image.shape[-2:]) // max_pixels)
    few = np.asarray(image[..., ::step, ::step], np.float32)
    if few.ndim == 2:
        few = few[None]
    if few.shape[-3] == 3 and image.dtype == np.uint8:
        return np.moveaxis(few / 255, -3, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of time steps without any valid value
        low, high = np.nanpercentile(few, (1, 99), axis=(-2, -1), keepdims=True)
    gray = ((few - low) / np.maximum(high - low, 1e-12)).clip(0, 1).mean(-3)
    return np.repeat(np.nan_to_num(gray)[..., None], 3, -1)


def _draw_panel(axes: Any, panel: _Panel, color_limit: float) -> Any:
    from matplotlib.patches import Rectangle

    height, width = panel.shape
    window = panel.window
    axes.imshow(panel.image, extent=(0, width, height, 0))
    part = (panel.cells / color_limit).clip(0, 1)
    drawn = axes.imshow(
        panel.cells.clip(0, color_limit),
        extent=(window.left, window.right, window.bottom, window.top),
        vmin=0,
        vmax=color_limit,
        cmap="inferno",
        alpha=part * _OPACITY,
        interpolation="bilinear",
    )
    axes.add_patch(
        Rectangle(
            (window.left, window.top),
            window.right - window.left,
            window.bottom - window.top,
            fill=False,
            edgecolor="deepskyblue",
            linewidth=1.5,
        )
    )
    axes.set_xlim(min(0, window.left) - 1, max(width, window.right) + 1)
    axes.set_ylim(max(height, window.bottom) + 1, min(0, window.top) - 1)
    axes.set_title(panel.title, fontsize=9)
    axes.tick_params(labelsize=7)
    return drawn
