"""Figure of a hail sample: last window of each source, time-height section, and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_hail_sample"]

_Field = NDArray[np.floating]
_MISSING = "0.82"
_OUTLINE = "#CC0066"


def plot_hail_sample(
    inputs: Mapping[str, _Field],
    valid: Mapping[str, NDArray[np.bool_]],
    label: _Field,
    *,
    bands: Sequence[str],
    levels: Sequence[float],
    no_echo: float,
    source: str = "",
    probability: _Field | None = None,
) -> Figure:
    """Plot maps of the last window and a time-height section of a hail sample.

    The label is outlined in each map. Gray is missing.

    Args:
        inputs: Inputs by source: ``"radar"``, ``"fy4b"`` and ``"era5"``, shape (time, channel, y, x), and
            ``"dem"``, shape (channel, y, x).
        valid: Valid values by source, bool, same shapes, and ``"target"``, shape (1, y, x).
        label: Label, shape (y, x); 1 is hail.
        bands: Names of the satellite channels.
        levels: Heights of the radar levels, in m.
        no_echo: Value that represents no echo, in dBZ.
        source: File name, shown above. Default: none.
        probability: Predicted probability, shape (y, x). Default: None.
    """
    radar = _masked(inputs, valid, "radar")
    largest = radar.max(1)
    largest = np.ma.where(largest <= no_echo, np.nan, largest)  # no echo is white, not covered is gray
    satellite = _masked(inputs, valid, "fy4b")[-1]
    window, vapor = (next(n for n, name in enumerate(bands) if band in name) for band in ("10.8", "6.25"))
    maps: list[tuple[str, Any, dict[str, Any]]] = [
        ("largest reflectivity, dBZ", largest[-1], {"cmap": "turbo", "vmin": 0, "vmax": 65}),
        ("10.8 µm, K", satellite[window], {"cmap": "gray_r", "vmin": 200, "vmax": 300}),
        (
            "6.25 µm minus 10.8 µm, K",
            satellite[vapor] - satellite[window],
            {"cmap": "viridis", "vmin": -12, "vmax": 4},
        ),
        ("freezing level, m", _masked(inputs, valid, "era5")[-1, 0], {"cmap": "cividis"}),
        ("elevation, m", _masked(inputs, valid, "dem")[0], {"cmap": "terrain"}),
    ]
    if probability is not None:
        maps.append(
            (
                "probability of hail",
                np.ma.masked_invalid(probability),
                {"cmap": "magma_r", "vmin": 0, "vmax": 1},
            )
        )
    figure = new_figure(13.5, 7.2)
    panels = figure.subplots(2, 4).ravel()
    for axes, (title, field, options) in zip(panels, maps, strict=False):
        _draw_map(figure, axes, title, field, label, options)
    _draw_time_height(figure, panels[len(maps)], np.ma.where(radar <= no_echo, np.nan, radar), levels)
    for axes in panels[len(maps) + 1 :]:
        axes.set_visible(False)
    figure.suptitle(source, fontsize="medium")
    return figure


def _masked(
    inputs: Mapping[str, _Field], valid: Mapping[str, NDArray[np.bool_]], name: str
) -> np.ma.MaskedArray:
    """Return an input as a masked array."""
    values = inputs[name]
    return np.ma.MaskedArray(values, ~valid[name] if name in valid else np.zeros(values.shape, bool))


def _draw_map(
    figure: Figure, axes: Axes, title: str, field: Any, label: _Field, options: dict[str, Any]
) -> None:
    from matplotlib.colors import ListedColormap

    missing = np.ma.getmaskarray(field)
    axes.imshow(np.ma.masked_equal(missing, False), cmap=ListedColormap([_MISSING]), origin="lower")
    image = axes.imshow(field, origin="lower", interpolation="nearest", **options)
    if not missing.all():
        figure.colorbar(image, ax=axes, shrink=0.8)
    if (label > 0.5).any():
        axes.contour(label, levels=[0.5], colors=_OUTLINE, linewidths=1.5)
    axes.set_title(title if not missing.all() else f"{title}: missing", fontsize="medium")
    axes.set(xticks=[], yticks=[])


def _draw_time_height(figure: Figure, axes: Axes, radar: np.ma.MaskedArray, levels: Sequence[float]) -> None:
    """Draw the largest reflectivity of each level in each window."""
    from matplotlib.colors import ListedColormap

    heights = np.array(levels) / 1000
    covered = (~np.ma.getmaskarray(radar)).any((2, 3)).T
    highest = np.ma.masked_invalid(radar).max((2, 3)).T
    edges = np.concatenate([[0], (heights[1:] + heights[:-1]) / 2, [heights[-1] + 1]])
    windows = np.arange(highest.shape[1] + 1) - highest.shape[1] + 0.5
    axes.pcolormesh(windows, edges, np.ma.masked_where(covered, ~covered), cmap=ListedColormap([_MISSING]))
    image = axes.pcolormesh(windows, edges, highest, cmap="turbo", vmin=0, vmax=65)
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set(xlabel="window, 0 is the last", ylabel="height, km", ylim=(0, 16))
    axes.set_title("largest reflectivity by height, dBZ", fontsize="medium")
