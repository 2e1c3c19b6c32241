"""Units of files, read as UDUNITS spells them, and converted.

pint does the arithmetic and cf-xarray its spelling. Here stand only the spellings of files that neither
knows, and what a mass of water is as a depth.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from geovision.errors import InputError, MissingExtraError

__all__ = ["are_compatible", "unit_conversion"]

_SPELLINGS = {
    "mb": "millibar",  # to pint a millibarn
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

_WATER_DENSITY = 1000.0  # kg m-3, by which a flux of its mass is a rate of its depth


@lru_cache(maxsize=256)
def unit_conversion(unit: str, to: str, *, step_days: float | None = None) -> tuple[float, float]:
    """(factor, offset) such that ``value * factor + offset`` is in the unit `to`.

    A mass of water over an area is its depth. An amount without a time, as ``mm``, is what fell in one
    step.

    Args:
        unit: As a file spells it; brackets around it do not matter.
        to: What it is converted to.
        step_days: Length of a time step; None: a rate cannot be made of an amount.

    Raises:
        InputError: A spelling that is not known, or a unit of something else.
        MissingExtraError: pint or cf-xarray is not installed.

    >>> conversion("[kg m-2 s-1]", "mm day-1")
    (86400.0, 0.0)
    >>> conversion("degC", "K")
    (1.0, 273.15)
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
                f"unit {unit!r} is an amount and the file has one time alone, so no step to make {to!r} of it"
            )
        scale = scale / registry.Quantity(step_days, "day")
    if scale.dimensionality != registry.Quantity(1, target).dimensionality:
        raise InputError(f"unit {unit!r} cannot be converted to {to!r}")
    if scale.units != source:  # divided by something: a ratio, without an offset
        return _rounded(scale.to(target).magnitude), 0.0
    zero, one = (registry.Quantity(value, source).to(target).magnitude for value in (0.0, 1.0))
    return _rounded(one - zero), _rounded(zero)


def are_compatible(unit: str, to: str) -> bool:
    """Whether two units measure the same, a mass of water being no depth.

    >>> compatible("kg m-2 s-1", "mm day-1")
    False
    """
    return _parsed(unit).dimensionality == _parsed(to).dimensionality


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")  # 86400.00000000001 is 86400


@lru_cache(maxsize=256)
def _parsed(unit: str) -> Any:
    text = unit.strip().strip("[]()").strip()
    try:
        return _registry().Unit(_SPELLINGS.get(text, text))
    except Exception as error:  # pint raises many kinds, some of tokenisers
        raise InputError(
            f"unit {unit!r} is not known; UDUNITS spellings are, such as 'kg m-2 s-1', 'mm day-1', 'K', 'Pa'"
        ) from error


@lru_cache(maxsize=1)
def _registry() -> Any:
    try:
        from cf_xarray.units import units
    except ImportError as error:
        raise MissingExtraError("cf-xarray with pint", "geo") from error
    return units
