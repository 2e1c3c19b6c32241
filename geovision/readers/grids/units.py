"""Parsing and conversion of the units of files, in UDUNITS spelling.

pint computes conversions, and cf-xarray parses the spelling. This module adds spellings of files that
neither supports, and the conversion of a mass of water to a depth.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from geovision.errors import InputError, MissingExtraError

__all__ = ["are_compatible", "unit_conversion"]

_SPELLINGS = {
    "mb": "millibar",  # a millibarn in pint
    "deg C": "degC",
    "deg_C": "degC",
    "degrees_celsius": "degC",
    "degree_celsius": "degC",
    "C": "degC",
    "degrees C": "degC",
    "celcius": "degC",
    "deg F": "degF",
    "fahrenheit": "degF",
    "deg K": "K",
    "degK": "K",
    "Kelvin": "K",
    "Celsius": "degC",
    "mm/d": "mm/day",
    "mm per day": "mm/day",
}

_WATER_DENSITY = 1000.0  # kg m-3, converts a mass flux of water to a rate of depth


@lru_cache(maxsize=256)
def unit_conversion(unit: str, to: str, *, step_days: float | None = None) -> tuple[float, float]:
    """Return factor and offset of the conversion between two units.

    ``value * factor + offset`` is in the unit `to`. A mass of water over an area is converted to its depth.
    An amount without a time, such as ``mm``, is the sum over one time step.

    >>> unit_conversion("[kg m-2 s-1]", "mm day-1")
    (86400.0, 0.0)
    >>> unit_conversion("degC", "K")
    (1.0, 273.15)

    Args:
        unit: Unit in the spelling of a file; brackets around it are ignored.
        to: Unit of the result.
        step_days: Length of a time step, in days. Default: None, amounts cannot be converted to rates.

    Returns:
        Factor and offset.

    Raises:
        InputError: The spelling is unknown, or the units have different dimensions.
        MissingExtraError: pint or cf-xarray is not installed.
    """
    source, target = _parsed(unit), _parsed(to)
    registry = _registry()
    scale = registry.Quantity(1, source)
    if scale.check("[mass]/[length]**2") or scale.check("[mass]/[length]**2/[time]"):
        scale = scale / registry.Quantity(_WATER_DENSITY, _parsed("kg m-3"))
    rate = registry.Quantity(1, target).check("[length]/[time]")
    if rate and scale.check("[length]"):
        if step_days is None:
            raise InputError(
                f"unit {unit!r} is an amount, and the file has a single time, so its step is unknown. "
                f"Convert the file to {to!r}"
            )
        scale = scale / registry.Quantity(step_days, "day")
    if scale.dimensionality != registry.Quantity(1, target).dimensionality:
        raise InputError(f"unit {unit!r} cannot be converted to {to!r}")
    if scale.units != source:  # divided by a quantity: a ratio, without an offset
        return _rounded(scale.to(target).magnitude), 0.0
    zero, one = (registry.Quantity(value, source).to(target).magnitude for value in (0.0, 1.0))
    return _rounded(one - zero), _rounded(zero)


def are_compatible(unit: str, to: str) -> bool:
    """Return whether two units have the same dimension.

    A mass of water is not a depth.

    >>> are_compatible("kg m-2 s-1", "mm day-1")
    False

    Args:
        unit: First unit.
        to: Second unit.
    """
    return _parsed(unit).dimensionality == _parsed(to).dimensionality


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")  # 86400.00000000001 is 86400


@lru_cache(maxsize=256)
def _parsed(unit: str) -> Any:
    text = unit.strip().strip("[]()").strip()
    try:
        return _registry().Unit(_SPELLINGS.get(text, text))
    except Exception as error:  # pint raises many exceptions, some from tokenizers
        raise InputError(
            f"unit {unit!r} is unknown; expected a UDUNITS spelling, such as 'kg m-2 s-1', 'mm day-1', 'K' "
            "or 'Pa'"
        ) from error


@lru_cache(maxsize=1)
def _registry() -> Any:
    try:
        from cf_xarray.units import units
    except ImportError as error:
        raise MissingExtraError("cf-xarray with pint", "geo") from error
    return units
