"""Regridding by one sparse matrix of weights.

Missing cells have no weight. A value is ``sum(w x) / sum(w)`` over the valid source cells. It is missing if
they have less than `min_valid` of the weight. Bilinear interpolation, nearest neighbor, area means and
coarsening differ only in the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, MissingExtraError, OptionError

if TYPE_CHECKING:
    import xarray as xr
    from scipy.sparse import csr_array

__all__ = ["Method", "cell_edges", "check_overlap", "coarsen", "regrid", "regrid_auto"]

Method = Literal["bilinear", "nearest", "conservative"]
_Floats = NDArray[np.floating]


def regrid(
    field: xr.DataArray,
    target: xr.DataArray | xr.Dataset,
    method: Method = "bilinear",
    *,
    min_valid: float = 0.5,
) -> xr.DataArray:
    """Regrid a field to the grid of `target`.

    Args:
        field: Field with dimensions ``(…, lat, lon)``, or ``(…, y, x)`` with two-dimensional ``lat`` and
            ``lon``. Dask chunks are supported along the other dimensions only.
        target: Object with coordinates ``lat`` and ``lon``, one- or two-dimensional.
        method: ``"bilinear"``, ``"nearest"``, or ``"conservative"`` for means over the areas of the
            target's cells (grids with one-dimensional axes only). Values beyond the outer edge of the
            source's cells are missing. Default: ``"bilinear"``.
        min_valid: Minimum fraction of the weight on valid cells, 0-1. Default: 0.5.

    Returns:
        Field with the target's coordinates; other dimensions, name and attributes are kept.

    Raises:
        InputError: The grids do not overlap.
        OptionError: The method is unknown, or area means are requested without one-dimensional axes.
        MissingExtraError: scipy is not installed.
    """
    if method not in ("bilinear", "nearest", "conservative"):
        raise OptionError(f"method {method!r}; known: bilinear, nearest, conservative")
    flat = _is_regular(field) and _is_regular(target)
    if method == "conservative" and not flat:
        raise OptionError(
            "conservative regridding needs one-dimensional latitudes and longitudes on both grids; "
            "use 'bilinear' or 'nearest'"
        )
    check_overlap(field, target)
    weights = (
        _separable_weights(field, target, method)
        if _is_regular(field)
        else _scattered_weights(field, target, method)
    )
    dims = ["lat", "lon"] if _is_regular(target) else [str(axis) for axis in target["lat"].dims]
    coordinates = {name: target[name] for name in ("lat", "lon", *dims) if name in target.coords}
    return _apply_weights(field, weights, dims, coordinates, min_valid)


def regrid_auto(field: xr.DataArray, target: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Regrid a field by the method that suits both grids.

    On equal grids, values are unchanged. Area means are used if the cells of the field are at most half as
    wide as those of the target, so that no cell is lost. Otherwise interpolation is bilinear.

    Args:
        field: Field with coordinates ``lat`` and ``lon``.
        target: Object with coordinates ``lat`` and ``lon``.

    Returns:
        Field on the grid of `target`.

    Raises:
        InputError: The grids do not overlap.
        MissingExtraError: scipy is not installed.
    """
    if not (_is_regular(field) and _is_regular(target)):
        return regrid(field, target)
    own, requested = ([np.asarray(grid[axis], float) for axis in ("lat", "lon")] for grid in (field, target))
    if all(map(np.array_equal, own, requested)):
        return field
    if all(map(_same_axis, own, requested)):  # xarray joins axes by their exact values
        return field.assign_coords(lat=target["lat"], lon=target["lon"])
    finer = all(2 * _width(a) <= _width(b) * 1.001 for a, b in zip(own, requested, strict=True))
    return regrid(field, target, "conservative" if finer else "bilinear")


def _same_axis(centers: _Floats, others: _Floats) -> bool:
    """Return whether two axes agree within 0.01 cells.

    Files round their axes.
    """
    if len(centers) != len(others):
        return False
    cell = _width(centers) if len(centers) > 1 else 1.0
    return bool(np.allclose(centers, others, rtol=0, atol=0.01 * cell))


def _width(centers: _Floats) -> float:
    return float(np.median(np.abs(np.diff(centers)))) if len(centers) > 1 else np.inf


