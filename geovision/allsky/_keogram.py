"""Keograms: one slice of each frame, arranged over time."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geovision import _atomic_io
from geovision.allsky.frames import FLAGS, FrameConfig, read_frames
from geovision.allsky.plot import plot_keogram
from geovision.errors import InputError, OptionError
from geovision.inference.inventory import ArchiveSource, list_archive_files
from geovision.inference.shards import ShardPlan
from geovision.inference.table import ArchiveTable, read_table
from geovision.physics.magnetic import dipole_bearing
from geovision.readers.allsky import Frame

__all__ = ["MAX_FRAMES", "FrameSelection", "Keogram", "Meridian", "keogram"]

MAX_FRAMES = 50_000
"""Maximum number of frames of a keogram, which is held in memory: more than a day at a 3 s cadence."""

DEFAULT_NUM_SAMPLES = 256
"""Default number of samples along a slice."""


@dataclass(frozen=True)
class Meridian:
    """Direction of the slice, which passes through the center of the sky.

    Args:
        north: Direction of geographic north in the frames, in degrees clockwise from the top. Default: None,
            not known; the slice is then the middle column, from top to bottom.
        kind: ``"geographic"``, or ``"magnetic"`` for the direction to the pole of a centered dipole, which is
            an approximation. Default: ``"geographic"``.
        east: Side of east when north is at the top: ``"left"``, as the sky is seen from below, or
            ``"right"``. Default: ``"left"``.
    """

    north: float | None = None
    kind: Literal["geographic", "magnetic"] = "geographic"
    east: Literal["left", "right"] = "left"

    def angle(self, site: tuple[float, float] | None, year: float) -> float:
        """Return the direction of the northern end of the slice.

        The direction is in degrees clockwise from the top of the frame.

        Args:
            site: (latitude, longitude) of the camera, in degrees; None if not known.
            year: Year of the frame, for the position of the magnetic pole.

        Raises:
            OptionError: If a magnetic meridian has no site or no direction of north.
        """
        if self.kind == "geographic":
            return self.north or 0.0
        if self.north is None or site is None:
            raise OptionError("a magnetic meridian requires the site and the direction of north; set both")
        bearing = dipole_bearing(*site, year)
        return self.north + (bearing if self.east == "right" else -bearing)

    def end_labels(self) -> tuple[str, str]:
        """Return the names of the first and last sample."""
        if self.north is None:
            return "top", "bottom"
        return ("magnetic N", "magnetic S") if self.kind == "magnetic" else ("N", "S")


@dataclass(frozen=True)
class FrameSelection:
    """Selection of the frames of an archive; by default, all frames.

    Args:
        station: Station code. Default: any.
        device: Device code. Default: any.
        begin: Start time, UTC. Default: no limit.
        end: End time, UTC, not included. Default: no limit.
    """

    station: str | None = None
    device: str | None = None
    begin: datetime.datetime | None = None
    end: datetime.datetime | None = None

    def matches(self, frame: Frame) -> bool:
        """Return whether a frame is selected.

        A frame without a time is never selected.

        Args:
            frame: Frame with its metadata.
        """
        return (
            frame.time is not None
            and self.station in (None, frame.station)
            and self.device in (None, frame.device)
            and (self.begin is None or frame.time >= self.begin)
            and (self.end is None or frame.time < self.end)
        )

    def to_filter(self, *, readable_only: bool = True) -> Any:
        """Return the selection as an expression of `pyarrow.dataset`.

        The result is None if all rows are selected.

        Args:
            readable_only: Whether to select only readable rows with a time. Default: True.
        """
        from pyarrow.dataset import field as column

        parts = [column("time").is_valid(), ~column("unreadable")] if readable_only else []
        for name, value in (("station", self.station), ("device", self.device)):
            parts += [] if value is None else [column(name) == value]
        parts += [] if self.begin is None else [column("time") >= self.begin]
        parts += [] if self.end is None else [column("time") < self.end]
        return functools.reduce(operator.and_, parts) if parts else None


@dataclass(frozen=True)
class Keogram:
    """Slices of the frames of one camera in the order of time.

    Attributes:
        times: Times of the frames, datetime64 in UTC, shape (frame,).
        slices: Pixel values as given to a model, uint8, shape (frame, sample, 3), starting at the northern or
            upper end.
        rows: Metadata of each frame: ``path``, ``frame`` and, from a table, its columns.
        classes: Class names in the order of the table; empty without a table.
        camera: Station and device.
        end_labels: Names of the first and the last sample.
        missing: Reason by path, for each file that could not be read.
    """

    times: np.ndarray
    slices: np.ndarray
    rows: list[Mapping[str, Any]]
    classes: tuple[str, ...]
    camera: str
    end_labels: tuple[str, str]
    missing: dict[str, str] = field(default_factory=dict)

    def save(self, prefix: str | Path, *, caption: str = "") -> tuple[Path, Path]:
        """Write ``PREFIX.png`` and ``PREFIX.csv``, both or neither.

        The CSV file has one row per frame: time, file, class, probabilities, flags, and the brightness along
        the slice (``s000`` …, 0-255, mean of the colors).

        Args:
            prefix: Path without extension.
            caption: Text below the figure. Default: none.

        Returns:
            Paths of the figure and of the CSV file.

        Raises:
            StorageError: If the files cannot be written.
            MissingExtraError: If matplotlib is not installed.
        """
        prefix = Path(prefix)
        png, table = (prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("png", "csv"))
        figure = plot_keogram(self, caption=caption)
        save = functools.partial(figure.savefig, format="png", dpi=130)
        _atomic_io.write_files(png.parent, {png.name: save, table.name: self._write_csv})
        return png, table

    def _write_csv(self, path: Path) -> None:
        known = [name for name in self.rows[0] if name not in FLAGS and name != "time"]
        samples = [f"s{number:03}" for number in range(self.slices.shape[1])]
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["time", *known, "flags", *samples])
            for time, row, own in zip(self.times, self.rows, self.slices, strict=True):
                flags = " ".join(name for name in FLAGS if row.get(name))
                values = [_format_cell(row[name]) for name in known]
                brightness = own.mean(axis=1).round().astype(int).tolist()
                writer.writerow([f"{time}Z", *values, flags, *brightness])


def keogram(
    source: ArchiveSource,
    *,
    selection: FrameSelection | None = None,
    frame_config: FrameConfig | None = None,
    meridian: Meridian | None = None,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    progress: Callable[[int, int], None] | None = None,
) -> Keogram:
    """Compute the keogram of one camera.

    The keogram contains predictions if `source` is a table.

    Args:
        source: Folder of a table that `predict_archive` wrote, whose frame files have not moved; or frames,
            as for `predict_archive`.
        selection: Selection of frames, all of one camera. Default: all frames.
        frame_config: Configuration of how frames are read. For a table, only its sites are used; the other
            settings are those of the table.
        meridian: Direction of the slice. Default: the middle column.
        num_samples: Number of samples along the slice. Default: 256.
        progress: Function that is called with the number of finished files and the number of all files.

    Returns:
        Slices, times and metadata of the frames.

    Raises:
        InputError: If no frame matches the selection or can be read.
        OptionError: If the frames are of several cameras, or if there are too many.
    """
    selection, meridian = selection or FrameSelection(), meridian or Meridian()
    frame_config = frame_config or FrameConfig()
    classes: tuple[str, ...] = ()
    if isinstance(source, str | Path) and ArchiveTable(Path(source)).exists():
        manifest = ArchiveTable(Path(source)).read_manifest()
        stored = FrameConfig.from_dict(manifest["reading"])
        frame_config = dataclasses.replace(stored, sites={**stored.sites, **frame_config.sites})
        classes = tuple(manifest["classes"])
        wanted: Iterable[tuple[str, _RowsByFrame]] = _files_of_table(source, selection)
    else:
        wanted = _files_of_source(source)
    collected = _KeogramBuilder(frame_config, meridian, num_samples)
    files = list(wanted)
    for number, (path, rows) in enumerate(files, 1):
        collected.add(path, rows, selection)
        if progress:
            progress(number, len(files))
    return collected.build(classes)


_RowsByFrame = Mapping[int, Mapping[str, Any]] | None
"""Table rows of the frames of one file, by frame position; None without a table."""


def _files_of_table(folder: str | Path, selection: FrameSelection) -> list[tuple[str, _RowsByFrame]]:
    table = read_table(folder, where=selection.to_filter())
    if not table.num_rows:
        raise InputError(f"{folder}: no readable frame matches the selection; choose another station or time")
    if table.num_rows > MAX_FRAMES:
        raise _too_many_frames_error(table.num_rows)
    files: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in table.drop_columns(["error", "date"]).to_pylist():
        files.setdefault(row["path"], {})[row["frame"]] = row
    return list(files.items())


def _files_of_source(source: ArchiveSource) -> Iterator[tuple[str, _RowsByFrame]]:
    with closing(ShardPlan(list_archive_files(source), ())) as plan:
        for shard in plan.shards(1):
            yield shard.files[0].path, None


class _KeogramBuilder:
    """Accumulator of slices, file by file."""

    def __init__(self, frame_config: FrameConfig, meridian: Meridian, num_samples: int) -> None:
        self._frame_config, self._meridian, self._num_samples = frame_config, meridian, num_samples
        self._times: list[np.datetime64] = []
        self._slices: list[np.ndarray] = []
        self._rows: list[Mapping[str, Any]] = []
        self._cameras: set[tuple[str, str]] = set()
        self._missing: dict[str, str] = {}

    def add(self, path: str, rows: _RowsByFrame, selection: FrameSelection) -> None:
        try:
            for frame in read_frames(path, self._frame_config.pattern):
                known = {"path": path, "frame": frame.index} if rows is None else rows.get(frame.index)
                if known is not None and selection.matches(frame):
                    self._add_frame(frame, known)
        except InputError as error:
            self._missing[path] = str(error)

    def _add_frame(self, frame: Frame, row: Mapping[str, Any]) -> None:
        assert frame.time is not None
        self._cameras.add((frame.station or "", frame.device or ""))
        if len(self._cameras) > 1:
            names = ", ".join(" ".join(camera).strip() or "unknown" for camera in sorted(self._cameras))
            raise OptionError(
                f"frames of several cameras ({names}); a keogram shows one. Select the station and device"
            )
        if len(self._times) == MAX_FRAMES:
            raise _too_many_frames_error(MAX_FRAMES + 1)
        # Gray frames are drawn without the declaration that predictions with a color model require.
        config = dataclasses.replace(self._frame_config, channels="grey" if frame.pixels.ndim == 2 else None)
        angle = self._meridian.angle(self._site(frame), frame.time.year)
        self._slices.append(_extract_slice(frame, config, angle, self._num_samples))
        self._times.append(np.datetime64(frame.time.replace(tzinfo=None), "us"))
        self._rows.append(row)

    def _site(self, frame: Frame) -> tuple[float, float] | None:
        if frame.latitude is not None and frame.longitude is not None:
            return frame.latitude, frame.longitude
        return self._frame_config.sites.get(frame.station or "", self._frame_config.sites.get(""))

    def build(self, classes: tuple[str, ...]) -> Keogram:
        if not self._times:
            reason = next(
                iter(self._missing.values()),
                "no frame with a time matches the selection; change the selection",
            )
            raise InputError(f"nothing to draw: {reason}")
        times = np.array(self._times)
        order = np.argsort(times, kind="stable")
        (camera,) = self._cameras
        return Keogram(
            times[order],
            np.stack(self._slices)[order],
            [self._rows[place] for place in order],
            classes,
            " ".join(camera).strip(),
            self._meridian.end_labels(),
            self._missing,
        )


def _extract_slice(frame: Frame, frame_config: FrameConfig, angle: float, samples: int) -> np.ndarray:
    """Return interpolated values (sample, 3) along the slice.

    The slice passes through the center of the sky; the interpolation is bilinear.
    """
    image, _ = frame_config.image(frame)
    height, width = image.shape[:2]
    circle = frame_config.lookup(frame_config.circles, frame)
    x, y, radius = (
        ((width - 1) / 2, (height - 1) / 2, (min(width, height) - 1) / 2)
        if circle is None
        else (circle.x, circle.y, circle.radius)
    )
    along = np.linspace(radius, -radius, samples)
    columns = x + along * np.sin(np.radians(angle))
    rows = y - along * np.cos(np.radians(angle))
    inside = (columns >= 0) & (rows >= 0) & (columns <= width - 1) & (rows <= height - 1)
    left = np.clip(columns.astype(int), 0, max(width - 2, 0))
    upper = np.clip(rows.astype(int), 0, max(height - 2, 0))
    right, down = (columns - left)[:, None], (rows - upper)[:, None]
    above = image[upper, left] * (1 - right) + image[upper, left + 1] * right
    below = image[upper + 1, left] * (1 - right) + image[upper + 1, left + 1] * right
    values = above * (1 - down) + below * down
    return np.where(inside[:, None], values.round(), 0).clip(0, 255).astype(np.uint8)


def _too_many_frames_error(number: int) -> OptionError:
    return OptionError(
        f"at least {number:,} frames; a keogram has at most {MAX_FRAMES:,}. "
        "Select a date, or a begin and an end"
    )


def _format_cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
