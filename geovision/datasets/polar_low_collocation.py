"""Collocation of polar low tracks with radar scenes, to build your own dataset of images.

Grahn and Bianchi 2022, arXiv:2203.16401, took candidates that were tracked in a reanalysis. They cut an image
around each candidate out of the scene nearest in time and labeled it by visual inspection. This module does
the same. A track without labels yields images to inspect; a track with labels yields the published layout.
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
"""Labels of images without and with a polar low."""
UNSORTED = "unsorted"
"""Folder of images without a label."""

EXTENT = 400.0
"""Side of an image, in km, as published."""

_SAMPLES_FILE = "samples.csv"


@dataclass(frozen=True)
class TrackPoint:
    """Position of a polar low on a track.

    Args:
        time: Time, UTC.
        latitude: Latitude, in degrees.
        longitude: Longitude, in degrees.
        track: Name of the track, common to the points of one low. Default: "", a single point.
        label: ``"pos"``, ``"neg"``, or "" without label. Default: "".
    """

    time: datetime.datetime
    latitude: float
    longitude: float
    track: str = ""
    label: str = ""


@dataclass(frozen=True)
class Collocation:
    """A radar scene and the position of a low at the time of the scene.

    Args:
        scene: Radar scene with a time.
        position: Position on the track at that time.
        time_offset: Time between the scene and the nearest point of the track.
    """

    scene: RadarScene
    position: TrackPoint
    time_offset: datetime.timedelta


# --- tracks -------------------------------------------------------------------------------------


def read_tracks(path: str | Path) -> list[TrackPoint]:
    """Read the points of all tracks from a CSV file.

    The columns are ``time`` (ISO 8601, UTC unless it contains an offset), ``latitude``, ``longitude``, and
    optionally ``track`` and ``label``.

    Args:
        path: CSV file.

    Raises:
        DatasetError: The file or a column is missing, or a line cannot be read. The message contains its
            number.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.DictReader(stream))
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}); pass a CSV file of tracks") from error
    needed = ("time", "latitude", "longitude")
    lacking = [name for name in needed if not lines or name not in lines[0]]
    if lacking:
        raise DatasetError(
            f"{path}: no column {lacking[0]!r}; expected {', '.join(needed)} and, optionally, track and label"
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
            f"{where}: {latitude} N, {longitude} E is not a valid position; latitude and longitude may "
            "be swapped"
        )
    label = (line.get("label") or "").strip()
    if label not in ("", *LABELS):
        raise DatasetError(f"{where}: label {label!r}; expected {' or '.join(LABELS)}, or an empty cell")
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return TrackPoint(time, latitude, (longitude + 180) % 360 - 180, (line.get("track") or "").strip(), label)


def collocate(
    scenes: Sequence[RadarScene], points: Sequence[TrackPoint], *, max_time_offset: datetime.timedelta
) -> Iterator[Collocation]:
    """Yield every scene with every track that has a point close to it in time.

    Between two points of a track, the low is assumed to move along the great circle at constant speed. Before
    the first and after the last point it keeps its position.

    Args:
        scenes: Scenes with a time.
        points: Points of all tracks.
        max_time_offset: Largest time between a scene and the nearest point of a track.

    Raises:
        InputError: A scene has no time.
    """
    tracks: dict[str, list[TrackPoint]] = {}
    for number, point in enumerate(points):
        tracks.setdefault(point.track or f"point {number}", []).append(point)
    for scene in scenes:
        if scene.time is None:
            raise InputError(
                f"{scene.path} has no time; rename the file to contain a time such as 20191012T084028, or "
                "add a tag DATETIME"
            )
        when = scene.time.replace(tzinfo=None)
        for track in tracks.values():
            track = sorted(track, key=lambda point: point.time)
            offset = min(abs(point.time - when) for point in track)
            if offset <= max_time_offset:
                yield Collocation(scene, _interpolate_track(track, when), offset)


def _interpolate_track(track: Sequence[TrackPoint], when: datetime.datetime) -> TrackPoint:
    """Interpolate a time-ordered track to a time."""
    after = next((i for i, point in enumerate(track) if point.time >= when), None)
    if after is None or after == 0 or track[after].time == when:
        return track[-1 if after is None else after]
    first, second = track[after - 1], track[after]
    fraction = (when - first.time) / (second.time - first.time)
    a, b = _unit_vector(first), _unit_vector(second)
    angle = math.acos(float(np.clip(a @ b, -1, 1)))
    if angle < 1e-9:
        return first
    x, y, z = (math.sin((1 - fraction) * angle) * a + math.sin(fraction * angle) * b) / math.sin(angle)
    nearer = first if fraction < 0.5 else second
    return TrackPoint(
        when,
        math.degrees(math.asin(max(-1.0, min(1.0, z)))),
        math.degrees(math.atan2(y, x)),
        nearer.track,
        nearer.label,
    )


