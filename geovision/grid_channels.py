"""Physical quantities on grids, as channels that tasks and readers of grids share: unit, hard range, and
quantiles that a whole file keeps."""

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
    # The highest rates over minutes are some 7000 mm/day, the highest day some 1800 mm. Where it rains at all
    # the wettest thousandth of a day and cell is far above 0.01 mm; in kg m-2 s-1 it is below. Networks take
    # the logarithm or root of rain, so that it is not shifted.
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
"""Of the geostrophic wind, with the humidity at 850 hPa: see `geovision.physics.geostrophy`."""


def adjacent_day_channels(channel: Channel) -> tuple[Channel, Channel]:
    """The same quantity on the day before and on the day after. The days of gauges end in the morning, those
    of models at midnight, so that each holds a part of the other's neighbours.

    >>> [channel.name for channel in beside(PRECIPITATION)]
    ['precipitation_day_before', 'precipitation_day_after']
    """
    before, after = (
        dataclasses.replace(channel, name=f"{channel.name}_day_{which}") for which in ("before", "after")
    )
    return before, after
