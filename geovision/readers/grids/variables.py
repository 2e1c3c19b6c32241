"""Variables of gridded fields: names in files, units and plausible values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from geovision.errors import OptionError, nearest
from geovision.grid_channels import (
    AIR_PRESSURE_AT_SEA_LEVEL,
    AIR_TEMPERATURE,
    PRECIPITATION,
    SPECIFIC_HUMIDITY,
    SURFACE_ALTITUDE,
)
from geovision.spec import Channel

__all__ = ["GLOBAL_ATTRIBUTES", "VARIABLES", "GridVariable", "find_variable"]


GLOBAL_ATTRIBUTES = (
    # CF-1.11, 2.6.2
    "title",
    "institution",
    "source",
    "history",
    "references",
    "comment",
    # Attribute Convention for Data Discovery 1.3: authors and terms of use
    "summary",
    "keywords",
    "license",
    "acknowledgement",
    "acknowledgment",
    "project",
    "program",
    "creator_name",
    "creator_email",
    "creator_url",
    "creator_institution",
    "contributor_name",
    "publisher_name",
    "publisher_email",
    "publisher_url",
    "product_version",
    # CMIP5, CMIP6 and CORDEX: model and run
    "contact",
    "institute_id",
    "institution_id",
    "model_id",
    "source_id",
    "project_id",
    "mip_era",
    "activity_id",
    "experiment",
    "experiment_id",
    "parent_experiment_id",
    "variant_label",
    "forcing",
    "realization",
    "realization_index",
    "initialization_method",
    "initialization_index",
    "physics_version",
    "physics_index",
    "forcing_index",
    "driving_model_id",
    "driving_experiment",
    "driving_experiment_name",
    "driving_model_ensemble_member",
    "rcm_version_id",
    "further_info_url",
)
"""Global attributes that a field keeps, and that become global again when it is written.

Attributes of the grid, the period and the identity of the file are excluded, as they may no longer apply.
"""


@dataclass(frozen=True)
class GridVariable:
    """Variable of a gridded field.

    Args:
        channel: Channel with name, unit after conversion, valid range, and expected quantiles over a
            whole file.
        standard_names: CF standard names; the first is written to files.
        names: Usual names in files without a standard name.
        other_units: Other units of files with this variable; a hint names the unit that makes the values
            plausible. Default: ``()``.
        rounding_tolerance: Largest negative rounding error of a nonnegative quantity, by the unit of the
            file; lower values raise an error. Default: ``{}``.
        static: Whether the field is constant in time, so that its file may lack a time axis and the
            opened field has none. Default: False.
    """

    channel: Channel
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    other_units: tuple[str, ...] = ()
    rounding_tolerance: Mapping[str, float] = field(default_factory=dict)
    static: bool = False

    @property
    def name(self) -> str:
        """Name of the variable."""
        return self.channel.name

    @property
    def unit(self) -> str:
        """Unit of the variable after conversion."""
        return self.channel.unit


_ALL = (
    GridVariable(
        PRECIPITATION,
        (
            "lwe_precipitation_rate",
            "precipitation_flux",
            "precipitation_amount",
            "lwe_thickness_of_precipitation_amount",
        ),
        ("pr", "rr", "precip", "precipitation", "precip_rate", "tp", "prate", "rain", "rainfall", "RAINFALL"),
        ("kg m-2 s-1", "mm h-1", "m day-1"),
        {"mm day-1": 1e-6, "kg m-2 s-1": 1e-9},
    ),
    GridVariable(
        AIR_TEMPERATURE,
        ("air_temperature",),
        ("tas", "tg", "t2m", "2t", "ta", "t", "temperature", "tasmean"),
        ("degC", "degF"),
    ),
    GridVariable(
        AIR_PRESSURE_AT_SEA_LEVEL,
        ("air_pressure_at_mean_sea_level", "air_pressure_at_sea_level"),
        ("psl", "msl", "slp", "mslp"),
        ("hPa", "kPa"),
    ),
    GridVariable(
        SPECIFIC_HUMIDITY,
        ("specific_humidity",),
        ("hus", "q", "huss", "shum"),
        ("g/kg",),
        {"1": 1e-6},
    ),
    GridVariable(
        SURFACE_ALTITUDE,
        ("surface_altitude", "height_above_reference_ellipsoid"),
        ("orog", "orography", "topo", "elevation", "altitude", "z"),
        ("km",),
        static=True,
    ),
)

VARIABLES: Mapping[str, GridVariable] = {each.name: each for each in _ALL}
"""Variables by name."""


def find_variable(name: str) -> GridVariable:
    """Return a variable by its name in `VARIABLES`.

    >>> find_variable("precipitation").unit
    'mm day-1'

    Args:
        name: Name of the variable.

    Raises:
        OptionError: The name is unknown.
    """
    if name not in VARIABLES:
        near = nearest(name, VARIABLES)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(VARIABLES)}."
        raise OptionError(f"{name!r} is not a known field. {hint}")
    return VARIABLES[name]
