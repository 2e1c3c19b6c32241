"""Predictors that no file holds: made of other fields of the day, or those of the day before or after."""

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
    """Eastward and northward flux of moisture, by channel, where pressure and humidity are there on one grid
    of latitudes and longitudes away from the equator; nothing elsewhere."""
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
    """The field that a predictor is of, and its day: -1 the one before, 1 the one after.

    >>> placed("precipitation_day_after"), placed("air_temperature")
    (('precipitation', 1), ('air_temperature', 0))
    """
    for suffix, step in _SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), step
    return name, 0


def adjacent_days(field: xr.DataArray, groups: list[str]) -> dict[int, NDArray[np.integer]]:
    """Position of the day before (-1), of the day itself (0) and of the day after (1) of each day of a field;
    -1 where it is not there, or in another group of splits.

    Args:
        groups: That of each day.
    """
    times = field.indexes["time"]
    count = len(times)
    follows = np.zeros(count + 1, dtype=bool)  # whether the day is the one after that before it
    hours = np.array([(later - earlier).total_seconds() / 3600 for earlier, later in pairwise(times)])
    follows[1:count] = (np.abs(hours - 24) < 1) & (np.array(groups[1:]) == np.array(groups[:-1]))
    here = np.arange(count)
    return {-1: np.where(follows[:-1], here - 1, -1), 0: here, 1: np.where(follows[1:], here + 1, -1)}
