"""Positions and blending weights of overlapping windows on a grid."""

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
    """Neighboring windows of one row.

    Args:
        row: Index of the row of windows.
        first: Column index of the first window.
        last: Column index after the last window.
    """

    row: int
    first: int
    last: int


@dataclass(frozen=True)
class WindowGrid:
    """Regular arrangement of windows over a grid.

    Args:
        shape: (rows, columns) of the grid, in cells.
        size: (height, width) of a window, in cells.
        overlap: Minimum overlap of two neighboring windows, as a fraction of the side of a window; at least 0
            and below 1. Default: 0.5.

    Raises:
        OptionError: If `overlap` is outside of its range.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise OptionError(
                f"overlap {self.overlap:g}: expected a fraction of the window, at least 0 and below 1"
            )

    @property
    def row_starts(self) -> list[int]:
        """First grid row of each row of windows.

        It is negative if a window is larger than the grid.
        """
        return window_starts(self.shape[0], self.size[0], self.overlap)

    @property
    def column_starts(self) -> list[int]:
        """First grid column of each column of windows.

        It is negative if a window is larger than the grid.
        """
        return window_starts(self.shape[1], self.size[1], self.overlap)

    @property
    def stride(self) -> tuple[float, float]:
        """Mean distance of neighboring windows in cells, (y, x).

        It is the size of the window along an axis with a single window.
        """
        return tuple(
            (places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else float(side)
            for places, side in zip((self.row_starts, self.column_starts), self.size, strict=True)
        )  # type: ignore[return-value]

    def runs(self, max_length: int) -> Iterator[WindowRun]:
        """Yield all windows row by row, in runs.

        Args:
            max_length: Maximum number of windows in a run.

        Yields:
            Runs of neighboring windows of one row.
        """
        count = len(self.column_starts)
        for row in range(len(self.row_starts)):
            for first in range(0, count, max_length):
                yield WindowRun(row, first, min(first + max_length, count))


def window_starts(extent: int, size: int, overlap: float) -> list[int]:
    """Return the evenly spaced start positions of windows along an axis.

    The last window ends with the axis, so all windows are inside the grid. A window larger than the axis is
    centered and extends beyond both ends.

    Args:
        extent: Length of the axis, in cells.
        size: Length of a window, in cells.
        overlap: Minimum overlap of two neighboring windows, as a fraction of `size`.

    Returns:
        Index of the first cell of each window.

    >>> window_starts(1000, 512, 0.5)
    [0, 244, 488]
    >>> window_starts(100, 512, 0.5)
    [-206]
    """
    if extent <= size:
        return [-((size - extent) // 2)]
    step = max(round(size * (1 - overlap)), 1)
    count = math.ceil((extent - size) / step) + 1
    return [round(place) for place in np.linspace(0, extent - size, count)]


def window_weight(size: int) -> NDArray[np.float64]:
    """Return the blending weights along one side of a window.

    The weights form a Hann window, ``sin^2(pi (i + 1/2) / size)``: 1 in the middle and near 0 at the edges.
    At an overlap of one half, the weights of all windows add up to 1 almost everywhere.

    Args:
        size: Length of the window, in cells.

    Returns:
        Weights between 0 and 1, float64, shape (size,).

    >>> window_weight(4).round(3).tolist()
    [0.146, 0.854, 0.854, 0.146]
    """
    return np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
