"""Channels of physical quantities on grids: unit, valid range and expected quantiles."""

from __future__ import annotations

import dataclasses

from geovision.spec import Channel, QuantileRange

__all__ = [
    "AIR_PRESSURE_AT_SEA_LEVEL",
    "AIR_TEMPERATURE",
    "AIR_TEMPERATURE_850",
    "EASTWARD_MOISTURE_FLUX",
    "NORTHWARD_MOISTURE_FLUX",
    "PRECIPITATION",
    "SPECIFIC_HUMIDITY",
    "SPECIFIC_HUMIDITY_850",
    "SURFACE_ALTITUDE",
    "adjacent_day_channels",
]

PRECIPITATION = Channel(
    # The highest rates over minutes are about 7000 mm/day, the highest daily amount is about 1800 mm. In a
    # file with rain, the quantile 0.999 is far above 0.01 mm day-1, and below it in kg m-2 s-1. Mean and
    # standard deviation stay 0 and 1, because networks use the logarithm or the root of rain.
    "precipitation",
    "mm day-1",
    (0.0, 10_000.0),
    (QuantileRange(0.999, 0.01, 1500.0),),
)

AIR_TEMPERATURE = Channel(
    "air_temperature", "K", (150.0, 350.0), (QuantileRange(0.5, 200.0, 325.0),), mean=283.0, std=15.0
)

AIR_TEMPERATURE_850 = Channel(
    "air_temperature_850", "K", (150.0, 350.0), (QuantileRange(0.5, 200.0, 325.0),), mean=278.0, std=12.0
)

AIR_PRESSURE_AT_SEA_LEVEL = Channel(
    "air_pressure_at_mean_sea_level",
    "Pa",
    (85_000.0, 109_000.0),
    (QuantileRange(0.5, 97_000.0, 106_000.0),),
    mean=101_300.0,
    std=1000.0,
)

SPECIFIC_HUMIDITY = Channel(
    "specific_humidity", "1", (0.0, 0.06), (QuantileRange(0.999, 1e-5, 0.04),), mean=0.008, std=0.005
)

SPECIFIC_HUMIDITY_850 = Channel(
    "specific_humidity_850", "1", (0.0, 0.06), (QuantileRange(0.999, 1e-5, 0.04),), mean=0.005, std=0.003
)

SURFACE_ALTITUDE = Channel("surface_altitude", "m", (-500.0, 9000.0), mean=500.0, std=500.0)

_FLUX = {"unit": "kg m-2 s-1", "valid_range": (-5.0, 5.0), "std": 0.06}

EASTWARD_MOISTURE_FLUX = Channel("eastward_moisture_flux", **_FLUX)  # type: ignore[arg-type]
NORTHWARD_MOISTURE_FLUX = Channel("northward_moisture_flux", **_FLUX)  # type: ignore[arg-type]
"""Fluxes of the geostrophic wind with the humidity at 850 hPa; see `geovision.physics.geostrophy`."""


def adjacent_day_channels(channel: Channel) -> tuple[Channel, Channel]:
    """Return the channels of the day before and of the day after.

    A day of rain gauges ends in the morning, and a day of models at midnight. Each therefore contains a part
    of two days of the other.

    Args:
        channel: Channel of the day.

    Returns:
        Channel of the day before, channel of the day after.

    >>> [channel.name for channel in adjacent_day_channels(PRECIPITATION)]
    ['precipitation_day_before', 'precipitation_day_after']
    """
    before, after = (
        dataclasses.replace(channel, name=f"{channel.name}_day_{which}") for which in ("before", "after")
    )
    return before, after
