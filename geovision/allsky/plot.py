"""Figures of keograms and occurrence rates.

The colors can be distinguished by color-blind readers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geovision.allsky.frames import FLAGS
from geovision.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from geovision.allsky._keogram import Keogram
    from geovision.allsky._occurrence import Occurrence

__all__ = ["plot_keogram", "plot_occurrence"]

_MAX_COLUMNS = 1600
"""Maximum number of columns in the figure of a keogram; frames in the same column are averaged."""

# Colors from the palette of Okabe and Ito (2008).
_PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_BLUE = "#0072B2"
_NO_DATA_COLOR = "#E8E8E8"


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """Return a color for each class, the same in every figure.

    Args:
        classes: Names of the classes.

    Returns:
        Hexadecimal color by class.
    """
    if len(classes) <= len(_PALETTE):
        return dict(zip(classes, _PALETTE, strict=False))
    import matplotlib

    colormap = matplotlib.colormaps["tab20"].resampled(max(len(classes), 20))
    return {name: matplotlib.colors.to_hex(colormap(place)) for place, name in enumerate(classes)}


# --- keogram ------------------------------------------------------------------------------------


def plot_keogram(keogram: Keogram, *, caption: str = "") -> Figure:
    """Plot the slices, the most probable classes and the flags over time.

    Times without a frame are pale gray. The panels of classes and flags are omitted if there are none.

    Args:
        keogram: Keogram to plot.
        caption: Text below the figure. Default: none.

    Returns:
        The figure.
    """
    flags = [name for name in FLAGS if any(row.get(name) for row in keogram.rows)]
    panels = [("slices", 4.0)]
    panels += [("classes", 0.4)] if keogram.classes else []
    panels += [("flags", 0.18 * len(flags))] if flags else []
    lines = textwrap.wrap(caption, 130)
    height = sum(size for _, size in panels) + 1.5 + 0.2 * len(lines)
    figure = new_figure(10.5, height)
    axes = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, height_ratios=[size for _, size in panels]
    )[:, 0]
    columns = _TimeColumns(keogram.times)
    own = dict(zip((name for name, _ in panels), axes, strict=True))
    _draw_slices(own["slices"], keogram, columns)
    if "classes" in own:
        _draw_classes(own["classes"], keogram, columns)
    if "flags" in own:
        _draw_flags(own["flags"], keogram, columns, flags)
    _format_time_axis(axes[-1])
    if keogram.classes:
        _draw_legend(figure, keogram)
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=8, x=0.01, ha="left")
    return figure


class _TimeColumns:
    """Evenly spaced time columns of a figure with their frames."""

    def __init__(self, times: np.ndarray) -> None:
        seconds = (times - times[0]) / np.timedelta64(1, "s")
        steps = np.diff(seconds)
        self._cadence = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
        self._step = max(self._cadence, seconds[-1] / _MAX_COLUMNS)
        # Rounded to nearest, so that jitter does not put two frames into one column and none into the next.
        self.column_of_frame = np.rint(seconds / self._step).astype(int)
        self.num_columns = int(self.column_of_frame[-1]) + 1
        self._seconds, self._first = seconds, times[0]

    def column_sums(self, values: np.ndarray) -> np.ndarray:
        """Sum values over the frames of each column.

        The shape changes from (frame, …) to (column, …). A column without a frame, between two frames of
        normal cadence, gets the value of the earlier one.
        """
        total = np.zeros((self.num_columns, *values.shape[1:]))
        np.add.at(total, self.column_of_frame, values)
        for column in np.flatnonzero(np.bincount(self.column_of_frame, minlength=self.num_columns) == 0):
            before = int(np.searchsorted(self._seconds, column * self._step, side="right")) - 1
            if column * self._step - self._seconds[before] < 1.5 * self._cadence:
                total[column] = values[before]
        return total

    def extent(self) -> tuple[float, float]:
        """Return start and end of the time axis as matplotlib dates."""
        from matplotlib.dates import date2num

        last = self._first + np.timedelta64(int(self.num_columns * self._step * 1e6), "us")
        return float(date2num(self._first)), float(date2num(last))


def _draw_slices(axes: Axes, keogram: Keogram, columns: _TimeColumns) -> None:
    ones = np.ones((len(keogram.times), 1))
    weight = columns.column_sums(ones)[:, :, None]
    mean = columns.column_sums(keogram.slices / 255) / np.maximum(weight, 1)
    image = np.concatenate([mean, np.broadcast_to(weight > 0, (*mean.shape[:2], 1))], axis=2)
    _draw_image(axes, image.transpose(1, 0, 2), columns)
    count = keogram.slices.shape[1]
    axes.set_yticks([0.5, count / 2, count - 0.5], [keogram.end_labels[0], "middle", keogram.end_labels[1]])
    first, last = (np.datetime_as_string(keogram.times[place], unit="m") for place in (0, -1))
    span = (
        f"{first.replace('T', ' ')} to {(last if last[:10] != first[:10] else last[11:]).replace('T', ' ')}"
    )
    axes.set_title(f"{keogram.camera or 'unknown camera'}, {span} UTC, {len(keogram.times):,} frames")


def _draw_classes(axes: Axes, keogram: Keogram, columns: _TimeColumns) -> None:
    from matplotlib.colors import to_rgba

    place = {name: number for number, name in enumerate(keogram.classes)}
    found = np.array([place.get(row.get("label"), -1) for row in keogram.rows])  # type: ignore[arg-type]
    votes = columns.column_sums(found[:, None] == np.arange(len(place)))
    colors = np.array([to_rgba(color) for color in class_colors(keogram.classes).values()])
    image = colors[votes.argmax(axis=1)]
    image[votes.sum(axis=1) == 0] = 0
    _draw_image(axes, image[None], columns)
    axes.set_yticks([0.5], ["class"])


def _draw_flags(axes: Axes, keogram: Keogram, columns: _TimeColumns, flags: Sequence[str]) -> None:
    raised = np.array([[bool(row.get(name)) for name in flags] for row in keogram.rows])
    image = np.zeros((len(flags), columns.num_columns, 4))
    image[..., 3] = columns.column_sums(raised).T > 0
    _draw_image(axes, image, columns)
    axes.hlines(range(1, len(flags)), *columns.extent(), color="white")
    axes.set_yticks(np.arange(len(flags)) + 0.5, [name.replace("_", " ") for name in flags], fontsize=7)


def _draw_image(axes: Axes, image: np.ndarray, columns: _TimeColumns) -> None:
    begin, end = columns.extent()
    axes.set_facecolor(_NO_DATA_COLOR)
    axes.imshow(image, extent=(begin, end, image.shape[0], 0), aspect="auto", interpolation="nearest")


def _format_time_axis(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.xaxis_date()
    locator = AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("UTC")


def _draw_legend(figure: Figure, keogram: Keogram) -> None:
    from matplotlib.patches import Patch

    seen = {row.get("label") for row in keogram.rows}
    colors = class_colors(keogram.classes)
    patches = [Patch(color=color, label=name) for name, color in colors.items() if name in seen]
    if patches:
        figure.legend(handles=patches, loc="outside right upper", fontsize=8, frameon=False)


# --- occurrence ---------------------------------------------------------------------------------


def plot_occurrence(occurrence: Occurrence) -> Figure:
    """Plot the share of each class in each group.

    The figure has one panel for each class, with the intervals of the shares. The last panel shows the number
    of nights in each group.

    Args:
        occurrence: Occurrence rates to plot.

    Returns:
        The figure.
    """
    panels = len(occurrence.classes) + 1
    columns = min(4, panels)
    rows = -(-panels // columns)
    figure = new_figure(3.0 * columns, 2.3 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    top = max((row["high"] or row["share"] for row in occurrence.rows), default=1.0)
    for panel, label in zip(axes, occurrence.classes, strict=False):
        own = [row for row in occurrence.rows if row["label"] == label]
        _draw_fractions(panel, occurrence, own)
        panel.set_title(label, fontsize=10)
        panel.set_ylim(0, min(1.0, 1.1 * top) or 1.0)
    nights = {row[occurrence.group_by]: row["nights"] for row in occurrence.rows}
    last = axes[len(occurrence.classes)]
    last.bar([_axis_position(occurrence, group) for group in nights], list(nights.values()), color="#6E6E6E")
    last.set_title("nights", fontsize=10)
    last.yaxis.get_major_locator().set_params(integer=True)
    for panel in axes[panels:]:
        panel.set_axis_off()
    for panel in axes[:panels]:
        _format_group_axis(panel, occurrence)
    figure.suptitle(
        f"share of {occurrence.frames:,} frames, with {occurrence.confidence_level:.0%} intervals over nights"
    )
    return figure


def _draw_fractions(axes: Axes, occurrence: Occurrence, rows: Sequence[dict[str, Any]]) -> None:
    places = [_axis_position(occurrence, row[occurrence.group_by]) for row in rows]
    axes.bar(places, [row["share"] for row in rows], color=_BLUE, alpha=0.6)
    known = [(place, row) for place, row in zip(places, rows, strict=True) if row["low"] is not None]
    if known:
        # The share itself can be slightly outside of a percentile interval.
        errors = np.array(
            [(max(row["share"] - row["low"], 0), max(row["high"] - row["share"], 0)) for _, row in known]
        ).T
        axes.errorbar(
            [place for place, _ in known],
            [row["share"] for _, row in known],
            yerr=errors,
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=2,
        )


def _axis_position(occurrence: Occurrence, group: Any) -> float:
    """Return the position of a group on the axis.

    Magnetic midnight is in the middle.
    """
    match occurrence.group_by:
        case "station":
            return float(occurrence.groups.index(group))
        case "month":
            return float(group)
        case "mlt":
            return (group - 12) % 24 + 12.5
        case _:
            return group + 0.5


def _format_group_axis(axes: Axes, occurrence: Occurrence) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelbottom=True)
    match occurrence.group_by:
        case "station":
            axes.set_xticks(range(len(occurrence.groups)), occurrence.groups, rotation=45, ha="right")
        case "month":
            axes.set_xlim(0.4, 12.6)
            axes.set_xticks(range(1, 13), list("JFMAMJJASOND"))
        case "mlt":
            axes.set_xlim(12, 36)
            axes.set_xticks(range(12, 37, 6), ["12", "18", "0", "6", "12"])
            axes.set_xlabel("magnetic local time (dipole)", fontsize=8)
        case _:
            axes.set_xlim(0, 24)
            axes.set_xticks(range(0, 25, 6))
            axes.set_xlabel("hour, UTC", fontsize=8)
