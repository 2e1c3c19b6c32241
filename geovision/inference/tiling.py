"""Windows over a map: where they lie, and how much each counts where several overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.errors import OptionError

__all__ = ["WindowGrid", "WindowRun", "window_starts", "window_weight"]


@dataclass(frozen=True)
class WindowRun:
    """Neighbouring windows of one row, from `first` up to `last` and without it."""

    row: int
    first: int
    last: int


@dataclass(frozen=True)
class WindowGrid:
    """All windows over a grid, in rows.

    Args:
        shape: (rows, columns) of the grid, cells.
        size: (height, width) of a window, cells.
        overlap: Least fraction of a window's side that its neighbour covers too, from 0 to below 1.

    Raises:
        OptionError: An overlap outside of that.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise OptionError(f"overlap {self.overlap:g}: expected a fraction of a window, from 0 to below 1")

    @property
    def row_starts(self) -> list[int]:
        """First cell of each row of windows; below 0 where a window is larger than the grid."""
        return window_starts(self.shape[0], self.size[0], self.overlap)

    @property
    def column_starts(self) -> list[int]:
        """First cell of each column of windows."""
        return window_starts(self.shape[1], self.size[1], self.overlap)

    @property
    def stride(self) -> tuple[float, float]:
        """Cells from one window to the next, down and across; the side of the only one."""
        return tuple(
            (places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else float(side)
            for places, side in zip((self.row_starts, self.column_starts), self.size, strict=True)
        )  # type: ignore[return-value]

    def runs(self, max_length: int) -> Iterator[WindowRun]:
        """All windows, row by row, in runs of at most so many."""
        count = len(self.column_starts)
        for row in range(len(self.row_starts)):
            for first in range(0, count, max_length):
                yield WindowRun(row, first, min(first + max_length, count))


def window_starts(extent: int, size: int, overlap: float) -> list[int]:
    """Where windows of a side begin along an axis: evenly, from end to end of it.

    The last one ends with the axis, so that no window has cells that are not there; only a window
    larger than the axis does, on both sides alike.

    >>> starts(1000, 512, 0.5)
    [0, 244, 488]
    >>> starts(100, 512, 0.5)
    [-206]
    """
    if extent <= size:
        return [-((size - extent) // 2)]
    step = max(round(size * (1 - overlap)), 1)
    count = math.ceil((extent - size) / step) + 1
    return [round(place) for place in np.linspace(0, extent - size, count)]


def window_weight(size: int) -> NDArray[np.float64]:
    """What the cells along the side of a window count: 1 in its middle, near 0 at its edges.

    ``sin^2(pi (i + 1/2) / size)``, Hann's window; at an overlap of one half the weights of all windows
    add up to 1 nearly everywhere.

    >>> weight(4).round(3).tolist()
    [0.146, 0.854, 0.854, 0.146]
    """
    return np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
