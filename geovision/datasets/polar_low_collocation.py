"""Pictures for a data set of one's own: tracks of polar lows met with the radar scenes that saw them.

Grahn and Bianchi 2022, arXiv:2203.16401, took candidates that were tracked in a reanalysis, cut the
picture around each out of the scene nearest in time, and said by eye what it shows. The same here:
a track without labels gives pictures to look at, one with labels gives the published layout.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geovision import _atomic_io
from geovision.errors import DatasetError, InputError, OptionError
from geovision.physics.backscatter import DecibelRange
from geovision.readers.sar import MapGrid, RadarScene, check_pixels, model_grid, write_counts
from geovision.readers.sar_png import write_image

__all__ = [
    "LABELS",
    "UNSORTED",
    "Collocation",
    "TrackPoint",
    "collocate",
    "extract_patch",
    "read_tracks",
    "write_samples",
]

LABELS = ("neg", "pos")
UNSORTED = "unsorted"
"""Folder of pictures that nobody has labelled."""

EXTENT = 400.0
"""Side of an image in km, as published."""

_SAMPLES_FILE = "samples.csv"


@dataclass(frozen=True)
class TrackPoint:
    """Where a polar low was, by a track.

    Args:
        time: UTC.
        latitude, longitude: Degrees.
        track: What joins points of one low; empty: a point by itself.
        label: ``"pos"``, ``"neg"``, or empty: nobody has looked.
    """

    time: datetime.datetime
    latitude: float
    longitude: float
    track: str = ""
    label: str = ""


@dataclass(frozen=True)
class Collocation:
    """A scene, and where a track says that the low was when it was taken.

    Args:
        scene: With a time.
        position: The track at that time.
        time_offset: Between the scene and the nearest point of the track.
    """

    scene: RadarScene
    position: TrackPoint
    time_offset: datetime.timedelta


# --- tracks -------------------------------------------------------------------------------------


def read_tracks(path: str | Path) -> list[TrackPoint]:
    """Points of a CSV file with the columns ``time`` (ISO 8601, UTC where it does not say),
    ``latitude``, ``longitude``, and, if wanted, ``track`` and ``label``.

    Raises:
        DatasetError: No such file or column, or a line that cannot be read, with its number.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.DictReader(stream))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); name a CSV file of tracks") from error
    needed = ("time", "latitude", "longitude")
    lacking = [name for name in needed if not lines or name not in lines[0]]
    if lacking:
        raise DatasetError(
            f"{path}: no column {lacking[0]!r}; expected {', '.join(needed)}, and track and label if wanted"
        )
    return [_parse_point(line, f"{path}, line {number}") for number, line in enumerate(lines, 2)]


def _parse_point(line: Mapping[str, str], where: str) -> TrackPoint:
    try:
        time = datetime.datetime.fromisoformat(line["time"].strip())
        latitude, longitude = float(line["latitude"]), float(line["longitude"])
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{where}: {error}") from None
    if not -90 <= latitude <= 90 or not -180 <= longitude <= 360:
        raise DatasetError(
            f"{where}: {latitude} N, {longitude} E is no place; latitude and longitude may "
            "have changed places"
        )
    label = (line.get("label") or "").strip()
    if label not in ("", *LABELS):
        raise DatasetError(f"{where}: label {label!r}; expected {' or '.join(LABELS)}, or none")
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return TrackPoint(time, latitude, (longitude + 180) % 360 - 180, (line.get("track") or "").strip(), label)


def collocate(
    scenes: Sequence[RadarScene], points: Sequence[TrackPoint], *, max_time_offset: datetime.timedelta
) -> Iterator[Collocation]:
    """Every scene with every track that has a point near it in time.

    Between two points of a track the low is taken to move along the great circle, evenly; before the
    first and after the last it stays where it was.

    Args:
        scenes: Scenes with a time.
        points: Points of all tracks.
        max_time_offset: Maximum time between a scene and the nearest point of a track.

    Raises:
        InputError: A scene that does not say when it was taken.
    """
    tracks: dict[str, list[TrackPoint]] = {}
    for number, point in enumerate(points):
        tracks.setdefault(point.track or f"point {number}", []).append(point)
    for scene in scenes:
        if scene.time is None:
            raise InputError(
                f"{scene.path}: does not say when it was taken; give the file a name with a "
                "time such as 20191012T084028, or a tag DATETIME"
            )
        when = scene.time.replace(tzinfo=None)
        for track in tracks.values():
            track = sorted(track, key=lambda point: point.time)
            apart = min(abs(point.time - when) for point in track)
            if apart <= max_time_offset:
                yield Collocation(scene, _interpolate_track(track, when), apart)


def _interpolate_track(track: Sequence[TrackPoint], when: datetime.datetime) -> TrackPoint:
    """Where the low of a track, in order of time, was."""
    after = next((i for i, point in enumerate(track) if point.time >= when), None)
    if after is None or after == 0 or track[after].time == when:
        return track[-1 if after is None else after]
    before, then = track[after - 1], track[after]
    share = (when - before.time) / (then.time - before.time)
    a, b = _unit_vector(before), _unit_vector(then)
    angle = math.acos(float(np.clip(a @ b, -1, 1)))
    if angle < 1e-9:
        return before
    x, y, z = (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)
    nearer = before if share < 0.5 else then
    return TrackPoint(
        when,
        math.degrees(math.asin(max(-1.0, min(1.0, z)))),
        math.degrees(math.atan2(y, x)),
        nearer.track,
        nearer.label,
    )