def coarsen(field: xr.DataArray, factor: int, *, min_valid: float = 0.5) -> xr.DataArray:
    """Average a field over blocks of cells, weighted by cell area.

    A block is missing if less than `min_valid` of its area is valid. If the size is not a multiple of the
    factor, the last block extends beyond the grid, and its cells outside count as missing.

    Args:
        field: Field with dimensions ``(…, lat, lon)``.
        factor: Number of cells per block along each axis, 1 or more.
        min_valid: Minimum fraction of the area with valid cells, 0-1. Default: 0.5.

    Returns:
        Field with shape ``(…, ceil(lat / factor), ceil(lon / factor))`` and the centers of the blocks as
        coordinates.

    Raises:
        OptionError: The factor is below 1, or the grid has no one-dimensional axes.
        MissingExtraError: scipy is not installed.
    """
    import xarray as xr

    if factor < 1:
        raise OptionError(f"factor={factor}; expected an integer, 1 or more")
    if not _is_regular(field):
        raise OptionError("coarsening needs one-dimensional latitudes and longitudes")
    sparse = _scipy_sparse()
    by_axis, coordinates = [], {}
    for axis in ("lat", "lon"):
        edges = cell_edges(field[axis].values)
        size = field.sizes[axis]
        if size % factor:  # complete the last block
            step = edges[-1] - edges[-2]
            edges = np.append(edges, edges[-1] + step * np.arange(1, factor - size % factor + 1))
        blocks = edges[::factor]
        ends = _sines if axis == "lat" else _ends
        by_axis.append(_overlap_weights(*ends(edges), *ends(blocks))[:, :size])
        centers = (blocks[:-1] + blocks[1:]) / 2
        coordinates[axis] = xr.DataArray(centers, dims=axis, attrs=field[axis].attrs)
    weights = sparse.kron(*by_axis, format="csr")
    return _apply_weights(field, weights, ["lat", "lon"], coordinates, min_valid, full_weight=1.0)


def cell_edges(centers: _Floats) -> _Floats:
    """Return the edges of cells, halfway between their centers.

    The outer cells are symmetric about their centers.

    >>> cell_edges(np.array([0.0, 1.0, 2.0])).tolist()
    [-0.5, 0.5, 1.5, 2.5]

    Args:
        centers: Centers of the cells, shape ``(n,)``, two or more.

    Returns:
        Edges, shape ``(n + 1,)``.

    Raises:
        InputError: There are fewer than two cells.
    """
    if len(centers) < 2:
        raise InputError(
            "the size of the cells is undefined for one cell along an axis; two or more are needed"
        )
    between = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - between[0]], between, [2 * centers[-1] - between[-1]]])


# --- weights ------------------------------------------------------------------------------------


def _is_regular(grid: Any) -> bool:
    return grid["lat"].ndim == 1 and grid["lon"].ndim == 1


def _scipy_sparse() -> Any:
    try:
        from scipy import sparse
    except ImportError as error:
        raise MissingExtraError("scipy", "geo") from error
    return sparse


def _separable_weights(field: xr.DataArray, target: Any, method: Method) -> csr_array:
    """Return weights from a grid with one-dimensional axes.

    The weights along each axis are multiplied.
    """
    sparse = _scipy_sparse()
    lat, lon = np.asarray(field["lat"], float), np.asarray(field["lon"], float)
    to_lat, to_lon = np.asarray(target["lat"], float), np.asarray(target["lon"], float)
    shifted = _shift_longitudes(to_lon, lon)
    lon, column = _pad_global_longitudes(lon)
    if method == "conservative":
        by_lat = _overlap_weights(*_sines(cell_edges(lat)), *_sines(cell_edges(to_lat)))
        edges = cell_edges(to_lon)  # before the shift, which may separate neighbors by 360 degrees
        east, west = edges[1:] + (shifted - to_lon), edges[:-1] + (shifted - to_lon)
        by_lon = _overlap_weights(*_ends(cell_edges(lon)), west, east)
    else:
        axis_weights = _linear_weights if method == "bilinear" else _nearest_weights
        by_lat, by_lon = axis_weights(lat, to_lat.ravel()), axis_weights(lon, shifted.ravel())
    by_lon = sparse.csr_array(by_lon @ column)
    if _is_regular(target):
        return sparse.kron(by_lat, by_lon, format="csr")
    # Each target point has its own weights along both axes; they are multiplied row by row.
    rows, columns = (sparse.eye_array(each.shape[1]) for each in (by_lat, by_lon))
    along = by_lat @ sparse.kron(rows, np.ones((1, columns.shape[0])), format="csr")
    across = by_lon @ sparse.kron(np.ones((1, rows.shape[0])), columns, format="csr")
    return sparse.csr_array(along.multiply(across))


def _shift_longitudes(lon: _Floats, around: _Floats) -> _Floats:
    """Shift longitudes by multiples of 360 degrees to the center of others."""
    middle = (around.min() + around.max()) / 2
    return lon - 360 * np.round((lon - middle) / 360)


