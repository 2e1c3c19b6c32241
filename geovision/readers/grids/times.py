"""Times of a field: that they are there, once each, in order, and how far apart."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from geovision.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_times", "split_groups", "step_days"]


def check_times(field: xr.DataArray, *, where: str) -> None:
    """Raise unless the times are there, each once, in order.

    Raises:
        InputError: With the first time that is not.
    """
    if field.sizes["time"] == 0:
        raise InputError(f"{where}: no times")
    if "time" not in field.coords or not _is_time(field):
        raise InputError(f"{where}: its time has no CF units such as 'days since 1982-12-01', so no dates")
    index = field.indexes["time"]
    if index.hasnans:
        raise InputError(f"{where}: a time is missing")
    if index.is_monotonic_increasing and index.is_unique:
        return
    duplicated = index[index.duplicated()]
    if len(duplicated):
        raise InputError(
            f"{where}: {len(duplicated)} times stand twice, first {str(duplicated[0])[:19]}; keep one of each"
        )
    at = next(n for n in range(1, len(index)) if index[n] < index[n - 1])
    raise InputError(
        f"{where}: times are out of order, {str(index[at])[:19]} after "
        f"{str(index[at - 1])[:19]}; sort the file by time"
    )


def _is_time(field: xr.DataArray) -> bool:
    import xarray as xr

    return isinstance(field.indexes["time"], xr.CFTimeIndex) or field["time"].dtype.kind == "M"


def step_days(field: xr.DataArray) -> float | None:
    """The shortest step in days, as winters that follow each other have a gap between; None: one time."""
    steps = [(later - earlier).total_seconds() for earlier, later in pairwise(field.indexes["time"])]
    return min(steps) / 86400 if steps else None


def split_groups(field: xr.DataArray, group_by: Literal["year", "winter"] = "year") -> list[str]:
    """What a split must not cut, of every step: its year, or its winter by the year of its January.

    A winter is that of the north and goes from July to June, so that no cold season is cut.
    """
    years, months = field["time"].dt.year.values, field["time"].dt.month.values
    if group_by == "year":
        return [str(year) for year in years]
    return [f"winter {year + (month >= 7)}" for year, month in zip(years, months, strict=True)]