def _unit_vector(point: TrackPoint) -> np.ndarray:
    """From the middle of the Earth."""
    latitude, longitude = math.radians(point.latitude), math.radians(point.longitude)
    outward = math.cos(latitude)
    return np.array([outward * math.cos(longitude), outward * math.sin(longitude), math.sin(latitude)])


# --- pictures -----------------------------------------------------------------------------------


def extract_patch(
    scene: RadarScene,
    center: TrackPoint,
    db_range: Mapping[str, DecibelRange] | None,
    *,
    pixel_size: float = 500.0,
    extent: float = EXTENT,
    crs: str | None = None,
) -> np.ndarray:
    """The picture around a place, as a model takes it.

    Args:
        scene: With the channels ``("cross_pol", "co_pol")``.
        center: Middle of the picture.
        db_range: See `geovision.readers.sar.write_counts`.
        pixel_size: Side of a pixel, in m.
        extent: Side of the image, in km.
        crs: See `geovision.readers.sar.model_grid`.

    Returns:
        uint8 ``(2, y, x)``, 0 where the scene has no data or does not reach.
    """
    grid = _patch_grid(scene, center, pixel_size, extent, crs)
    with tempfile.TemporaryDirectory() as folder:
        raster = write_counts(scene, grid, db_range, Path(folder) / "counts.tif")
        return raster.read(0, 0, grid.shape)[0]


def _patch_grid(
    scene: RadarScene, place: TrackPoint, pixel_size: float, extent: float, crs: str | None
) -> MapGrid:
    """Square cells around a place, in the projection that a whole scene is brought to."""
    whole = model_grid(scene.grid, pixel_size, crs, where=scene.path)
    (x,), (y,) = MapGrid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1, 1)).points(
        np.array([place.latitude]), np.array([place.longitude]), whole.crs
    )
    side = round(1000 * extent / pixel_size)
    left = (round((x - whole.transform[2]) / pixel_size) - side // 2) * pixel_size + whole.transform[2]
    top = (round((y - whole.transform[5]) / pixel_size) + side // 2) * pixel_size + whole.transform[5]
    return MapGrid(whole.crs, (pixel_size, 0.0, left, 0.0, -pixel_size, top), (side, side))


def write_samples(
    collocations: Sequence[Collocation],
    out: str | Path,
    db_range: Mapping[str, DecibelRange] | None,
    *,
    split: str = "train",
    pixel_size: float = 500.0,
    extent: float = EXTENT,
    min_valid: float = 0.3,
    crs: str | None = None,
) -> list[dict[str, str]]:
    """Write a picture of each meeting in the layout of `geovision.datasets.polar_lows`.

    Labelled ones go to ``OUT/train/pos`` and ``neg``, the others to ``OUT/unsorted``, from where they
    are moved by hand. ``OUT/samples.csv`` says of each where it comes from; what another run wrote
    stays in it.

    Args:
        collocations: See `collocate`.
        db_range: Decibels of the counts 1 and 255, see `extract_patch`.
        split: ``"train"`` or ``"test"``.
        pixel_size: Side of a pixel, in m.
        extent: Side of an image, in km.
        min_valid: Minimum fraction of valid pixels; other images are not written.

    Returns:
        The lines of ``samples.csv`` that this run wrote.

    Raises:
        OptionError: No such split, or a missing `db_range`.
        InputError: A scene that is coarser than the pictures, or damaged.
        StorageError: They could not be written; what stood there stays.
    """
    if split not in ("train", "test"):
        raise OptionError(f"split {split!r} is not known; choose train or test")
    out, lines = Path(out), _read_record(Path(out) / _SAMPLES_FILE)
    new: list[dict[str, str]] = []
    for meeting in collocations:
        check_pixels(meeting.scene, pixel_size)
        counts = extract_patch(
            meeting.scene, meeting.position, db_range, pixel_size=pixel_size, extent=extent, crs=crs
        )
        seen = float((counts[0] > 0).mean())
        if seen < min_valid:
            continue
        folder = Path(split) / meeting.position.label if meeting.position.label else Path(UNSORTED)
        picture = folder / _filename(meeting)
        write_image(out / picture, counts, pixel_size)
        new.append(_record_row(meeting, picture, seen, db_range))
        lines[picture.name] = new[-1]
        _write_record(out / _SAMPLES_FILE, lines)
    return new


def _filename(meeting: Collocation) -> str:
    assert meeting.scene.time is not None
    place = (
        f"{meeting.position.latitude:.4f} {meeting.position.longitude:.4f} {Path(meeting.scene.path).name}"
    )
    code = hashlib.sha256(place.encode()).hexdigest()[:6]
    time = f"{meeting.scene.time:%Y%m%dT%H%M%S}"
    return f"{code}_{time}_{time}_mos_rgb.png"


def _record_row(
    meeting: Collocation, picture: Path, seen: float, db_range: Mapping[str, DecibelRange] | None
) -> dict[str, str]:
    place = meeting.position
    return {
        "picture": picture.name,
        "folder": picture.parent.as_posix(),
        "scene": Path(meeting.scene.path).name,
        "latitude": f"{place.latitude:.4f}",
        "longitude": f"{place.longitude:.4f}",
        "track": place.track,
        "minutes_apart": f"{meeting.time_offset.total_seconds() / 60:.0f}",
        "with_data": f"{seen:.3f}",
        "quantity": meeting.scene.quantity,
        "db_range": " ".join(f"{name}={own.low:g}:{own.high:g}" for name, own in (db_range or {}).items()),
    }


def _read_record(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {line["picture"]: line for line in csv.DictReader(stream)}


def _write_record(path: Path, lines: Mapping[str, dict[str, str]]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, next(iter(lines.values())), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines.values())

    _atomic_io.write_files(path.parent, {path.name: write})
