"""Differentiable regridding between an input and a network.

Both grids have one-dimensional axes. The weights along the axes are therefore two small matrices A and B::

    y = A x B^T / A m B^T,  where m is 1 in valid cells and 0 in others, in which x is 0

Other grids, such as rotated ones, are regridded before by `geovision.readers.grids.regrid`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from einops import reduce
from numpy.typing import NDArray
from torch import Tensor, nn

from geovision.errors import InputError, OptionError
from geovision.spec import Grid, GridPair

__all__ = ["Method", "Regrid", "axis_weights", "coarsen_grid", "refine_grid"]

Method = Literal["nearest", "bilinear", "bicubic"]
_Floats = NDArray[np.floating]

_MIN_VALID_WEIGHT = 0.5
"""Smallest fraction of the weight on valid cells for which the result is valid."""


def axis_weights(source: _Floats, target: _Floats, method: Method = "bilinear") -> _Floats:
    """Compute the interpolation weights from one axis to another.

    Between the outermost center and the edge of its cell, the value is constant. Beyond the edge, the row of
    weights is 0. ``"bicubic"`` is the convolution of Keys 1981 (doi:10.1109/TASSP.1981.1163711) with
    a = -1/2.

    Args:
        source: Centers of the source cells, ascending; for ``"bicubic"``, approximately equidistant.
        target: Centers of the target cells, ascending.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``. Default: ``"bilinear"``.

    Returns:
        Weights, shape (target, source).

    Raises:
        OptionError: The method is unknown.

    >>> axis_weights(np.array([0.0, 1.0]), np.array([0.25, 1.5, 9.0])).tolist()
    [[0.75, 0.25], [0.0, 1.0], [0.0, 0.0]]
    """
    if method not in ("nearest", "bilinear", "bicubic"):
        raise OptionError(f"unknown method {method!r}; known: nearest, bilinear, bicubic")
    count = len(source)
    if count == 1:
        return np.ones((len(target), 1))
    first, last = 1.5 * source[0] - 0.5 * source[1], 1.5 * source[-1] - 0.5 * source[-2]
    slack = 1e-6 * (last - first)
    inside = (target >= first - slack) & (target <= last + slack)
    # Fractional index of each target on the source axis.
    at = np.interp(target, source, np.arange(count))
    reach = {"nearest": 1, "bilinear": 1, "bicubic": 2}[method]
    weights = np.zeros((len(target), count))
    rows = np.arange(len(target))
    for step in range(1 - reach, 1 + reach):
        cell = np.floor(at).astype(int) + step
        apart = np.abs(at - cell)
        if method == "nearest":
            weight = ((at - cell) < 0.5) & ((at - cell) >= -0.5)
        elif method == "bilinear":
            weight = np.maximum(1 - apart, 0)
        else:
            weight = np.where(
                apart <= 1,
                1.5 * apart**3 - 2.5 * apart**2 + 1,
                np.where(apart < 2, -0.5 * apart**3 + 2.5 * apart**2 - 4 * apart + 2, 0),
            )
        np.add.at(weights, (rows, np.clip(cell, 0, count - 1)), weight)
    return weights * inside[:, None]


def coarsen_grid(grid: Grid, factor: int) -> Grid:
    """Return the grid of blocks of `factor` x `factor` cells.

    The last block extends beyond the grid if the number of cells is not a multiple of `factor`.

    Args:
        grid: Grid of the cells.
        factor: Number of cells per block along each axis.

    >>> coarsen_grid(Grid((0.0, 1.0, 2.0), (0.0, 1.0)), 2)
    Grid(lat=(0.5, 2.5), lon=(0.5,))
    """
    return Grid(_coarsen_axis(grid.lat, factor), _coarsen_axis(grid.lon, factor))


def _coarsen_axis(axis: tuple[float, ...], factor: int) -> tuple[float, ...]:
    step = axis[-1] - axis[-2] if len(axis) > 1 else 1.0
    missing = -len(axis) % factor
    whole = np.array([*axis, *(axis[-1] + step * (n + 1) for n in range(missing))])
    return tuple(reduce(whole, "(block cell) -> block", "mean", cell=factor).tolist())


class Regrid(nn.Module):
    """Interpolation of fields and their masks to another grid.

    Args:
        grids: Source grid and target grid. None: a grid `factor` times as fine in the same area, at any size.
        factor: Number of target cells per source cell along each axis. It is used without `grids`.
            Default: 1.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``. Default: ``"bilinear"``.

    Shape:
        Field ``(batch, channel, y, x)`` and its mask of valid cells, bool, in the same shape -> both on the
        target grid. The field is 0 in invalid cells.
    """

    def __init__(self, grids: GridPair | None, factor: int = 1, method: Method = "bilinear") -> None:
        super().__init__()
        self.factor, self.method, self.grids = factor, method, grids
        self.is_identity = grids is None and factor == 1
        self._weight_cache: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        if grids is not None:
            _check_overlap(grids)
            self.is_identity = _grids_equal(grids.given, grids.target)

    def forward(self, field: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate a field and its mask to the target grid.

        Args:
            field: Field, shape (batch, channel, y, x).
            valid: Valid cells, bool, in the same shape.

        Returns:
            Field on the target grid, 0 in invalid cells, and its mask.
        """
        if self.is_identity:
            return torch.where(valid, field, 0.0), valid
        lat, lon = (each.to(field) for each in self._weights((field.shape[-2], field.shape[-1])))

        def interpolate(values: Tensor) -> Tensor:
            return lat @ values @ lon.T

        weight = interpolate(valid.to(field))
        total = interpolate(torch.where(valid, field, 0.0))
        enough = weight >= _MIN_VALID_WEIGHT - 1e-6
        return torch.where(enough, total / torch.where(enough, weight, 1.0), 0.0), enough

    def _weights(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if size not in self._weight_cache:
            self._weight_cache[size] = self._compute_weights(size)
        return self._weight_cache[size]

    def _compute_weights(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if self.grids is None:
            axes = [
                (np.arange(n, dtype=float), (np.arange(n * self.factor) + 0.5) / self.factor - 0.5)
                for n in size
            ]
        else:
            if size != self.grids.given.size:
                raise InputError(
                    f"this model needs fields on a grid of {self.grids.given.size} cells, got {size}"
                )
            own, other = self.grids.given, self.grids.target
            axes = [(np.array(own.lat), np.array(other.lat)), (np.array(own.lon), np.array(other.lon))]
        lat, lon = (torch.from_numpy(axis_weights(*axis, self.method)).float() for axis in axes)
        return lat, lon


def refine_grid(grid: Grid, factor: int) -> Grid:
    """Return a grid with cells `factor` times as fine.

    The area is the same.

    Args:
        grid: Coarse grid.
        factor: Number of fine cells per coarse cell along each axis.

    >>> refine_grid(Grid((0.0, 1.0), (10.0, 12.0)), 2)
    Grid(lat=(-0.25, 0.25, 0.75, 1.25), lon=(9.5, 10.5, 11.5, 12.5))
    """
    axes = []
    for axis in (grid.lat, grid.lon):
        at = (np.arange(len(axis) * factor) + 0.5) / factor - 0.5
        step = np.diff(axis, append=2 * axis[-1] - axis[-2]) if len(axis) > 1 else np.ones(1)
        cell = np.clip(np.floor(at).astype(int), 0, len(axis) - 1)
        axes.append(tuple((np.array(axis)[cell] + (at - cell) * step[cell]).round(9).tolist()))
    return Grid(*axes)


def _grids_equal(one: Grid, other: Grid) -> bool:
    if one.size != other.size:
        return False
    pairs = ((one.lat, other.lat), (one.lon, other.lon))
    return all(
        np.allclose(a, b, rtol=0, atol=1e-3 * abs(a[-1] - a[0]) / max(len(a) - 1, 1) + 1e-9) for a, b in pairs
    )


def _check_overlap(grids: GridPair) -> None:
    for name, own, other in (
        ("latitudes", grids.given.lat, grids.target.lat),
        ("longitudes", grids.given.lon, grids.target.lon),
    ):
        if own[-1] < other[0] or other[-1] < own[0]:
            raise InputError(
                f"grids do not overlap: one has {name} {own[0]:g} to {own[-1]:g}, the other "
                f"{other[0]:g} to {other[-1]:g}"
            )
