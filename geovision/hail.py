"""Hail from weather radar: one door to reading, formulas and labels.

    >>> from geovision import hail
    >>> volume = hail.to_levels(hail.read_volume("storm.pvol.h5"))  # doctest: +SKIP
    >>> products = hail.hail_products(volume, freezing_level=3200, minus20_level=6300)  # doctest: +SKIP
    >>> labels = hail.hail_labels(hail.join_volumes([products]))  # doctest: +SKIP

Formulas on plain arrays are in `geovision.physics.hail`, the readers in `geovision.readers.radar`.
"""

from __future__ import annotations

from geovision.physics.hail import (
    Calibration,
    PoshRule,
    TwoStageRule,
    echo_top,
    hail_labels,
    hail_products,
    height_of_maximum,
    join_volumes,
    maximum_expected_size,
    maximum_reflectivity,
    probability_of_severe_hail,
    severe_hail_index,
    vertically_integrated_liquid,
    warning_threshold,
)
from geovision.readers.radar import RadarGrid, RadarVolume, read_volume, to_levels

__all__ = [
    "Calibration",
    "PoshRule",
    "RadarGrid",
    "RadarVolume",
    "TwoStageRule",
    "echo_top",
    "hail_labels",
    "hail_products",
    "height_of_maximum",
    "join_volumes",
    "maximum_expected_size",
    "maximum_reflectivity",
    "probability_of_severe_hail",
    "read_volume",
    "severe_hail_index",
    "to_levels",
    "vertically_integrated_liquid",
    "warning_threshold",
]
