"""Checks of the times of a field, and their step and groups."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from geovision.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_times", "split_groups", "step_days"]


def check_times(field: xr.DataArray, *, where: str) -> None:
    """Raise unless the times are present, unique and ascending.

    Args:
        field: Field with a time axis.
        where: Name of the file in error messages.

    Raises:
        InputError: Times are missing, duplicated or out of order; the message has the first such time.
    """
    if field.sizes["time"] == 0:
        raise InputError(f"{where}: no times; choose a file with at least one")
    if "time" not in field.coords or not _is_time(field):
        raise InputError(
            f"{where}: its time has no CF units, so no dates; add units such as 'days since 1982-12-01'"
        )
    index = field.indexes["time"]
    if index.hasnans:
        raise InputError(f"{where}: a time is missing; remove such steps from the file")
    if index.is_monotonic_increasing and index.is_unique:
        return
    duplicated = index[index.duplicated()]
    if len(duplicated):
        raise InputError(
            f"{where}: {len(duplicated)} duplicated times, first {str(duplicated[0])[:19]}; keep one of each"
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
    """Return the shortest time step in days; None for a single time.

    The shortest step is used because consecutive winters have a gap between them.

    Args:
        field: Field with a time axis.
    """
    steps = [(later - earlier).total_seconds() for earlier, later in pairwise(field.indexes["time"])]
    return min(steps) / 86400 if steps else None


def split_groups(field: xr.DataArray, group_by: Literal["year", "winter"] = "year") -> list[str]:
    """Return the group of every step, which a split must keep together.

    A winter is that of the northern hemisphere, from July to June, so that no cold season is divided.

    Args:
        field: Field with a time axis.
        group_by: ``"year"`` for the calendar year; ``"winter"`` for the winter, named by the year of its
            January. Default: ``"year"``.

    Returns:
        Group of every time step.
    """
    years, months = field["time"].dt.year.values, field["time"].dt.month.values
    if group_by == "year":
        return [str(year) for year in years]
    return [f"winter {year + (month >= 7)}" for year, month in zip(years, months, strict=True)]
