"""Predictors that are derived from other fields of the day, or from adjacent days."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geovision.grid_channels import (
    AIR_PRESSURE_AT_SEA_LEVEL,
    EASTWARD_MOISTURE_FLUX,
    NORTHWARD_MOISTURE_FLUX,
    SPECIFIC_HUMIDITY_850,
)
from geovision.physics.geostrophy import moisture_flux

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["adjacent_days", "moisture_fluxes", "parse_predictor"]

_SUFFIXES = {"_day_before": -1, "_day_after": 1}


def moisture_fluxes(fields: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Return the eastward and northward moisture fluxes by channel.

    The result is empty if pressure or humidity is missing, if they are not on one regular grid, or if the
    grid is at the equator.

    Args:
        fields: Fields by channel, with the dimensions (time, lat, lon).
    """
    import xarray as xr

    pressure = fields.get(AIR_PRESSURE_AT_SEA_LEVEL.name)
    humidity = fields.get(SPECIFIC_HUMIDITY_850.name)
    if pressure is None or humidity is None or pressure["lat"].ndim != 1:
        return {}
    if pressure.dims != humidity.dims or any(
        pressure.sizes[axis] != humidity.sizes[axis] or not np.allclose(pressure[axis], humidity[axis])
        for axis in ("lat", "lon")
    ):
        return {}
    pressure, humidity = xr.align(pressure, humidity, join="inner")
    lat, lon = (np.asarray(pressure[axis], float) for axis in ("lat", "lon"))
    try:
        fluxes = moisture_flux(pressure.values, humidity.values, lat, lon)
    except ValueError:  # at the equator
        return {}
    return {
        channel.name: pressure.copy(data=flux).rename(channel.name).assign_attrs(units=channel.unit)
        for channel, flux in zip((EASTWARD_MOISTURE_FLUX, NORTHWARD_MOISTURE_FLUX), fluxes, strict=True)
    }


def parse_predictor(name: str) -> tuple[str, int]:
    """Return the field of a predictor and its day: -1 previous, 0 same, 1 next.

    Args:
        name: Name of the predictor.

    >>> parse_predictor("precipitation_day_after"), parse_predictor("air_temperature")
    (('precipitation', 1), ('air_temperature', 0))
    """
    for suffix, step in _SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), step
    return name, 0


def adjacent_days(field: xr.DataArray, groups: list[str]) -> dict[int, NDArray[np.integer]]:
    """Return the positions of the previous, same and next day for each day.

    A day that is missing or belongs to another split group has the position -1.

    Args:
        field: Field with a time axis.
        groups: Split group of each day.

    Returns:
        Positions by step: -1 for the previous day, 0 for the day itself, 1 for the next day.
    """
    times = field.indexes["time"]
    count = len(times)
    follows = np.zeros(count + 1, dtype=bool)  # whether the day directly follows the previous one
    hours = np.array([(later - earlier).total_seconds() / 3600 for earlier, later in pairwise(times)])
    follows[1:count] = (np.abs(hours - 24) < 1) & (np.array(groups[1:]) == np.array(groups[:-1]))
    here = np.arange(count)
    return {-1: np.where(follows[:-1], here - 1, -1), 0: here, 1: np.where(follows[1:], here + 1, -1)}
