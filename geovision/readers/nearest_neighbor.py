"""Nearest neighbors between two grids on the globe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geovision.errors import InputError, MissingExtraError

__all__ = ["NearestNeighborIndex"]

_EARTH = 6_371_008.8  # m, mean radius


@dataclass(frozen=True)
class NearestNeighborIndex:
    """Nearest source point of each target point.

    Attributes:
        index: Index into the flattened source, shape of the target.
        valid: Whether the source covers the point: its nearest point is at most 1.5 source spacings
            away. Bool, shape of the target.
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
        """Find the nearest source point of each target point.

        The distance is the chord between the points.

        Args:
            latitude: Latitudes of the source in degrees north, shape ``(y,)``, or ``(y, x)`` in any
                projection.
            longitude: Longitudes of the source in degrees east, shape ``(x,)``, or ``(y, x)`` in any
                projection.
            target_latitude: Latitudes of the target in degrees north, shape ``(y,)``.
            target_longitude: Longitudes of the target in degrees east, shape ``(x,)``.
            where: Name of the source in error messages. Default: ``"the source"``.

        Returns:
            Index of the nearest neighbors.

        Raises:
            InputError: The coordinates are not in degrees or all missing, or the source does not cover
                any part of the target.
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
                f"{where}: latitudes and longitudes beyond 90 and 360; expected degrees, but these "
                "may be meters of a projection"
            )
        spacing = np.nanmedian(np.linalg.norm(np.diff(points.reshape(*source[0].shape, 3), axis=1), axis=2))
        # A point without coordinates is moved to the center of the earth, far from all others.
        distance, index = KDTree(np.nan_to_num(points)).query(_unit_vectors(*target))
        valid = distance.reshape(target[0].shape) <= 1.5 * spacing
        if not valid.any():
            south, north, west, east = (f(a) for a in source for f in (np.nanmin, np.nanmax))
            raise InputError(
                f"{where}: covers {south:.2f} to {north:.2f} N, {west:.2f} to {east:.2f} E, but no point "
                "of the requested grid"
            )
        return cls(index.reshape(target[0].shape), valid)

    def take(self, values: NDArray) -> NDArray:
        """Return source values on the target grid; NaN if not covered.

        Args:
            values: Values of the source, shape ``(…, y, x)``.

        Returns:
            Values, shape ``(…, y, x)`` of the target.
        """
        flat = values.reshape(*values.shape[:-2], -1)[..., self.index]
        return np.where(self.valid, flat, np.nan)


def _plane(latitude: ArrayLike, longitude: ArrayLike) -> tuple[NDArray, NDArray]:
    north, east = np.asarray(latitude, float), np.asarray(longitude, float)
    return (north, east) if north.ndim == 2 else tuple(np.meshgrid(north, east, indexing="ij"))  # type: ignore[return-value]


def _unit_vectors(latitude: NDArray, longitude: NDArray) -> NDArray:
    """Return unit vectors, shape ``(point, 3)``."""
    north, east = np.radians(latitude).ravel(), np.radians(longitude).ravel()
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], 1)
