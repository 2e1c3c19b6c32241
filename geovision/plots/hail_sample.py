"""One hail sample in pictures: the last window of each source, how the storm came there, the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision.plots import new_figure
from geovision.readers.hail_store import CHANNELS, LEVELS, NO_ECHO_DBZ

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["hail_sample"]

_Field = NDArray[np.floating]
_MISSING = "0.82"
_OUTLINE = "#CC0066"


def hail_sample(
    inputs: Mapping[str, _Field], valid: Mapping[str, NDArray[np.bool_]], label: _Field, *, source: str = "",
    probability: _Field | None = None,
) -> Figure:  # fmt: skip
    """Maps of the last window and a section through time, the label outlined in each map; grey is missing.

    Args:
        inputs: ``"radar"``, ``"fy4b"``, ``"era5"`` ``(time, channel, y, x)``, ``"dem"`` ``(channel, y, x)``.
        valid: Which of the values are there, and ``"target"`` ``(1, y, x)``.
        label: ``(y, x)``, 1 is hail.
        source: File name, above.
        probability: ``(y, x)``, of a model.
    """
    radar = _masked(inputs, valid, "radar")
    largest = radar.max(1)
    sky = _masked(inputs, valid, "fy4b")[-1]
    maps: list[tuple[str, Any, dict[str, Any]]] = [
        ("largest reflectivity, dBZ", _echo(largest[-1]), {"cmap": "turbo", "vmin": 0, "vmax": 65}),
        ("10.8 µm, K", sky[_channel("fy4b", "10.8")], {"cmap": "gray_r", "vmin": 200, "vmax": 300}),
        ("6.25 less 10.8 µm, K", sky[_channel("fy4b", "6.25")] - sky[_channel("fy4b", "10.8")],
         {"cmap": "viridis", "vmin": -12, "vmax": 4}),
        ("freezing level, m", _masked(inputs, valid, "era5")[-1, 0], {"cmap": "cividis"}),
        ("elevation, m", _masked(inputs, valid, "dem")[0], {"cmap": "terrain"}),
    ]  # fmt: skip
    if probability is not None:
        maps.append(("probability of hail", np.ma.masked_invalid(probability),
                     {"cmap": "magma_r", "vmin": 0, "vmax": 1}))  # fmt: skip
    figure = new_figure(13.5, 7.2)
    panels = figure.subplots(2, 4).ravel()
    for axes, (title, field, options) in zip(panels, maps, strict=False):
        _map(figure, axes, title, field, label, options)
    _history(figure, panels[len(maps)], radar)
    for axes in panels[len(maps) + 1 :]:
        axes.set_visible(False)
    figure.suptitle(source, fontsize="medium")
    return figure


def _channel(source: str, part: str) -> int:
    return next(number for number, name in enumerate(CHANNELS[source]) if f"_{part}um" in name)


def _masked(
    inputs: Mapping[str, _Field], valid: Mapping[str, NDArray[np.bool_]], name: str
) -> np.ma.MaskedArray:
    values = inputs[name]
    return np.ma.MaskedArray(values, ~valid[name] if name in valid else np.zeros(values.shape, bool))


def _echo(largest: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """No echo as NaN, which stays white; not covered stays masked."""
    return np.ma.where(largest <= NO_ECHO_DBZ, np.nan, largest)


def _map(figure: Figure, axes: Axes, title: str, field: Any, label: _Field, options: dict[str, Any]) -> None:
    from matplotlib.colors import ListedColormap

    missing = np.ma.getmaskarray(field)
    axes.imshow(np.ma.masked_equal(missing, False), cmap=ListedColormap([_MISSING]), origin="lower")
    drawn = axes.imshow(field, origin="lower", interpolation="nearest", **options)
    if not missing.all():
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    if (label > 0.5).any():
        axes.contour(label, levels=[0.5], colors=_OUTLINE, linewidths=1.5)
    axes.set_title(title if not missing.all() else f"{title}: missing", fontsize="medium")
    axes.set(xticks=[], yticks=[])


def _history(figure: Figure, axes: Axes, radar: np.ma.MaskedArray) -> None:
    """The largest reflectivity of each level in each window."""
    levels = np.array(LEVELS) / 1000
    highest = radar.max((2, 3)).T
    edges = np.concatenate([[0], (levels[1:] + levels[:-1]) / 2, [levels[-1] + 1]])
    windows = np.arange(highest.shape[1] + 1) - highest.shape[1] + 0.5
    axes.set_facecolor(_MISSING)
    drawn = axes.pcolormesh(windows, edges, _echo(highest), cmap="turbo", vmin=0, vmax=65)
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    axes.set(xlabel="window, 0 is the last", ylabel="height, km", ylim=(0, 16))
    axes.set_title("largest reflectivity by height, dBZ", fontsize="medium")
