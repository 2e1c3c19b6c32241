"""Storm cells in fields of column-maximum reflectivity, and their tracking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geovision.errors import MissingExtraError

__all__ = ["find_cells", "overlapping_cells"]


def find_cells(
    maximum_reflectivity: NDArray[np.floating], *, threshold_dbz: float = 50.0, min_pixels: int = 5
) -> NDArray[np.int32]:
    """Find connected areas in which the column maximum reaches a threshold.

    Diagonal neighbors are connected.

    Args:
        maximum_reflectivity: Column maximum, shape (y, x), in dBZ; ``-inf`` and NaN belong to no cell.
        threshold_dbz: Least reflectivity of a cell, in dBZ. Default: 50, above which the hail algorithm of
            Witt et al. (1998) counts everything as hail.
        min_pixels: Least size of a cell, in pixels. Default: 5.

    Returns:
        Number of the cell, 1, 2, ..., shape (y, x); 0 outside of cells.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingExtraError("scipy", "geo") from error
    areas, _ = ndimage.label(maximum_reflectivity >= threshold_dbz, structure=np.ones((3, 3)))
    large = np.bincount(areas.ravel()) >= min_pixels
    large[0] = False
    number = np.where(large, np.cumsum(large), 0).astype(np.int32)
    return number[areas]


def overlapping_cells(before: NDArray[np.int32], after: NDArray[np.int32]) -> list[tuple[int, int, int]]:
    """Return the overlaps between the cells of two volumes.

    Args:
        before: Cells of the earlier volume, shape (y, x).
        after: Cells of the later volume, shape (y, x).

    Returns:
        Tuples (earlier cell, later cell, shared pixels), largest overlap first.

    >>> overlapping_cells(np.array([[1, 1, 0, 2]]), np.array([[0, 1, 1, 1]]))
    [(1, 1, 1), (2, 1, 1)]
    """
    both = (before > 0) & (after > 0)
    width = int(after.max(initial=0)) + 1
    pairs, pixels = np.unique(before[both].astype(np.int64) * width + after[both], return_counts=True)
    shared = [(*divmod(int(pair), width), int(count)) for pair, count in zip(pairs, pixels, strict=True)]
    return sorted(shared, key=lambda each: -each[2])
