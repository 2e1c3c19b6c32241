"""Whether a thing was found, wherever within some distance: objects of masks and how far they lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.errors import MissingExtraError

__all__ = ["ObjectCounts", "match_objects"]


@dataclass(frozen=True)
class ObjectCounts:
    """Counts of objects; those of parts of the data add up.

    Attributes:
        observed: Objects that were there; `found`: those of them with something said within reach.
        predicted: Objects that were said; `false_alarms`: those of them with nothing there within reach.
        distance: Sum over those found of the least distance to what was said, cells; 0 where they overlap.
    """

    observed: int
    hits: int
    predicted: int
    false_alarms: int
    distance: float


def match_objects(
    predicted: NDArray[np.bool_], observed: NDArray[np.bool_], max_distance: float
) -> ObjectCounts:
    """Objects of one mask ``(y, x)`` that meet those of another.

    An object is a connected area, corners included. It is met where the other mask has a cell within
    `max_distance` of one of its own, middle to middle, so objects need no partner of their own.

    Args:
        predicted, observed: What was said and what was there.
        max_distance: Cells.

    Raises:
        MissingExtraError: scipy is not installed.

    >>> said, seen = np.zeros((1, 9), bool), np.zeros((1, 9), bool)
    >>> seen[0, 0] = said[0, 2] = said[0, 8] = True
    >>> object_hits(said, seen, reach=2)
    ObjectCounts(seen=1, found=1, said=2, false=1, distance=2.0)
    """
    to_said, to_seen = _min_distances(observed, predicted), _min_distances(predicted, observed)
    found = to_said <= max_distance
    return ObjectCounts(
        len(to_said),
        int(found.sum()),
        len(to_seen),
        int((to_seen > max_distance).sum()),
        float(to_said[found].sum()),
    )


def _min_distances(objects: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Of each object the least distance to a cell of another mask, infinite where that is empty."""
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingExtraError("scipy", "geo") from error
    areas, number = ndimage.label(objects, structure=np.ones((3, 3)))
    if not others.any():
        return np.full(number, np.inf)
    away = ndimage.distance_transform_edt(~others)
    return np.atleast_1d(ndimage.minimum(away, areas, np.arange(1, number + 1)))
