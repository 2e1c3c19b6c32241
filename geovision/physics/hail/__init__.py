"""Hail from radar reflectivity: column formulas, storm cells, and rules for labels."""

from __future__ import annotations

from geovision.physics.hail.columns import (
    Calibration,
    covered_fraction,
    echo_top,
    height_of_maximum,
    kinetic_energy_flux,
    lowest_covered,
    maximum_expected_size,
    maximum_reflectivity,
    probability_of_severe_hail,
    severe_hail_index,
    vertically_integrated_liquid,
    warning_threshold,
)
from geovision.physics.hail.labels import PoshRule, TwoStageRule
from geovision.physics.hail.products import hail_labels, hail_products, join_volumes

__all__ = [
    "Calibration",
    "PoshRule",
    "TwoStageRule",
    "covered_fraction",
    "echo_top",
    "hail_labels",
    "hail_products",
    "height_of_maximum",
    "join_volumes",
    "kinetic_energy_flux",
    "lowest_covered",
    "maximum_expected_size",
    "maximum_reflectivity",
    "probability_of_severe_hail",
    "severe_hail_index",
    "vertically_integrated_liquid",
    "warning_threshold",
]
