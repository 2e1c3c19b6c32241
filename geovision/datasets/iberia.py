"""Winters over Iberia as climate4R ships them: files without units, of sources that follow the weather and
of sources that do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from geovision.readers.grids.sources import GridSource

__all__ = ["CORDEX_POLE", "SOURCES"]

CORDEX_POLE = (39.25, -162.0)
"""Of the rotated grid of EURO-CORDEX, whose axes the file of CORDEX has, named as if they were geographic."""

_FIELDS = {
    "pr": "precipitation",
    "tas": "air_temperature",
    "psl": "air_pressure_at_mean_sea_level",
    "ta850": "air_temperature",
    "hus850": "specific_humidity",
}

# Found by their values, which `open_grid` checks again: no file says its units.
_UNITS = {
    "EOBS": {"pr": "mm/day", "tas": "degC"},
    "NCEP": {"pr": "kg m-2 s-1", "tas": "degC", "psl": "Pa", "ta850": "K", "hus850": "kg kg-1"},
    "CMIP5": {"pr": "kg m-2 s-1", "tas": "K", "psl": "Pa", "ta850": "K", "hus850": "kg kg-1"},
    "CORDEX": {"pr": "mm/day"},
}

_FOLLOWS_THE_WEATHER = ("EOBS", "NCEP")
"""The daily rain of NCEP, averaged over the land, correlates with E-OBS at 0.9; CMIP5 and CORDEX at 0."""


def _sources() -> Iterator[GridSource]:
    for origin, units in _UNITS.items():
        for field, unit in units.items():
            yield GridSource(
                name=f"{origin.lower()}.{field}",
                file=f"{origin}_Iberia_{field}.nc",
                field=_FIELDS[field],
                units=unit,
                synchronous=origin in _FOLLOWS_THE_WEATHER,
                pole=CORDEX_POLE if origin == "CORDEX" else None,
            )


SOURCES: Mapping[str, GridSource] = {source.name: source for source in _sources()}
"""By name, such as ``"eobs.pr"``."""
