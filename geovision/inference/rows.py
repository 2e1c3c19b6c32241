"""From one file of frames to rows of a table: what a model says, and what speaks against it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from geovision.errors import GeovisionError, InputError, MissingExtraError
from geovision.models.geomodel import GeoModel
from geovision.models.prepared import Prepared, prepare
from geovision.physics.sun_moon import moon_elevation, sun_elevation
from geovision.readers.allsky import Circle, Frame, Stretch, circle_mask, clock_jumps, frames, to_rgb
from geovision.spec import ClassTarget

__all__ = ["FLAGS", "Reading", "Row", "rows_of_file"]

Row = dict[str, Any]

FLAGS = (
    "unreadable",
    "damaged_file",
    "outside_domain",
    "dark",
    "saturated",
    "twilight",
    "moon_up",
    "clock_jump",
)
"""Columns that are true where a row should not be relied on; empty where it cannot be known."""

TWILIGHT = -12.0
"""Degrees: above this elevation the sun lights a clear sky enough to be seen by these cameras."""

SATURATED = 0.02
"""Share of the lit pixels at full scale from which a frame counts as saturated."""

DARK = 3
"""Of 255: a frame whose 99th percentile lies below shows nothing."""


@dataclass(frozen=True)
class Reading:
    """How the frames of an archive are read; the same for all of them.

    Args:
        pattern: Where file names hold time and station; see `geovision.readers.allsky.NamePattern`.
        channels: ``"grey"`` declares that grey frames are given to a model of colour pictures.
        stretches: Counts to brightness, by camera, by station, or ``""`` for all.
        circles: The lit disk, by camera, by station, or ``""``; outside of it a frame is black.
        sites: Latitude and longitude by station, or ``""``, where the files do not say.
    """

    pattern: str | None = None
    channels: str | None = None
    stretches: Mapping[str, Stretch] = field(default_factory=dict)
    circles: Mapping[str, Circle] = field(default_factory=dict)
    sites: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def of(self, table: Mapping[str, Any], frame: Frame) -> Any:
        """The entry that holds for a frame: its camera's, its station's, or that of all."""
        for name in (frame.device, frame.station, ""):
            if name is not None and name in table:
                return table[name]
        return None


def rows_of_file(
    model: GeoModel, path: str, reading: Reading, *, batch_size: int = 64, precision: str = "auto"
) -> list[Row]:
    """A row for each frame of a file, in its order, and one more where the file breaks off.

    Args:
        model: Of one class out of several.
        path: Local, or an address that fsspec knows.
    """
    target = model.target
    assert isinstance(target, ClassTarget)
    prepared = prepare(model, precision)
    rows: list[Row] = []
    error = ""
    taken = _frames(path, reading)
    while True:
        batch: list[Frame] = []
        try:
            # One by one, so that the frames before a break are kept.
            for frame in itertools.islice(taken, batch_size):
                batch.append(frame)  # noqa: PERF402 (extend would lose them)
        except GeovisionError as broken:
            if isinstance(broken, MissingExtraError):
                raise
            error = str(broken)
        rows += _answer(prepared, target, batch, reading)
        if error or len(batch) < batch_size:
            break
    _mark_time(rows, reading)
    if error:
        rows.append(_blank(path, len(rows), target, error))
        for row in rows:
            row["damaged_file"] = True
    return rows


def _frames(path: str, reading: Reading) -> Iterator[Frame]:
    if "://" not in path:
        yield from frames(path, pattern=reading.pattern)
        return
    import fsspec

    try:
        with fsspec.open(path, "rb") as stream:
            yield from frames(stream, pattern=reading.pattern, name=path)
    except OSError as error:
        raise InputError(f"{path}: could not be read ({error})") from error


# --- what the model says ------------------------------------------------------------------------


def _answer(prepared: Prepared, target: Any, batch: list[Frame], reading: Reading) -> list[Row]:
    rows = [_plain(frame, target) for frame in batch]
    groups: dict[tuple[int, ...], list[tuple[Row, np.ndarray, bool]]] = {}
    for row, frame in zip(rows, batch, strict=True):
        try:
            picture = _picture(frame, reading, row)
        except InputError as error:
            row["error"], row["unreadable"] = str(error), True
            continue
        groups.setdefault(picture.shape, []).append((row, picture, frame.pixels.ndim == 2))
    for group in groups.values():
        pictures = torch.from_numpy(np.stack([picture for _, picture, _ in group]))
        values, features = prepared({prepared.specs[0].name: _resized(pictures, prepared.specs[0].size)}, {})
        probabilities = prepared.head.probabilities(values)
        scores = prepared.head.outlier(features) if prepared.head.outlier.fitted else None
        for number, (row, _, grey) in enumerate(group):
            _fill(row, target, probabilities[number], grey)
            row["outlier_score"] = None if scores is None else float(scores[number])
            row["outside_domain"] = grey or bool(row["outlier_score"] and row["outlier_score"] > 1)
    return rows


def _resized(pictures: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
    if size is None or tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True)


def _fill(row: Row, target: ClassTarget, probabilities: torch.Tensor, grey: bool) -> None:
    """Label and probabilities; a grey frame is never of a class that is told by its colour."""
    if grey and target.told_by_colour:
        colours = [target.classes.index(name) for name in target.told_by_colour]
        probabilities = probabilities.clone()
        probabilities[colours] = 0
        probabilities = probabilities / probabilities.sum()
    values = probabilities.tolist()
    best = max(range(len(values)), key=values.__getitem__)
    row["label"], row["confidence"] = target.classes[best], values[best]
    row |= {f"p_{name}": value for name, value in zip(target.classes, values, strict=True)}


def _picture(frame: Frame, reading: Reading, row: Row) -> np.ndarray:
    """Counts ``(3, y, x)``, black outside the circle; what they show of exposure goes into the row."""
    picture = to_rgb(frame, reading.of(reading.stretches, frame), reading.channels)  # type: ignore[arg-type]
    circle = reading.of(reading.circles, frame)
    lit = np.ones(picture.shape[1:], bool) if circle is None else circle_mask(picture.shape[1:], circle)
    if circle is not None:
        picture = np.where(lit, picture, 0).astype(np.uint8)
    if not lit.any():
        raise InputError(f"{frame.path}: the circle lies outside the frame of {picture.shape[1:]} pixels")
    row["dark"] = bool(np.percentile(picture.max(0)[lit], 99) < DARK)
    full = np.iinfo(frame.pixels.dtype).max if frame.pixels.dtype.kind == "u" else np.inf
    counts = frame.pixels if frame.pixels.ndim == 2 else frame.pixels.max(2)
    row["saturated"] = bool((counts[lit] >= full).mean() >= SATURATED)
    return picture


# --- what is known about a frame ----------------------------------------------------------------


def _blank(path: str, frame: int, target: ClassTarget, error: str = "") -> Row:
    row: Row = {
        "time": None, "station": None, "device": None, "path": path, "frame": frame, "exposure": None,
        "label": None, "confidence": None,
    }  # fmt: skip
    row |= {f"p_{name}": None for name in target.classes}
    row |= {"outlier_score": None, "sun_elevation": None, "moon_elevation": None}
    row |= dict.fromkeys(FLAGS)
    return row | {"unreadable": bool(error), "damaged_file": False, "error": error or None, "place": None}


def _plain(frame: Frame, target: ClassTarget) -> Row:
    row = _blank(frame.path, frame.index, target)
    time = frame.time.replace(tzinfo=None) if frame.time else None
    place = None if frame.latitude is None or frame.longitude is None else (frame.latitude, frame.longitude)
    return row | {
        "time": time, "station": frame.station, "device": frame.device, "exposure": frame.exposure,
        "place": place,
    }  # fmt: skip


def _mark_time(rows: list[Row], reading: Reading) -> None:
    """Flags that depend on when and where: sun, moon, and a clock that jumped."""
    cameras: dict[Any, list[Row]] = {}
    for row in rows:
        cameras.setdefault((row["station"], row["device"]), []).append(row)
    for own in cameras.values():
        for row, jump in zip(own, clock_jumps([row["time"] for row in own]), strict=True):
            row["clock_jump"] = bool(jump)
    places: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        place = row["place"] or reading.sites.get(row["station"] or "", reading.sites.get(""))
        if place is not None:
            places.setdefault(place, []).append(row)
    for (latitude, longitude), own in places.items():
        times = np.array([row["time"] for row in own], dtype="datetime64[us]")
        try:
            sun, moon = (f(times, latitude, longitude) for f in (sun_elevation, moon_elevation))
        except MissingExtraError:
            return
        for row, high, moon_high in zip(own, sun, moon, strict=True):
            if not np.isnan(high):
                row |= {"sun_elevation": float(high), "twilight": bool(high > TWILIGHT),
                        "moon_elevation": float(moon_high), "moon_up": bool(moon_high > 0)}  # fmt: skip
