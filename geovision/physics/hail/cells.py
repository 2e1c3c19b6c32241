"""Storm cells in a field of column maxima, and which of one volume are those of the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geovision.errors import MissingExtraError

__all__ = ["find_cells", "overlapping_cells"]


def find_cells(
    maximum_reflectivity: NDArray[np.floating], *, threshold_dbz: float = 50.0, min_pixels: int = 5
) -> NDArray[np.int32]:
    """Connected areas, corners included, in which the column maximum reaches a threshold.

    Args:
        maximum_reflectivity: ``(y, x)``, dBZ; ``-inf`` and NaN belong to no cell.
        threshold_dbz: 50 dBZ is where the hail algorithm of Witt et al. (1998) counts all as hail.
        min_pixels: Smaller areas are no cells.

    Returns:
        ``(y, x)``: 1, 2, … by cell, 0 outside.

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
    """Which cells of two volumes share ground: (cell before, cell after, pixels), most pixels first.

    >>> overlaps(np.array([[1, 1, 0, 2]]), np.array([[0, 1, 1, 1]]))
    [(1, 1, 1), (2, 1, 1)]
    """
    both = (before > 0) & (after > 0)
    width = int(after.max(initial=0)) + 1
    pairs, pixels = np.unique(before[both].astype(np.int64) * width + after[both], return_counts=True)
    shared = [(*divmod(int(pair), width), int(count)) for pair, count in zip(pairs, pixels, strict=True)]
    return sorted(shared, key=lambda each: -each[2])
