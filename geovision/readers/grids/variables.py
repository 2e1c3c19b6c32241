"""What a gridded field can be: its names in files, its unit, and what values are plausible."""

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
    # Attribute Convention for Data Discovery 1.3: who made it, and on what terms
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
    # CMIP5, CMIP6 and CORDEX: which run of which model
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
"""Attributes of a whole file that its field keeps, and that are the file's again where it is written. Those
that tell of its grid, its period or its identity are not among them: they are no longer true."""


@dataclass(frozen=True)
class GridVariable:
    """One physical field.

    Args:
        channel: Name, unit that it is brought to, hard range, and quantiles that a whole file keeps.
        standard_names: Of CF, the one that is written first.
        names: In files, where no standard name tells.
        other_units: That files of it come in; a hint names the one that would make the values plausible.
        rounding_tolerance: A negative value of a quantity that has none is rounding down to this much
            below 0, by the unit of the file; what is lower is an error.
        static: It is the same on all days, so that its file needs no axis of time, and its field has none.
    """

    channel: Channel
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    other_units: tuple[str, ...] = ()
    rounding_tolerance: Mapping[str, float] = field(default_factory=dict)
    static: bool = False

    @property
    def name(self) -> str:
        return self.channel.name

    @property
    def unit(self) -> str:
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
"""By name."""


def find_variable(name: str) -> GridVariable:
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