def _unit_vector(point: TrackPoint) -> np.ndarray:
    """Return the unit vector from the center of the Earth to a point."""
    latitude, longitude = math.radians(point.latitude), math.radians(point.longitude)
    outward = math.cos(latitude)
    return np.array([outward * math.cos(longitude), outward * math.sin(longitude), math.sin(latitude)])


# --- images -------------------------------------------------------------------------------------


def extract_patch(
    scene: RadarScene,
    center: TrackPoint,
    db_range: Mapping[str, DecibelRange] | None,
    *,
    pixel_size: float = 500.0,
    extent: float = EXTENT,
    crs: str | None = None,
) -> np.ndarray:
    """Return the image around a position, in the form of a model input.

    Args:
        scene: Radar scene with the channels ``("cross_pol", "co_pol")``.
        center: Center of the image.
        db_range: Decibel range by channel, see `geovision.readers.sar.write_counts`.
        pixel_size: Side of a pixel, in m. Default: 500.
        extent: Side of the image, in km. Default: 400.
        crs: Map projection, see `geovision.readers.sar.model_grid`. Default: None.

    Returns:
        Counts, uint8, shape ``(2, y, x)``, 0 where the scene has no data.
    """
    grid = _patch_grid(scene, center, pixel_size, extent, crs)
    with tempfile.TemporaryDirectory() as folder:
        raster = write_counts(scene, grid, db_range, Path(folder) / "counts.tif")
        return raster.read(0, 0, grid.shape)[0]


def _patch_grid(
    scene: RadarScene, place: TrackPoint, pixel_size: float, extent: float, crs: str | None
) -> MapGrid:
    """Return square cells around a position, in the projection used for whole scenes."""
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
    """Write an image of each collocation in the layout of `geovision.datasets.polar_lows`.

    Labeled images are written to ``OUT/train/pos`` and ``OUT/train/neg``, or below ``test``. The others are
    written to ``OUT/unsorted``, from where they are moved by hand. ``OUT/samples.csv`` records the origin of
    each image; lines of earlier runs are kept.

    Args:
        collocations: Collocations, see `collocate`.
        out: Folder to write to.
        db_range: Decibels of the counts 1 and 255 by channel, see `extract_patch`.
        split: ``"train"`` or ``"test"``. Default: "train".
        pixel_size: Side of a pixel, in m. Default: 500.
        extent: Side of an image, in km. Default: 400.
        min_valid: Smallest fraction of valid pixels; images below it are not written. Default: 0.3.
        crs: Map projection, see `extract_patch`. Default: None.

    Returns:
        Lines of ``samples.csv`` that this call wrote.

    Raises:
        OptionError: There is no such split, or `db_range` is missing.
        InputError: A scene is coarser than the images, or damaged.
        StorageError: A file could not be written; existing files are unchanged.
    """
    if split not in ("train", "test"):
        raise OptionError(f"split {split!r} is not known; choose train or test")
    out, lines = Path(out), _read_record(Path(out) / _SAMPLES_FILE)
    new: list[dict[str, str]] = []
    for collocation in collocations:
        position = collocation.position
        check_pixels(collocation.scene, pixel_size)
        counts = extract_patch(
            collocation.scene, position, db_range, pixel_size=pixel_size, extent=extent, crs=crs
        )
        valid_fraction = float((counts[0] > 0).mean())
        if valid_fraction < min_valid:
            continue
        folder = Path(split) / position.label if position.label else Path(UNSORTED)
        image = folder / _filename(collocation)
        write_image(out / image, counts, pixel_size)
        new.append(_record_row(collocation, image, valid_fraction, db_range))
        lines[image.name] = new[-1]
        _write_record(out / _SAMPLES_FILE, lines)
    return new


def _filename(collocation: Collocation) -> str:
    scene, position = collocation.scene, collocation.position
    assert scene.time is not None
    origin = f"{position.latitude:.4f} {position.longitude:.4f} {Path(scene.path).name}"
    code = hashlib.sha256(origin.encode()).hexdigest()[:6]
    time = f"{scene.time:%Y%m%dT%H%M%S}"
    return f"{code}_{time}_{time}_mos_rgb.png"


def _record_row(
    collocation: Collocation,
    image: Path,
    valid_fraction: float,
    db_range: Mapping[str, DecibelRange] | None,
) -> dict[str, str]:
    position = collocation.position
    return {
        "picture": image.name,
        "folder": image.parent.as_posix(),
        "scene": Path(collocation.scene.path).name,
        "latitude": f"{position.latitude:.4f}",
        "longitude": f"{position.longitude:.4f}",
        "track": position.track,
        "minutes_apart": f"{collocation.time_offset.total_seconds() / 60:.0f}",
        "with_data": f"{valid_fraction:.3f}",
        "quantity": collocation.scene.quantity,
        "db_range": " ".join(
            f"{name}={limits.low:g}:{limits.high:g}" for name, limits in (db_range or {}).items()
        ),
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
