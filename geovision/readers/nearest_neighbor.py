"""Nearest neighbours on the globe: which point of one grid lies nearest to each point of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision.errors import InputError, MissingExtraError

__all__ = ["NearestNeighborIndex"]

_EARTH = 6_371_008.8  # m, mean radius


@dataclass(frozen=True)
class NearestNeighborIndex:
    """Where each point of a target finds its value.

    Attributes:
        index: Of the flattened source, the target's shape.
        valid: Where the source reaches: its nearest point is no farther than one and a half of its spacings.
    """

    index: NDArray[np.intp]
    valid: NDArray[np.bool_]

    @classmethod
    def build(
        cls,
        latitude: ArrayLike,
        longitude: ArrayLike,
        target_latitude: ArrayLike,
        target_longitude: ArrayLike,
        *,
        where: str = "the source",
    ) -> NearestNeighborIndex:
        """Neighbours of a grid of degrees in any other, by the chord between them.

        Args:
            latitude, longitude: Of the source, ``(y,)`` and ``(x,)``, or both ``(y, x)`` in any projection.
            target_latitude, target_longitude: ``(y,)`` and ``(x,)``.
            where: Names the source in the message.

        Raises:
            InputError: Coordinates that are no degrees or all missing, or a source that does not reach the
                target at all.
            MissingExtraError: scipy is not installed.
        """
        try:
            from scipy.spatial import KDTree
        except ImportError as error:
            raise MissingExtraError("scipy", "geo") from error
        source, target = _plane(latitude, longitude), _plane(target_latitude, target_longitude)
        points = _unit_vectors(*source)
        if not np.isfinite(points).any():
            raise InputError(f"{where}: latitudes and longitudes are all missing")
        if np.nanmax(np.abs(source[0])) > 90.001 or np.nanmax(np.abs(source[1])) > 360.001:
            raise InputError(
                f"{where}: latitudes and longitudes beyond 90 and 360; expected degrees, and these "
                "may be metres of a projection"
            )
        spacing = np.nanmedian(np.linalg.norm(np.diff(points.reshape(*source[0].shape, 3), axis=1), axis=2))
        # A point that lies nowhere goes to the middle of the earth, far from all others.
        distance, index = KDTree(np.nan_to_num(points)).query(_unit_vectors(*target))
        there = distance.reshape(target[0].shape) <= 1.5 * spacing
        if not there.any():
            south, north, west, east = (f(a) for a in source for f in (np.nanmin, np.nanmax))
            raise InputError(
                f"{where}: covers {south:.2f} to {north:.2f} N, {west:.2f} to {east:.2f} E, nothing "
                "of the grid that is asked for"
            )
        return cls(index.reshape(target[0].shape), there)

    def take(self, values: NDArray) -> NDArray:
        """Values ``(…, y, x)`` of the source on the target, NaN where it does not reach."""
        flat = values.reshape(*values.shape[:-2], -1)[..., self.index]
        return np.where(self.valid, flat, np.nan)


def _plane(latitude: ArrayLike, longitude: ArrayLike) -> tuple[NDArray, NDArray]:
    north, east = np.asarray(latitude, float), np.asarray(longitude, float)
    return (north, east) if north.ndim == 2 else tuple(np.meshgrid(north, east, indexing="ij"))  # type: ignore[return-value]


def _unit_vectors(latitude: NDArray, longitude: NDArray) -> NDArray:
    """Unit vectors ``(point, 3)``."""
    north, east = np.radians(latitude).ravel(), np.radians(longitude).ravel()
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], 1)
