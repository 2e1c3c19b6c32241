"""Figures that several rooms draw. Each is a matplotlib `Figure` of its own: no pyplot, no global
state, so that they can be drawn in any thread and are freed with their last reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geovision.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["classified_picture", "counts", "new_figure", "picture_sheet"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    return Figure(figsize=(width, height), layout="constrained")


def classified_picture(
    image: np.ndarray, *, label: str, source: str = "", probabilities: Mapping[str, float] | None = None,
    flags: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """One picture under its label; with probabilities, the classes as bars beside it.

    Args:
        image: ``(y, x, 3)``, float 0-1 or uint8.
        label: What it is filed under.
        source: File name, small above the picture.
        probabilities: Class to probability, likeliest first.
        flags: What speaks against the answer.
    """
    if not probabilities:
        figure = new_figure(4, 4.3)
        _picture(figure.subplots(), image, label, source)
        return figure
    figure = new_figure(7.5, 4.3)
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    _picture(left, image, label, source)
    names, values = list(probabilities), list(probabilities.values())
    colours = ["tab:blue" if name == label else "tab:gray" for name in names]
    right.barh(names, values, color=colours)
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("probability")
    right.set_title(f"predicted {names[0]}" + (f" ({', '.join(flags)})" if flags else ""))
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _picture(axes, image: np.ndarray, label: str, source: str) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(f"{label}\n{source}" if source else label)


def picture_sheet(
    pictures: Sequence[np.ndarray], titles: Sequence[str], *, columns: int = 6, heading: str = ""
) -> Figure:
    """Pictures in rows, each ``(y, x, 3)`` under its title."""
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    figure = new_figure(1.6 * columns, 1.8 * max(rows, 1) + (0.4 if heading else 0))
    if heading:
        figure.suptitle(heading)
    grid = figure.subplots(max(rows, 1), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, picture, title in zip(grid.flat, pictures, titles, strict=False):
        axes.imshow(picture)
        axes.set_title(title, fontsize=8)
    return figure


def counts(values: Mapping[str, int], *, title: str, unit: str) -> Figure:
    """One bar for each name, with its number above it."""
    figure = new_figure(max(4.0, 0.55 * len(values) + 1.5), 3.4)
    axes = figure.subplots()
    bars = axes.bar(list(values), list(values.values()), color="tab:blue")
    axes.bar_label(bars, fontsize=8)
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", rotation=45 if len(values) > 14 else 0)
    return figure
