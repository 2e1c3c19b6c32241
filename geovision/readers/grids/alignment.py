"""Alignment of fields by date, with a report of the dropped dates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geovision.errors import InputError
from geovision.readers.grids.times import step_days

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Alignment", "align", "check_finer"]


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Fields with the same dates, and the dates that each field lost.

    Attributes:
        fields: Fields by name, with the time axis of the last field given; static fields are unchanged.
        dropped: Dropped dates of each field by name, ISO 8601. Another field lacks these dates, or a field
            has no valid values on them.
    """

    fields: Mapping[str, xr.DataArray]
    dropped: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        steps = next(field.sizes["time"] for field in self.fields.values() if "time" in field.dims)
        parts = [f"{name} lost {_format_dates(dates)}" for name, dates in self.dropped.items() if dates]
        return f"{steps} dates in common" + (f"; {'; '.join(parts)}" if parts else "; no dates dropped")


def align(fields: Mapping[str, xr.DataArray]) -> Alignment:
    """Align fields to their common dates, for any calendars.

    If every field has a step of a day or more, times match by date, whatever their hour. Otherwise they
    match to the minute. A date that a calendar lacks, such as 29 February, is dropped, and so is a date on
    which a field is missing everywhere. A field without a time axis matches every date. If only one field
    has a time axis, no dates are dropped.

    Args:
        fields: At least two fields by name.

    Returns:
        Aligned fields and dropped dates.

    Raises:
        InputError: There are fewer than two fields, no field has times, a field has several times of one
            date, or no date is common to all.
    """
    if len(fields) < 2:
        raise InputError("fewer than two fields; alignment needs at least two")
    given, fields = fields, {name: field for name, field in fields.items() if "time" in field.dims}
    if not fields:
        raise InputError(f"{', '.join(given)}: no field has a time axis; at least one is required")
    if len(fields) == 1:
        return Alignment(given, dict.fromkeys(given, ()))
    daily = all((step_days(field) or 1.0) >= 1 for field in fields.values())
    keys = {name: _date_keys(field, daily) for name, field in fields.items()}
    for name, key in keys.items():
        if len(set(key)) != len(key):
            raise InputError(
                f"{name}: several times of one date, {_first_duplicate(key)}; keep one time per date"
            )
    valid = {name: set(np.array(keys[name])[_valid_steps(field)]) for name, field in fields.items()}
    common = set.intersection(*valid.values())
    if not common:
        spans = "; ".join(f"{name} {key[0]} to {key[-1]}" for name, key in keys.items())
        raise InputError(f"no date in common: {spans}")
    picked = {
        name: field.isel(time=[n for n, key in enumerate(keys[name]) if key in common])
        for name, field in fields.items()
    }
    *_, last = picked.values()
    dropped = {name: tuple(key for key in keys[name] if key not in common) for name in fields}
    timed = {name: field.assign_coords(time=last["time"]) for name, field in picked.items()}
    return Alignment({name: timed.get(name, field) for name, field in given.items()}, dropped)


def check_finer(coarse: xr.DataArray, fine: xr.DataArray) -> None:
    """Raise if the coarse grid has smaller cells than the fine grid.

    Args:
        coarse: Field on the coarse grid.
        fine: Field on the fine grid.

    Raises:
        InputError: The cells of the coarse grid are smaller; the message has both sizes.
    """
    sizes = [float(np.median(np.abs(np.diff(grid["lat"].values, axis=0)))) for grid in (coarse, fine)]
    if sizes[0] < sizes[1] * 0.999:
        raise InputError(
            f"the coarse grid has cells of {sizes[0]:.3g} degrees of latitude and the fine one of "
            f"{sizes[1]:.3g}; check whether they are swapped"
        )


def _date_keys(field: xr.DataArray, daily: bool) -> list[str]:
    index: Any = field.indexes["time"]
    return [str(text) for text in index.strftime("%Y-%m-%d" if daily else "%Y-%m-%dT%H:%M")]


def _valid_steps(field: xr.DataArray) -> np.ndarray:
    """Return the mask of time steps with any valid value."""
    return np.asarray(field.notnull().any([axis for axis in field.dims if axis != "time"]).values)


def _first_duplicate(keys: list[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _format_dates(dates: tuple[str, ...]) -> str:
    shown = ", ".join(dates[:3])
    return f"{len(dates)} ({shown}{', …' if len(dates) > 3 else ''})"
