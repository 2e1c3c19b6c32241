"""Where hail fell, by rule: the probability of severe hail alone, or cells followed to touch-down.

The two-stage rule is that of HINet's labels (Zhang et al. 2024, doi:10.12347/j.ycyk.20240520002): a cell
with POSH > 50, VIL > 50 kg m-2 and its largest reflectivity above 6 km is armed; when the height of its
largest reflectivity has come down to the ground, its area is labelled. What the paper leaves open, what a
cell is, how it is followed and what is near enough to the ground, is our choice and an option here.
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
    """Hail where the probability of severe hail exceeds a threshold, %."""

    posh: float = 50.0


@dataclass(frozen=True)
class TwoStageRule:
    """Armed cells, linked in time, labelled at touch-down.

    Args:
        posh: A cell is armed where its largest probability of severe hail exceeds this, %,
        vil: its largest vertically integrated liquid this, kg m-2,
        height: and the height of its largest reflectivity this, m above mean sea level.
        touchdown_depth: It has touched down where that height is at most so far above the lowest level
            that the radar covers there, m, and no longer above `height`.
        cell_dbz, min_pixels: What a cell is; see `find_cells`.
        armed_duration: Seconds that a cell stays armed after it met all three tests last.
        max_gap: Seconds between two volumes beyond which no cell is followed.
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
    """What the two-stage rule looks at, each ``(y, x)`` of one volume.

    Args:
        maximum_reflectivity: dBZ.
        height_of_maximum: m above mean sea level.
        probability_of_severe_hail: %.
        vertically_integrated_liquid: kg m-2.
        lowest_covered: m above mean sea level.
    """

    maximum_reflectivity: Field
    height_of_maximum: Field
    probability_of_severe_hail: Field
    vertically_integrated_liquid: Field
    lowest_covered: Field


@dataclass(frozen=True)
class CellHistory:
    """What became of the cells, each ``(time, y, x)``.

    Args:
        cell: Number that a cell keeps from volume to volume, 0 outside.
        armed: Whether it is armed.
        label: `HAIL`, `NO_HAIL`, or `NOT_COVERED` where the probability of severe hail is not known.
    """

    cell: NDArray[np.int32]
    armed: NDArray[np.bool_]
    label: NDArray[np.int8]


def posh_label(probability_of_severe_hail: Field, rule: PoshRule | None = None) -> NDArray[np.int8]:
    """`HAIL` where the probability exceeds the threshold, `NOT_COVERED` where it is NaN."""
    threshold = (rule or PoshRule()).posh
    return np.where(
        np.isnan(probability_of_severe_hail), NOT_COVERED, probability_of_severe_hail > threshold
    ).astype(np.int8)


def track_cells(
    times: NDArray[np.datetime64], volumes: Sequence[ColumnFields], rule: TwoStageRule | None = None
) -> CellHistory:
    """Cells of a series of volumes by the two-stage rule.

    A cell continues the one with which it shares most ground; where that splits, the part that shares
    most keeps its number. All parts of a split, and what several merge into, are armed if one of them was.

    Args:
        times: ``(time,)``, ascending.
        volumes: As many, on one grid.
        rule: The published thresholds where None.

    Raises:
        InputError: Times that do not ascend.
    """
    rule = rule or TwoStageRule()
    times = np.asarray(times, "datetime64[ns]")
    if (np.diff(times) <= _Seconds(0, "ns")).any():
        raise InputError(
            "volumes are not in the order of their times, or two have the same; sort them, as with "
            "products.sortby('time')"
        )
    states: list[_Volume] = []
    for time, fields in zip(times, volumes, strict=True):
        before = states[-1] if states and time - states[-1].time <= _duration(rule.max_gap) else None
        taken = max((max(state.tracks, default=0) for state in states), default=0)
        states.append(_next_volume(time, fields, rule, before, taken))
    return CellHistory(
        cell=np.stack([_cells_to_grid(state, state.tracks, np.int32) for state in states]),
        armed=np.stack(
            [_cells_to_grid(state, [t is not None for t in state.armed], np.bool_) for state in states]
        ),
        label=np.stack([_label(state, fields) for state, fields in zip(states, volumes, strict=True)]),
    )


