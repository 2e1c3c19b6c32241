"""What a gridded field can be: its names in files, its unit, and what values are plausible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from geovision.errors import OptionError, nearest
from geovision.spec import Channel, Quantile

__all__ = ["VARIABLES", "Variable", "variable"]


@dataclass(frozen=True)
class Variable:
    """One physical field.

    Args:
        channel: Name, unit that it is brought to, hard range, and quantiles that a whole file keeps.
        standard_names: Of CF, the one that is written first.
        names: In files, where no standard name tells.
        other_units: That files of it come in; a hint names the one that would make the values plausible.
        zero_below: A negative value of a quantity that has none is rounding down to this much below 0, by
            the unit of the file; what is lower is an error.
    """

    channel: Channel
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    other_units: tuple[str, ...] = ()
    zero_below: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.channel.name

    @property
    def unit(self) -> str:
        return self.channel.unit


_ALL = (
    Variable(
        Channel(
            # The highest rates over minutes are some 7000 mm/day, the highest day some 1800 mm. Where it
            # rains at all the wettest thousandth of a day and cell is far above 0.01 mm; in kg m-2 s-1 it
            # is below.
            "precipitation", "mm day-1", (0.0, 10_000.0), (Quantile(0.999, 0.01, 1500.0),),
        ),
        ("lwe_precipitation_rate", "precipitation_flux", "precipitation_amount",
         "lwe_thickness_of_precipitation_amount"),
        ("pr", "rr", "precip", "precipitation", "precip_rate", "tp", "prate", "rain", "rainfall", "RAINFALL"),
        ("kg m-2 s-1", "mm h-1", "m day-1"),
        {"mm day-1": 1e-6, "kg m-2 s-1": 1e-9},
    ),
    Variable(
        Channel("air_temperature", "K", (150.0, 350.0), (Quantile(0.5, 200.0, 325.0),)),
        ("air_temperature",),
        ("tas", "tg", "t2m", "2t", "ta", "t", "temperature", "tasmean"),
        ("degC", "degF"),
    ),
    Variable(
        Channel("air_pressure_at_mean_sea_level", "Pa", (85_000.0, 109_000.0),
                (Quantile(0.5, 97_000.0, 106_000.0),)),
        ("air_pressure_at_mean_sea_level", "air_pressure_at_sea_level"),
        ("psl", "msl", "slp", "mslp"),
        ("hPa", "kPa"),
    ),
    Variable(
        Channel("specific_humidity", "1", (0.0, 0.06), (Quantile(0.999, 1e-5, 0.04),)),
        ("specific_humidity",),
        ("hus", "q", "huss", "shum"),
        ("g/kg",),
        {"1": 1e-6},
    ),
)  # fmt: skip

VARIABLES: Mapping[str, Variable] = {each.name: each for each in _ALL}
"""By name."""


def variable(name: str) -> Variable:
    """A variable by its name here.

    Raises:
        OptionError: There is none of this name.

    >>> variable("precipitation").unit
    'mm day-1'
    """
    if name not in VARIABLES:
        near = nearest(name, VARIABLES)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(VARIABLES)}."
        raise OptionError(f"{name!r} is not a field that is known here. {hint}")
    return VARIABLES[name]
