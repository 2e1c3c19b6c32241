"""Rules for hail labels: a threshold of the probability of severe hail, or tracked storm cells.

The two-stage rule is that of HINet's labels (Zhang et al. 2024, doi:10.12347/j.ycyk.20240520002). A cell with
POSH > 50, VIL > 50 kg m-2 and its largest reflectivity above 6 km is armed. When the height of its largest
reflectivity has descended to the ground, its area is labeled. The paper does not define a cell, its tracking
and the distance to the ground; these definitions were chosen for this library and are options here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError
from geovision.physics.hail.cells import find_cells, overlapping_cells

__all__ = [
    "HAIL",
    "NOT_COVERED",
    "NO_HAIL",
    "CellHistory",
    "ColumnFields",
    "PoshRule",
    "TwoStageRule",
    "posh_label",
    "track_cells",
]

NOT_COVERED, NO_HAIL, HAIL = -1, 0, 1

Field = NDArray[np.floating]
_Seconds = np.timedelta64


@dataclass(frozen=True)
class PoshRule:
    """Hail where the probability of severe hail exceeds a threshold.

    Attributes:
        posh: Threshold, in percent. Default: 50.
    """

    posh: float = 50.0


@dataclass(frozen=True)
class TwoStageRule:
    """Two-stage rule: cells are armed aloft, tracked, and labeled at touchdown.

    A cell is armed if its maxima exceed `posh`, `vil` and `height`.

    Args:
        posh: Threshold of the largest probability of severe hail, in percent. Default: 50.
        vil: Threshold of the largest vertically integrated liquid, in kg m-2. Default: 50.
        height: Threshold of the height of the largest reflectivity, in m above mean sea level. Default: 6000.
        touchdown_depth: Largest height of the largest reflectivity above the lowest covered level at
            touchdown, in m. It must also not exceed `height`. Default: 1000.
        cell_dbz: Least reflectivity of a cell, in dBZ; see `find_cells`. Default: 50.
        min_pixels: Least size of a cell, in pixels; see `find_cells`. Default: 5.
        armed_duration: Time that a cell stays armed after it last met the criteria, in s. Default: 1800.
        max_gap: Longest time between two volumes over which cells are tracked, in s. Default: 900.
    """

    posh: float = 50.0
    vil: float = 50.0
    height: float = 6000.0
    touchdown_depth: float = 1000.0
    cell_dbz: float = 50.0
    min_pixels: int = 5
    armed_duration: float = 1800.0
    max_gap: float = 900.0


@dataclass(frozen=True)
class ColumnFields:
    """Input of the two-stage rule for one volume, shape (y, x) each.

    Args:
        maximum_reflectivity: Column maximum, in dBZ.
        height_of_maximum: Height of the column maximum, in m above mean sea level.
        probability_of_severe_hail: Probability of severe hail, in percent.
        vertically_integrated_liquid: Vertically integrated liquid, in kg m-2.
        lowest_covered: Height of the lowest covered level, in m above mean sea level.
    """

    maximum_reflectivity: Field
    height_of_maximum: Field
    probability_of_severe_hail: Field
    vertically_integrated_liquid: Field
    lowest_covered: Field


@dataclass(frozen=True)
class CellHistory:
    """Tracked cells of a series of volumes, shape (time, y, x) each.

    Args:
        cell: Number that a cell keeps from volume to volume; 0 outside.
        armed: Whether the cell is armed.
        label: `HAIL`, `NO_HAIL`, or `NOT_COVERED` where the probability of severe hail is missing.
    """

    cell: NDArray[np.int32]
    armed: NDArray[np.bool_]
    label: NDArray[np.int8]


def posh_label(probability_of_severe_hail: Field, rule: PoshRule | None = None) -> NDArray[np.int8]:
    """Return labels by a threshold of the probability of severe hail.

    Args:
        probability_of_severe_hail: Probability of severe hail, in percent, any shape.
        rule: Rule with the threshold. Default: 50 percent.

    Returns:
        `HAIL`, `NO_HAIL`, or `NOT_COVERED` where the probability is NaN; same shape.
    """
    threshold = (rule or PoshRule()).posh
    return np.where(
        np.isnan(probability_of_severe_hail), NOT_COVERED, probability_of_severe_hail > threshold
    ).astype(np.int8)


def track_cells(
    times: NDArray[np.datetime64], volumes: Sequence[ColumnFields], rule: TwoStageRule | None = None
) -> CellHistory:
    """Track cells over a series of volumes and label them by the two-stage rule.

    A cell continues the cell with the largest overlap. If a cell splits, the part with the largest overlap
    keeps its number. If a cell was armed, all parts of its split and the cell it merges into are armed.

    Args:
        times: Times of the volumes, shape (time,), ascending.
        volumes: Fields of each volume, on one grid.
        rule: Rule of the labels. Default: the published thresholds.

    Raises:
        InputError: The times do not ascend.
    """
    rule = rule or TwoStageRule()
    times = np.asarray(times, "datetime64[ns]")
    if (np.diff(times) <= _Seconds(0, "ns")).any():
        raise InputError(
            "volumes are not in chronological order, or two have the same time; sort them, as with "
            "products.sortby('time')"
        )
    states: list[_Volume] = []
    for time, fields in zip(times, volumes, strict=True):
        before = states[-1] if states and time - states[-1].time <= _duration(rule.max_gap) else None
        last_track = max((max(state.tracks, default=0) for state in states), default=0)
        states.append(_next_volume(time, fields, rule, before, last_track))
    return CellHistory(
        cell=np.stack([_cells_to_grid(state, state.tracks, np.int32) for state in states]),
        armed=np.stack(
            [_cells_to_grid(state, [t is not None for t in state.armed], np.bool_) for state in states]
        ),
        label=np.stack([_label(state, fields) for state, fields in zip(states, volumes, strict=True)]),
    )


@dataclass
class _Volume:
    """Cells of one volume; lists have one entry per cell."""

    time: np.datetime64
    areas: NDArray[np.int32]
    tracks: list[int]
    armed: list[np.datetime64 | None]  # time at which it last met the criteria
    touched_down: list[bool]


def _next_volume(
    time: np.datetime64, fields: ColumnFields, rule: TwoStageRule, before: _Volume | None, last_track: int
) -> _Volume:
    areas = find_cells(fields.maximum_reflectivity, threshold_dbz=rule.cell_dbz, min_pixels=rule.min_pixels)
    number = int(areas.max(initial=0))
    tracks, armed = _inherit_tracks(before, areas, number)
    down = [False] * number
    for cell in range(number):
        inside = np.nonzero(areas == cell + 1)
        if tracks[cell] == 0:
            tracks[cell] = last_track = last_track + 1
        if _meets_criteria(fields, inside, rule):
            armed[cell] = time
        armed_at = armed[cell]
        if armed_at is not None and time - armed_at > _duration(rule.armed_duration):
            armed[cell] = None
        down[cell] = _touched_down(fields, inside, rule)
    return _Volume(time, areas, tracks, armed, down)


def _inherit_tracks(
    before: _Volume | None, areas: NDArray[np.int32], number: int
) -> tuple[list[int], list[np.datetime64 | None]]:
    """Return track numbers and arming times that cells inherit from overlapping cells.

    Numbers are 0 for new cells.
    """
    tracks, armed = [0] * number, list[np.datetime64 | None]([None] * number)
    if before is None:
        return tracks, armed
    for old, new, _ in overlapping_cells(before.areas, areas):
        track, armed_at = before.tracks[old - 1], before.armed[old - 1]
        if tracks[new - 1] == 0 and track not in tracks:
            tracks[new - 1] = track
        current = armed[new - 1]
        if armed_at is not None and (current is None or armed_at > current):
            armed[new - 1] = armed_at
    return tracks, armed


def _meets_criteria(fields: ColumnFields, inside: tuple[NDArray[np.intp], ...], rule: TwoStageRule) -> bool:
    """Return whether a cell meets the criteria of arming."""
    posh = np.fmax.reduce(fields.probability_of_severe_hail[inside])
    vil = np.fmax.reduce(fields.vertically_integrated_liquid[inside])
    height, _ = _peak(fields, inside)
    return bool(posh > rule.posh and vil > rule.vil and height > rule.height)


def _touched_down(fields: ColumnFields, inside: tuple[NDArray[np.intp], ...], rule: TwoStageRule) -> bool:
    """Return whether the largest reflectivity of a cell has descended to the ground."""
    height, lowest = _peak(fields, inside)
    # Far from the radar the lowest beam is high: an armed cell there has not descended.
    return bool(height <= lowest + rule.touchdown_depth and height <= rule.height)


def _peak(fields: ColumnFields, inside: tuple[NDArray[np.intp], ...]) -> tuple[float, float]:
    """Return the height of a cell's largest reflectivity, and the lowest covered level there."""
    peak = int(np.argmax(fields.maximum_reflectivity[inside]))
    return float(fields.height_of_maximum[inside][peak]), float(fields.lowest_covered[inside][peak])


def _label(state: _Volume, fields: ColumnFields) -> NDArray[np.int8]:
    hit = [
        armed_at is not None and down for armed_at, down in zip(state.armed, state.touched_down, strict=True)
    ]
    label = _cells_to_grid(state, hit, np.int8)
    return np.where(
        np.isnan(fields.probability_of_severe_hail) & (label == NO_HAIL), np.int8(NOT_COVERED), label
    )


def _cells_to_grid(state: _Volume, values: Sequence[int | bool], kind: type) -> NDArray:
    """Return a field with a value for each cell, 0 outside."""
    return np.array([0, *values], kind)[state.areas]


def _duration(seconds: float) -> np.timedelta64:
    return _Seconds(round(seconds * 1e9), "ns")
