"""What is the same for a whole archive, found by looking over it: stretches, circles."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from geovision.allsky.frames import FrameConfig, read_frames
from geovision.errors import InputError
from geovision.inference.inventory import ArchiveSource, inventory
from geovision.inference.shards import ShardPlan
from geovision.readers.allsky import Circle, Frame, Stretch, estimate_stretch, find_circle

__all__ = ["FRAMES", "CameraCalibration", "survey"]

FRAMES = 240
"""So many frames are looked at, of all cameras together, where the archive has as many."""


@dataclass(frozen=True)
class CameraCalibration:
    """What was found, by camera.

    Attributes:
        frames: How many were looked at.
        stretches, circles: What was asked for.
    """

    frames: dict[str, int]
    stretches: dict[str, Stretch] = field(default_factory=dict)
    circles: dict[str, Circle] = field(default_factory=dict)

    def added_to(self, reading: FrameConfig) -> FrameConfig:
        """A way of reading with what was found beside what it has; what it has comes first."""
        return dataclasses.replace(
            reading,
            stretches={**self.stretches, **reading.stretches},
            circles={**self.circles, **reading.circles},
        )


def survey(
    source: ArchiveSource,
    reading: FrameConfig,
    *,
    stretch: bool = False,
    circle: bool = False,
    frames: int = FRAMES,
) -> CameraCalibration:
    """Look at frames spread evenly over an archive, and find for each camera what is asked for.

    Files that cannot be read are passed over. The same archive gives the same answer.

    Args:
        source: As for `geovision.predict_archive`.
        reading: How frames are read; circles that it has are those inside which counts are looked at.
        stretch: Find stretches, `geovision.readers.allsky.estimate_stretch`.
        circle: Find circles, `geovision.readers.allsky.find_circle`.
        frames: How many, at most.

    Raises:
        InputError: No frame can be read, or those of a camera do not suffice; the message names it.
    """
    chosen: dict[str, list[tuple[str, int]]] = {}
    for path, frame in _spread(source, reading.pattern, frames):
        chosen.setdefault(FrameConfig.camera(frame), []).append((path, frame.index))
    if not chosen:
        raise InputError("no frame of the source can be read; without one there is nothing to survey")
    found = CameraCalibration({camera: len(places) for camera, places in chosen.items()})
    for camera, places in chosen.items():
        try:
            if circle:
                found.circles[camera] = find_circle(_again(places, reading.pattern))
            if stretch:
                inside = reading.circles.get(camera, reading.circles.get("", found.circles.get(camera)))
                found.stretches[camera] = estimate_stretch(_again(places, reading.pattern), circle=inside)
        except InputError as error:
            raise InputError(f"camera {camera or 'without a name'}: {error}") from error
    return found


def _spread(source: ArchiveSource, pattern: str | None, number: int) -> Iterator[tuple[str, Frame]]:
    """As many frames as asked for, as evenly over the files as they come."""
    with closing(ShardPlan(inventory(source), ())) as plan:
        files = plan.sample(number)
    of_each = -(-number // max(len(files), 1))
    for file in files:
        try:
            for frame in _some(file.path, pattern, of_each):
                yield file.path, frame
        except InputError:
            continue


def _some(path: str, pattern: str | None, number: int) -> Iterator[Frame]:
    """So many frames of a file, spread over it; the first one where one will do."""
    step = 1
    if number > 1:
        step = max(sum(1 for _ in read_frames(path, pattern)) // number, 1)
    yield from itertools.islice(read_frames(path, pattern), 0, number * step, step)


def _again(places: list[tuple[str, int]], pattern: str | None) -> Iterator[Frame]:
    """The same frames once more, one at a time: together they may not fit into memory."""
    for path, own in itertools.groupby(places, key=lambda place: place[0]):
        wanted = {index for _, index in own}
        for frame in itertools.islice(read_frames(path, pattern), max(wanted) + 1):
            if frame.index in wanted:
                yield frame