def _pad_global_longitudes(lon: _Floats) -> tuple[_Floats, csr_array]:
    """Pad the longitudes of a global grid by one column per side.

    The padding is the last column before the first and the first after the last. Also return the matrix
    from the columns of the grid to the padded columns.
    """
    sparse = _scipy_sparse()
    size = len(lon)
    step = (lon[-1] - lon[0]) / (size - 1) if size > 1 else 0.0
    if size < 3 or abs(lon[-1] - lon[0] + step - 360) > 0.01 * step:
        return lon, sparse.eye_array(size, format="csr")
    order = np.concatenate([[size - 1], np.arange(size), [0]])
    column = sparse.csr_array((np.ones(size + 2), (np.arange(size + 2), order)), shape=(size + 2, size))
    return np.concatenate([[lon[-1] - 360], lon, [lon[0] + 360]]), column


def _linear_weights(source: _Floats, target: _Floats) -> csr_array:
    """Return weights of linear interpolation between centers.

    Values are constant from the last center to the edge of its cell.
    """
    inside = _within_edges(source, target)
    at = np.clip(target, source[0], source[-1])
    right = np.clip(np.searchsorted(source, at), 1, len(source) - 1)
    fraction = (at - source[right - 1]) / (source[right] - source[right - 1])
    rows = np.flatnonzero(inside)
    return _matrix(
        np.concatenate([rows, rows]),
        np.concatenate([right[rows] - 1, right[rows]]),
        np.concatenate([1 - fraction[rows], fraction[rows]]),
        (len(target), len(source)),
    )


def _nearest_weights(source: _Floats, target: _Floats) -> csr_array:
    rows = np.flatnonzero(_within_edges(source, target))
    columns = np.abs(source[None, :] - target[rows, None]).argmin(1)
    return _matrix(rows, columns, np.ones(len(rows)), (len(target), len(source)))


def _within_edges(source: _Floats, target: _Floats) -> NDArray[np.bool_]:
    edges = cell_edges(source)
    slack = 1e-9 * (edges[-1] - edges[0])
    return (target >= edges[0] - slack) & (target <= edges[-1] + slack)


def _ends(edges: _Floats) -> tuple[_Floats, _Floats]:
    return edges[:-1], edges[1:]


def _sines(edges: _Floats) -> tuple[_Floats, _Floats]:
    """Return cell edges as sines of latitude, proportional to area."""
    return _ends(np.sin(np.radians(np.clip(edges, -90, 90))))


def _overlap_weights(low: _Floats, high: _Floats, to_low: _Floats, to_high: _Floats) -> csr_array:
    """Return the fraction of target cells that source cells cover."""
    covered = np.minimum(high[None], to_high[:, None]) - np.maximum(low[None], to_low[:, None])
    fraction = np.maximum(covered, 0) / np.maximum(to_high - to_low, 1e-12)[:, None]
    fraction[fraction < 1e-9] = 0  # adjacent edges that differ by rounding
    return _scipy_sparse().csr_array(fraction)


def _matrix(rows: NDArray, columns: NDArray, values: _Floats, shape: tuple[int, int]) -> csr_array:
    return _scipy_sparse().coo_array((values, (rows, columns)), shape=shape).tocsr()


def _scattered_weights(field: xr.DataArray, target: Any, method: Method) -> csr_array:
    """Return weights from a grid with two-dimensional coordinates.

    Points are projected to a tangent plane. The weights are those of the nearest point, or of the
    surrounding triangle.
    """
    points = _stereographic(field["lat"].values, field["lon"].values, field)
    lat, lon = target["lat"].values, target["lon"].values
    if _is_regular(target):
        lat, lon = np.meshgrid(lat, lon, indexing="ij")
    requested = _stereographic(lat, lon, field)
    shape = (len(requested), len(points))
    corners, fractions = _triangles(points, requested)
    rows = np.flatnonzero(corners[:, 0] >= 0)  # within the convex hull of the points
    if method == "nearest":
        from scipy.spatial import KDTree

        return _matrix(rows, KDTree(points).query(requested[rows])[1], np.ones(len(rows)), shape)
    return _matrix(np.repeat(rows, 3), corners[rows].ravel(), fractions[rows].ravel(), shape)