@dataclass
class _Volume:
    """The cells of one volume; lists go by cell."""

    time: np.datetime64
    areas: NDArray[np.int32]
    tracks: list[int]
    armed: list[np.datetime64 | None]  # when it met the tests last
    touched_down: list[bool]


def _next_volume(
    time: np.datetime64, fields: ColumnFields, rule: TwoStageRule, before: _Volume | None, taken: int
) -> _Volume:
    areas = find_cells(fields.maximum_reflectivity, threshold_dbz=rule.cell_dbz, min_pixels=rule.min_pixels)
    number = int(areas.max(initial=0))
    tracks, armed = _inherit_tracks(before, areas, number)
    down = [False] * number
    for cell in range(number):
        inside = np.nonzero(areas == cell + 1)
        if tracks[cell] == 0:
            tracks[cell] = taken = taken + 1
        if _meets_criteria(fields, inside, rule):
            armed[cell] = time
        since = armed[cell]
        if since is not None and time - since > _duration(rule.armed_duration):
            armed[cell] = None
        down[cell] = _touched_down(fields, inside, rule)
    return _Volume(time, areas, tracks, armed, down)


def _inherit_tracks(
    before: _Volume | None, areas: NDArray[np.int32], number: int
) -> tuple[list[int], list[np.datetime64 | None]]:
    """Numbers, 0 for a new cell, and times of arming that cells have from those they overlap."""
    tracks, armed = [0] * number, list[np.datetime64 | None]([None] * number)
    if before is None:
        return tracks, armed
    for old, new, _ in overlapping_cells(before.areas, areas):
        track, since = before.tracks[old - 1], before.armed[old - 1]
        if tracks[new - 1] == 0 and track not in tracks:
            tracks[new - 1] = track
        known = armed[new - 1]
        if since is not None and (known is None or since > known):
            armed[new - 1] = since
    return tracks, armed


def _meets_criteria(fields: ColumnFields, inside: tuple[NDArray[np.intp], ...], rule: TwoStageRule) -> bool:
    posh = np.fmax.reduce(fields.probability_of_severe_hail[inside])
    vil = np.fmax.reduce(fields.vertically_integrated_liquid[inside])
    height, _ = _peak(fields, inside)
    return bool(posh > rule.posh and vil > rule.vil and height > rule.height)


def _touched_down(fields: ColumnFields, inside: tuple[NDArray[np.intp], ...], rule: TwoStageRule) -> bool:
    height, lowest = _peak(fields, inside)
    # Far from the radar the lowest beam is high up: what is armed there has not come down.
    return bool(height <= lowest + rule.touchdown_depth and height <= rule.height)


def _peak(fields: ColumnFields, inside: tuple[NDArray[np.intp], ...]) -> tuple[float, float]:
    """Height of a cell's largest reflectivity, and the lowest covered level there."""
    peak = int(np.argmax(fields.maximum_reflectivity[inside]))
    return float(fields.height_of_maximum[inside][peak]), float(fields.lowest_covered[inside][peak])


def _label(state: _Volume, fields: ColumnFields) -> NDArray[np.int8]:
    hit = [since is not None and down for since, down in zip(state.armed, state.touched_down, strict=True)]
    label = _cells_to_grid(state, hit, np.int8)
    return np.where(
        np.isnan(fields.probability_of_severe_hail) & (label == NO_HAIL), np.int8(NOT_COVERED), label
    )


def _cells_to_grid(state: _Volume, values: Sequence[int | bool], kind: type) -> NDArray:
    """A value for each cell, 0 outside."""
    return np.array([0, *values], kind)[state.areas]


def _duration(seconds: float) -> np.timedelta64:
    return _Seconds(round(seconds * 1e9), "ns")
