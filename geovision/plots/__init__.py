"""Figures that several rooms draw. Each is a matplotlib `Figure` of its own: no pyplot, no global
state, so that they can be drawn in any thread and are freed with their last reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from geovision.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plot_classification", "plot_counts", "plot_image_grid"]


_CELL_PIXELS = 144  # pixels of a picture on a sheet
_MAX_TITLE_LENGTH = 23  # of a line over a picture
_DPI = 100


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


def plot_classification(
    image: np.ndarray,
    *,
    label: str,
    source: str = "",
    probabilities: Mapping[str, float] | None = None,
    flags: Sequence[str] = (),
) -> Figure:
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
        _draw_image(figure.subplots(), image, label, source)
        return figure
    figure = new_figure(7.5, 4.3)
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    _draw_image(left, image, label, source)
    names, values = list(probabilities), list(probabilities.values())
    colours = ["tab:blue" if name == label else "tab:gray" for name in names]
    right.barh(names, values, color=colours)
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("probability")
    right.set_title("\n".join([f"predicted {names[0]}", *flags]))
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_image(axes, image: np.ndarray, label: str, source: str) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(f"{label}\n{source}" if source else label)


def plot_image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str], *, columns: int = 6, suptitle: str = ""
) -> Figure:
    """Pictures in rows, each ``(y, x, 3)``, uint8 or float 0-1, under its title of up to two lines."""
    columns = max(1, min(columns, len(images)))
    rows = max(-(-len(images) // columns), 1)
    lines = max((title.count("\n") + 1 for title in titles), default=1)
    step_x, step_y = _CELL_PIXELS + 8, _CELL_PIXELS + 18 * lines + 8  # pixels
    # One image and its texts: an axes for each picture takes seconds on a sheet of a hundred.
    sheet = np.full((rows * step_y, columns * step_x, 3), 255, np.uint8)
    figure = new_figure(sheet.shape[1] / _DPI, (sheet.shape[0] + (40 if suptitle else 0)) / _DPI)
    axes = figure.subplots()
    axes.set_axis_off()
    for number, (picture, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(number, columns)
        lower, left = (row + 1) * step_y, column * step_x + 4
        sheet[lower - _CELL_PIXELS : lower, left : left + _CELL_PIXELS] = _thumbnail(picture)
        shown = "\n".join(_shorten(line) for line in title.split("\n"))
        axes.text(
            left + _CELL_PIXELS / 2, lower - _CELL_PIXELS - 4, shown, ha="center", va="bottom", fontsize=8
        )
    axes.imshow(sheet)
    if suptitle:
        figure.suptitle(suptitle, fontsize=12)
    return figure


def _shorten(line: str) -> str:
    """As much of a line as stands over its picture, its end being what tells file names apart."""
    return line if len(line) <= _MAX_TITLE_LENGTH else f"…{line[1 - _MAX_TITLE_LENGTH :]}"


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    counts = picture if picture.dtype == np.uint8 else (picture * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(counts).resize((_CELL_PIXELS, _CELL_PIXELS)))


def plot_counts(values: Mapping[str, int], *, title: str, unit: str) -> Figure:
    """One bar for each name, with its number above it."""
    figure = new_figure(max(4.0, 0.55 * len(values) + 1.5), 3.4)
    axes = figure.subplots()
    bars = axes.bar(list(values), list(values.values()), color="tab:blue")
    axes.bar_label(bars, fontsize=8)
    axes.set_xlim(-0.7, max(len(values), 4) - 0.3)  # a lone bar does not fill the figure
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", rotation=45 if len(values) > 14 else 0)
    return figure