def _triangles(points: _Floats, requested: _Floats) -> tuple[NDArray[np.integer], _Floats]:
    """Return the triangle around each point, with barycentric weights.

    The corners are -1 outside of all triangles.
    """
    from scipy.spatial import Delaunay

    mesh = Delaunay(points)
    found = mesh.find_simplex(requested)
    affine = mesh.transform[found]
    partial = np.einsum("nij,nj->ni", affine[:, :2], requested - affine[:, 2])
    fractions = np.clip(np.concatenate([partial, 1 - partial.sum(1, keepdims=True)], axis=1), 0, 1)
    return np.where(found[:, None] >= 0, mesh.simplices[found], -1), fractions


def _stereographic(lat: _Floats, lon: _Floats, field: xr.DataArray) -> _Floats:
    """Project points to the tangent plane of the field, shape ``(n, 2)``.

    The plane touches the sphere at the center of the field. The stereographic projection keeps neighbors
    together.
    """
    center = np.radians(float(field["lat"].mean()))
    at = field["lon"].values
    central_longitude = np.radians(float(np.median(at[at.shape[0] // 2])))
    y, x = np.radians(lat).ravel(), np.radians(lon).ravel() - central_longitude
    scale = 2 / np.maximum(1 + np.sin(center) * np.sin(y) + np.cos(center) * np.cos(y) * np.cos(x), 1e-9)
    return np.stack(
        [
            scale * np.cos(y) * np.sin(x),
            scale * (np.cos(center) * np.sin(y) - np.sin(center) * np.cos(y) * np.cos(x)),
        ],
        axis=1,
    )


# --- application --------------------------------------------------------------------------------


def _apply_weights(
    field: xr.DataArray,
    weights: csr_array,
    target: list[str],
    coordinates: dict[str, Any],
    min_valid: float,
    *,
    full_weight: float | None = None,
) -> xr.DataArray:
    import xarray as xr

    shape = tuple(len(coordinates[a]) if a in coordinates else coordinates["lat"].sizes[a] for a in target)
    # Weight of a row if all of its cells are valid: 1 for coarsening, as blocks may extend beyond the grid.
    full = (
        np.asarray(weights.sum(axis=1)).ravel()
        if full_weight is None
        else np.full(weights.shape[0], full_weight)
    )
    inner = ["_y", "_x"]
    found = xr.apply_ufunc(
        lambda values: _weighted_mean(values, weights, full, shape, min_valid),
        field,
        input_core_dims=[list(field.dims[-2:])],
        output_core_dims=[inner],
        dask="parallelized",
        output_dtypes=[field.dtype],
        keep_attrs=True,
        dask_gufunc_kwargs={"output_sizes": dict(zip(inner, shape, strict=True))},
    )
    found = found.drop_vars([name for name in ("lat", "lon") if name in found.coords])
    found = found.rename(dict(zip(inner, target, strict=True))).assign_coords(coordinates)
    found.encoding = dict(field.encoding)
    return found


def _weighted_mean(
    values: NDArray, weights: csr_array, full: _Floats, shape: tuple[int, ...], min_valid: float
) -> NDArray:
    leading = values.shape[:-2]
    flat = values.reshape(-1, values.shape[-2] * values.shape[-1]).T.astype(float)
    valid = np.isfinite(flat)
    total = weights @ np.where(valid, flat, 0.0)
    weight = weights @ valid.astype(float)
    enough = (weight >= min_valid * full[:, None] - 1e-9) & (weight > 1e-9)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(enough, total / weight, np.nan)
    return mean.T.reshape(*leading, *shape).astype(values.dtype)


def check_overlap(field: Any, target: Any) -> None:
    """Raise if two grids do not overlap.

    Args:
        field: Field with coordinates ``lat`` and ``lon``.
        target: Object with coordinates ``lat`` and ``lon``.

    Raises:
        InputError: The grids do not overlap. The message has both extents, and the file of the first if
            known.
    """

    def ends(grid: Any, axis: str) -> tuple[float, float]:
        values = np.asarray(grid[axis], float)
        return float(values.min()), float(values.max())

    (low, high), (to_low, to_high) = ends(field, "lat"), ends(target, "lat")
    west, east = ends(field, "lon")
    shifted = _shift_longitudes(np.asarray(target["lon"], float), np.array([west, east]))
    to_west, to_east = float(shifted.min()), float(shifted.max())
    if low <= to_high and to_low <= high and west <= to_east and to_west <= east:
        return
    where = f"{field.encoding['source']}: " if field.encoding.get("source") else ""
    raise InputError(
        f"{where}grids do not overlap: one has latitudes {low:g} to {high:g} and longitudes {west:g} to "
        f"{east:g}, the other {to_low:g} to {to_high:g} and {to_west:g} to {to_east:g}; "
        "if one is in rotated coordinates, open it with pole="
    )
