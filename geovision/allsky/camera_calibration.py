"""Estimation of brightness stretches and sky circles of all-sky cameras."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from geovision.allsky.frames import FrameConfig, read_frames
from geovision.errors import InputError
from geovision.inference.inventory import ArchiveSource, list_archive_files
from geovision.inference.shards import ShardPlan
from geovision.readers.allsky import Circle, Frame, Stretch, estimate_stretch, find_circle

__all__ = ["DEFAULT_NUM_FRAMES", "CameraCalibration", "calibrate_cameras"]

DEFAULT_NUM_FRAMES = 240
"""Default number of frames that are examined, of all cameras together."""


@dataclass(frozen=True)
class CameraCalibration:
    """Estimated stretches and circles by camera.

    Attributes:
        num_frames: Number of examined frames.
        stretches: Brightness stretches; empty if they were not requested.
        circles: Sky circles; empty if they were not requested.
    """

    num_frames: dict[str, int]
    stretches: dict[str, Stretch] = field(default_factory=dict)
    circles: dict[str, Circle] = field(default_factory=dict)

    def merge_into(self, frame_config: FrameConfig) -> FrameConfig:
        """Return a frame configuration with the estimates added.

        Args:
            frame_config: Configuration; its own stretches and circles take precedence.
        """
        return dataclasses.replace(
            frame_config,
            stretches={**self.stretches, **frame_config.stretches},
            circles={**self.circles, **frame_config.circles},
        )


def calibrate_cameras(
    source: ArchiveSource,
    frame_config: FrameConfig,
    *,
    stretch: bool = False,
    circle: bool = False,
    num_frames: int = DEFAULT_NUM_FRAMES,
) -> CameraCalibration:
    """Estimate stretches or circles for each camera of an archive.

    The frames are spread evenly over the archive. Unreadable files are skipped. The result is deterministic.

    Args:
        source: Frames, as for `geovision.predict_archive`.
        frame_config: Configuration of how frames are read. Stretches are estimated inside its circles.
        stretch: Whether to estimate stretches, see `geovision.readers.allsky.estimate_stretch`.
            Default: False.
        circle: Whether to estimate circles, see `geovision.readers.allsky.find_circle`. Default: False.
        num_frames: Maximum number of frames, of all cameras together. Default: 240.

    Returns:
        The estimates and the number of frames, by camera.

    Raises:
        InputError: If no frame can be read, or if the frames of a camera are not sufficient; the message
            contains the name of the camera.
    """
    chosen: dict[str, list[tuple[str, int]]] = {}
    for path, frame in _sample_frames(source, frame_config.pattern, num_frames):
        chosen.setdefault(FrameConfig.camera_key(frame), []).append((path, frame.index))
    if not chosen:
        raise InputError("no frame of the source can be read; check the source")
    found = CameraCalibration({camera: len(places) for camera, places in chosen.items()})
    for camera, places in chosen.items():
        try:
            if circle:
                found.circles[camera] = find_circle(_reread_frames(places, frame_config.pattern))
            if stretch:
                inside = frame_config.circles.get(
                    camera, frame_config.circles.get("", found.circles.get(camera))
                )
                found.stretches[camera] = estimate_stretch(
                    _reread_frames(places, frame_config.pattern), circle=inside
                )
        except InputError as error:
            raise InputError(f"camera {camera or '(no name)'}: {error}") from error
    return found


def _sample_frames(
    source: ArchiveSource, pattern: str | None, num_frames: int
) -> Iterator[tuple[str, Frame]]:
    """Yield paths and frames, spread evenly over the files."""
    with closing(ShardPlan(list_archive_files(source), ())) as plan:
        files = plan.sample_files(num_frames)
    of_each = -(-num_frames // max(len(files), 1))
    for file in files:
        try:
            for frame in _sample_file_frames(file.path, pattern, of_each):
                yield file.path, frame
        except InputError:
            continue


def _sample_file_frames(path: str, pattern: str | None, num_frames: int) -> Iterator[Frame]:
    """Yield frames spread evenly over a file.

    If one frame is enough, it is the first.
    """
    step = 1
    if num_frames > 1:
        step = max(sum(1 for _ in read_frames(path, pattern)) // num_frames, 1)
    yield from itertools.islice(read_frames(path, pattern), 0, num_frames * step, step)


def _reread_frames(positions: list[tuple[str, int]], pattern: str | None) -> Iterator[Frame]:
    """Yield the frames a second time, one by one.

    Together, the frames may not fit into memory.
    """
    for path, own in itertools.groupby(positions, key=lambda place: place[0]):
        wanted = {index for _, index in own}
        for frame in itertools.islice(read_frames(path, pattern), max(wanted) + 1):
            if frame.index in wanted:
                yield frame
