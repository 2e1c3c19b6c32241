"""What is the same for a whole archive, found by looking over it: stretches, circles."""

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
"""So many frames are looked at, of all cameras together, where the archive has as many."""


@dataclass(frozen=True)
class CameraCalibration:
    """What was found, by camera.

    Attributes:
        num_frames: How many were looked at.
        stretches, circles: What was asked for.
    """

    num_frames: dict[str, int]
    stretches: dict[str, Stretch] = field(default_factory=dict)
    circles: dict[str, Circle] = field(default_factory=dict)

    def merge_into(self, frame_config: FrameConfig) -> FrameConfig:
        """A way of reading with what was found beside what it has; what it has comes first."""
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
    """Look at frames spread evenly over an archive, and find for each camera what is asked for.

    Files that cannot be read are passed over. The same archive gives the same answer.

    Args:
        source: As for `geovision.predict_archive`.
        frame_config: How frames are read; circles that it has are those inside which counts are looked at.
        stretch: Find stretches, `geovision.readers.allsky.estimate_stretch`.
        circle: Find circles, `geovision.readers.allsky.find_circle`.
        num_frames: How many, at most.

    Raises:
        InputError: No frame can be read, or those of a camera do not suffice; the message names it.
    """
    chosen: dict[str, list[tuple[str, int]]] = {}
    for path, frame in _sample_frames(source, frame_config.pattern, num_frames):
        chosen.setdefault(FrameConfig.camera_key(frame), []).append((path, frame.index))
    if not chosen:
        raise InputError("no frame of the source can be read; without one there is nothing to survey")
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
            raise InputError(f"camera {camera or 'without a name'}: {error}") from error
    return found


def _sample_frames(
    source: ArchiveSource, pattern: str | None, num_frames: int
) -> Iterator[tuple[str, Frame]]:
    """As many frames as asked for, as evenly over the files as they come."""
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
    """So many frames of a file, spread over it; the first one where one will do."""
    step = 1
    if num_frames > 1:
        step = max(sum(1 for _ in read_frames(path, pattern)) // num_frames, 1)
    yield from itertools.islice(read_frames(path, pattern), 0, num_frames * step, step)


def _reread_frames(positions: list[tuple[str, int]], pattern: str | None) -> Iterator[Frame]:
    """The same frames once more, one at a time: together they may not fit into memory."""
    for path, own in itertools.groupby(positions, key=lambda place: place[0]):
        wanted = {index for _, index in own}
        for frame in itertools.islice(read_frames(path, pattern), max(wanted) + 1):
            if frame.index in wanted:
                yield frame
