"""Plausibility checks of a whole field, with tolerances for rounding."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from geovision.errors import InputError
from geovision.readers.grids.units import are_compatible, unit_conversion
from geovision.readers.grids.variables import GridVariable

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_values"]

_SAMPLE = 4_000_000
"""Number of values for quantiles, from time steps evenly spaced over the file."""

_FILL_VALUES = (99.9, 999, 999.9, 9999, 99999, 32767, 32768)
"""Absolute values that mark missing cells in files without a _FillValue."""

_MIN_CONSTANT_STEPS = 30
"""Minimum number of time steps over which a constant field is rejected."""


def check_values(field: xr.DataArray, variable: GridVariable) -> xr.DataArray:
    """Check a field and set negative rounding errors to 0.

    All values are read once.

    Args:
        field: Field in the unit of the variable.
        variable: Variable with valid range and expected quantiles.

    Returns:
        Field without negative rounding errors.

    Raises:
        InputError: Values, or quantiles over the file, are outside the range of the variable.
    """
    where = f"{field.encoding['source']}: {field.name}"
    found = _statistics(field)
    if not found.count:
        raise InputError(f"{where} is missing everywhere; choose another file or variable")
    floor = _rounding_floor(variable, field.encoding["source_units"])
    low, high = variable.channel.valid_range
    unit = "" if variable.unit == "1" else f" {variable.unit}"
    slack = 1e-6 * max(abs(low), abs(high))
    beyond = found.low < (low - slack if floor is None else floor) or found.high > high + slack
    if beyond or not np.isfinite(found.high - found.low):
        raise InputError(
            f"{where} from {found.low:.4g} to {found.high:.4g}{unit}, expected {low:g} to "
            f"{high:g}{_unit_hint(field, variable, found)}"
        )
    if found.low == found.high and field.sizes.get("time", 1) >= _MIN_CONSTANT_STEPS:
        raise InputError(
            f"{where} is {found.low:g}{unit} in every cell of all {field.sizes['time']} "
            "steps; it may be empty, or another variable"
        )
    for quantile in variable.channel.expected_quantiles:
        value = np.nanquantile(found.sample, quantile.q)
        if found.high > 0 and not quantile.low <= value <= quantile.high:
            raise InputError(
                f"{where}: the {quantile.q:.1%} quantile over the file is {value:.3g}{unit}, expected "
                f"{quantile.low:g} to {quantile.high:g}{_unit_hint(field, variable, found)}"
            )
    if floor is None or found.low >= 0:
        return field
    encoding = field.encoding
    field = field.clip(min=0, keep_attrs=True)
    field.encoding = encoding
    return field


@dataclasses.dataclass(frozen=True)
class _Statistics:
    low: float
    high: float
    count: int
    sample: np.ndarray


def _statistics(field: xr.DataArray) -> _Statistics:
    """Compute statistics block by block.

    A large field is read once, and never as a whole.
    """
    every = max(1, -(-field.size // _SAMPLE))
    if not field.chunks:
        return _block_statistics(field.values, 0, every)
    import dask

    data = field.data.rechunk(dict.fromkeys(range(1, field.ndim), -1))
    begins = np.concatenate([[0], np.cumsum(data.chunks[0])[:-1]])
    pieces = [
        dask.delayed(_block_statistics)(piece, int(begin), every)
        for piece, begin in zip(data.to_delayed().ravel(), begins, strict=True)
    ]
    found = dask.compute(*pieces)
    return _Statistics(
        float(np.fmin.reduce([each.low for each in found])),
        float(np.fmax.reduce([each.high for each in found])),
        sum(each.count for each in found),
        np.concatenate([each.sample for each in found]),
    )


def _block_statistics(values: np.ndarray, begin: int, every: int) -> _Statistics:
    """Compute statistics of the steps from `begin` on.

    The sample is each `every`-th step of the whole field.
    """
    return _Statistics(
        float(np.fmin.reduce(values, axis=None)),
        float(np.fmax.reduce(values, axis=None)),
        values.size - int(np.count_nonzero(np.isnan(values))),
        values[-begin % every :: every].copy(),
    )


def _rounding_floor(variable: GridVariable, source_unit: str) -> float | None:
    """Return the lowest value due to rounding, in the variable's unit.

    None means that the variable may be negative.
    """
    if not variable.rounding_tolerance:
        return None
    for unit, depth in variable.rounding_tolerance.items():
        if are_compatible(unit, source_unit):
            return -depth * unit_conversion(unit, variable.unit)[0] * 1.000001
    return -next(iter(variable.rounding_tolerance.values()))


def _unit_hint(field: xr.DataArray, variable: GridVariable, found: _Statistics) -> str:
    """Return the most probable mistake about the unit, as text."""
    if not np.isfinite(found.high - found.low):
        return " (infinite values)"
    source = field.encoding["source_units"]
    factor, offset = unit_conversion(source, variable.unit, step_days=1.0)
    raw, extremes = (
        (found.sample - offset) / factor,
        [(extreme - offset) / factor for extreme in (found.low, found.high)],
    )
    codes = [value for value in extremes if abs(round(value, 2)) in _FILL_VALUES or abs(value) > 1e15]
    if codes:
        return f" ({codes[0]:.6g} may be a code of missing cells; declare it as _FillValue in the file)"
    if variable.rounding_tolerance and found.low < 0 and _fits(found.sample.clip(0), variable, source):
        return f" (negative {variable.name}: anomalies, or a damaged file)"
    for unit in (variable.unit, *variable.other_units):
        times, plus = unit_conversion(unit, variable.unit)
        if unit != source and _fits(raw * times + plus, variable, unit):
            return f" (the file was read as {source!r}; its values would be plausible in {unit!r})"
    if variable.rounding_tolerance and found.low < 0:
        return f" (negative {variable.name}: anomalies, or a damaged file)"
    return f" (the file was read as {source!r})"


def _fits(values: np.ndarray, variable: GridVariable, unit: str) -> bool:
    """Return whether values converted from a unit are plausible for the variable."""
    low, high = variable.channel.valid_range
    floor = min(_rounding_floor(variable, unit) or low, low)
    inside = floor <= np.nanmin(values) and np.nanmax(values) <= high
    return bool(
        inside
        and all(q.low <= np.nanquantile(values, q.q) <= q.high for q in variable.channel.expected_quantiles)
    )
