"""Fields brought together by date, with word of what fell out."""

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
    """Fields with the same dates, and what each lost to get there.

    Attributes:
        fields: By name, with one time axis, that of the last field given; static ones as they are.
        dropped: By name, the dates that only that field had, or had values on; ISO 8601.
    """

    fields: Mapping[str, xr.DataArray]
    dropped: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        steps = next(field.sizes["time"] for field in self.fields.values() if "time" in field.dims)
        parts = [f"{name} lost {_format_dates(dates)}" for name, dates in self.dropped.items() if dates]
        return f"{steps} dates in common" + (f"; {'; '.join(parts)}" if parts else "; nothing fell out")


def align(fields: Mapping[str, xr.DataArray]) -> Alignment:
    """Fields on the dates that all have, whatever their calendars.

    Where every field has a step of a day or more, times of one date belong together, at whatever hour they
    are filed; elsewhere they agree to the minute. A date that one calendar does not have, such as
    29 February, falls out, and so does one on which a field is missing everywhere. A field without an axis of
    time belongs to every date; beside such fields alone nothing falls out of another.

    Raises:
        InputError: Fewer than two fields, none with times, or no date in common.
    """
    if len(fields) < 2:
        raise InputError("two or more fields are needed to be aligned")
    every, fields = fields, {name: field for name, field in fields.items() if "time" in field.dims}
    if not fields:
        raise InputError(f"{', '.join(every)}: no field with times is among them")
    if len(fields) == 1:
        return Alignment(every, dict.fromkeys(every, ()))
    daily = all((step_days(field) or 1.0) >= 1 for field in fields.values())
    keys = {name: _date_keys(field, daily) for name, field in fields.items()}
    for name, key in keys.items():
        if len(set(key)) != len(key):
            raise InputError(f"{name}: several times of one date, {_first_duplicate(key)}")
    here = {name: set(np.array(keys[name])[_valid_steps(field)]) for name, field in fields.items()}
    common = set.intersection(*here.values())
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
    return Alignment({name: timed.get(name, field) for name, field in every.items()}, dropped)


def check_finer(coarse: xr.DataArray, fine: xr.DataArray) -> None:
    """Raise where the coarse grid has smaller cells than the fine one.

    Raises:
        InputError: With both sizes.
    """
    sizes = [float(np.median(np.abs(np.diff(grid["lat"].values, axis=0)))) for grid in (coarse, fine)]
    if sizes[0] < sizes[1] * 0.999:
        raise InputError(
            f"the coarse grid has cells of {sizes[0]:.3g} degrees of latitude and the fine one of "
            f"{sizes[1]:.3g}; they may have been exchanged"
        )


def _date_keys(field: xr.DataArray, daily: bool) -> list[str]:
    index: Any = field.indexes["time"]
    return [str(text) for text in index.strftime("%Y-%m-%d" if daily else "%Y-%m-%dT%H:%M")]


def _valid_steps(field: xr.DataArray) -> np.ndarray:
    """The steps on which anything is there."""
    return np.asarray(field.notnull().any([axis for axis in field.dims if axis != "time"]).values)


def _first_duplicate(keys: list[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _format_dates(dates: tuple[str, ...]) -> str:
    shown = ", ".join(dates[:3])
    return f"{len(dates)} ({shown}{', …' if len(dates) > 3 else ''})"
