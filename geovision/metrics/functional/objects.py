"""Matching of objects in masks within a distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.errors import MissingExtraError

__all__ = ["ObjectCounts", "match_objects"]


@dataclass(frozen=True)
class ObjectCounts:
    """Counts of objects; counts of parts of the data can be added.

    Attributes:
        observed: Number of observed objects.
        hits: Number of observed objects with a predicted cell within the distance.
        predicted: Number of predicted objects.
        false_alarms: Number of predicted objects without an observed cell within the distance.
        distance: Sum over hits of the least distance to the prediction, in cells; 0 where they overlap.
    """

    observed: int
    hits: int
    predicted: int
    false_alarms: int
    distance: float


def match_objects(
    predicted: NDArray[np.bool_], observed: NDArray[np.bool_], max_distance: float
) -> ObjectCounts:
    """Match the objects of a predicted and an observed mask.

    An object is a connected area, diagonals included. It matches if the other mask has a cell within
    `max_distance` of one of its cells, measured between cell centers. Matches are not one-to-one.

    Args:
        predicted: Predicted mask, bool, shape (y, x).
        observed: Observed mask, bool, shape (y, x).
        max_distance: Largest distance of a match, in cells.

    Raises:
        MissingExtraError: scipy is not installed.

    >>> predicted, observed = np.zeros((1, 9), bool), np.zeros((1, 9), bool)
    >>> observed[0, 0] = predicted[0, 2] = predicted[0, 8] = True
    >>> match_objects(predicted, observed, max_distance=2)
    ObjectCounts(observed=1, hits=1, predicted=2, false_alarms=1, distance=2.0)
    """
    to_predicted, to_observed = _min_distances(observed, predicted), _min_distances(predicted, observed)
    matched = to_predicted <= max_distance
    return ObjectCounts(
        len(to_predicted),
        int(matched.sum()),
        len(to_observed),
        int((to_observed > max_distance).sum()),
        float(to_predicted[matched].sum()),
    )


def _min_distances(objects: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return the distance of each object to the other mask, or infinity."""
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingExtraError("scipy", "geo") from error
    areas, number = ndimage.label(objects, structure=np.ones((3, 3)))
    if not others.any():
        return np.full(number, np.inf)
    distance = ndimage.distance_transform_edt(~others)
    return np.atleast_1d(ndimage.minimum(distance, areas, np.arange(1, number + 1)))
