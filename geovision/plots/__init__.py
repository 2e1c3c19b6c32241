"""Figures shared by several packages.

Each function returns a separate matplotlib `Figure`, without pyplot and without global state. Figures can
therefore be drawn in any thread, and are freed with their last reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from geovision.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plot_classification", "plot_counts", "plot_image_grid"]


_CELL_PIXELS = 144  # pixels of an image in a grid
_MAX_TITLE_LENGTH = 23  # characters of a title line
_DPI = 100


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure.

    Args:
        width: Width, in inches.
        height: Height, in inches.

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
    """Plot an image with its label, and class probabilities as bars.

    Args:
        image: Image, shape (y, x, 3), float 0 to 1 or uint8.
        label: Label of the image.
        source: File name, shown in small type above the image. Default: none.
        probabilities: Probability by class, most probable first. Default: None, no bars.
        flags: Warnings about the prediction. Default: none.
    """
    if not probabilities:
        figure = new_figure(4, 4.3)
        _draw_image(figure.subplots(), image, label, source)
        return figure
    figure = new_figure(7.5, 4.3)
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    _draw_image(left, image, label, source)
    names, values = list(probabilities), list(probabilities.values())
    colors = ["tab:blue" if name == label else "tab:gray" for name in names]
    right.barh(names, values, color=colors)
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("probability")
    right.set_title("\n".join([f"predicted {names[0]}", *flags]))
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_image(axes: Axes, image: np.ndarray, label: str, source: str) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(f"{label}\n{source}" if source else label)


def plot_image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str], *, columns: int = 6, suptitle: str = ""
) -> Figure:
    """Plot images in rows, each with a title.

    Args:
        images: Images, shape (y, x, 3) each, uint8 or float 0 to 1.
        titles: Title of each image, up to two lines.
        columns: Largest number of images per row. Default: 6.
        suptitle: Title of the figure. Default: none.
    """
    columns = max(1, min(columns, len(images)))
    rows = max(-(-len(images) // columns), 1)
    lines = max((title.count("\n") + 1 for title in titles), default=1)
    step_x, step_y = _CELL_PIXELS + 8, _CELL_PIXELS + 18 * lines + 8  # pixels
    # All images are one array in one axes, because an axes per image takes seconds for a hundred images.
    canvas = np.full((rows * step_y, columns * step_x, 3), 255, np.uint8)
    figure = new_figure(canvas.shape[1] / _DPI, (canvas.shape[0] + (40 if suptitle else 0)) / _DPI)
    axes = figure.subplots()
    axes.set_axis_off()
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(number, columns)
        lower, left = (row + 1) * step_y, column * step_x + 4
        canvas[lower - _CELL_PIXELS : lower, left : left + _CELL_PIXELS] = _thumbnail(image)
        shown = "\n".join(_shorten(line) for line in title.split("\n"))
        axes.text(
            left + _CELL_PIXELS / 2, lower - _CELL_PIXELS - 4, shown, ha="center", va="bottom", fontsize=8
        )
    axes.imshow(canvas)
    if suptitle:
        figure.suptitle(suptitle, fontsize=12)
    return figure


def _shorten(line: str) -> str:
    """Shorten a line to its end, where file names differ."""
    return line if len(line) <= _MAX_TITLE_LENGTH else f"…{line[1 - _MAX_TITLE_LENGTH :]}"


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8 in the size of a grid cell."""
    counts = image if image.dtype == np.uint8 else (image * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(counts).resize((_CELL_PIXELS, _CELL_PIXELS)))


def plot_counts(values: Mapping[str, int], *, title: str, unit: str) -> Figure:
    """Plot one bar per name, with its number above.

    Args:
        values: Number by name.
        title: Title of the figure.
        unit: Label of the number axis.
    """
    figure = new_figure(max(4.0, 0.55 * len(values) + 1.5), 3.4)
    axes = figure.subplots()
    bars = axes.bar(list(values), list(values.values()), color="tab:blue")
    axes.bar_label(bars, fontsize=8)
    axes.set_xlim(-0.7, max(len(values), 4) - 0.3)  # a single bar does not fill the figure
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", rotation=45 if len(values) > 14 else 0)
    return figure
