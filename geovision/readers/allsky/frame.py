"""One frame of an all-sky camera, and when it was taken."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Frame", "clock_jumps", "parse_degrees", "parse_utc"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame, as it stands in its file.

    Args:
        pixels: Counts, ``(y, x)`` or in colour ``(y, x, 3)``, uint8 or uint16, not stretched; FITS
            may hold other types.
        time: Start of the exposure, with the time zone UTC; None where it is not known.
        station: Code of the place, as in the file (``"gill"``); None where it is not known.
        device: Code of the camera (``"themis19"``); None where it is not known.
        exposure: Seconds; None where it is not known.
        path: The file.
        index: Position in the file, from 0.
        latitude: Of the station, degrees north; None where the file does not say.
        longitude: Degrees east, -180 to 180; None where the file does not say.
        notes: What is missing or comes from elsewhere than the header, one line each.
        header: The comments or keywords of this frame, as they stand. THEMIS states what does not
            change in the first frame of a file only.
    """

    pixels: np.ndarray
    time: datetime.datetime | None
    station: str | None
    device: str | None
    exposure: float | None
    path: str
    index: int
    latitude: float | None = None
    longitude: float | None = None
    notes: tuple[str, ...] = ()
    header: Mapping[str, str] = field(default_factory=dict, repr=False)


def clock_jumps(times: Iterable[datetime.datetime | None]) -> np.ndarray:
    """Where the clock of a camera jumped back: frames that are earlier than the one before.

    Only the jump is flagged, not what follows it on the new clock. A frame without a time is never
    flagged, and is passed over. Two cameras have two clocks: ask for each of them.

    Args:
        times: Of one camera, in the order of the files.

    Returns:
        bool ``(frame,)``.
    """
    jumps: list[bool] = []
    last: datetime.datetime | None = None
    for time in times:
        jumps.append(time is not None and last is not None and time < last)
        last = time or last
    return np.array(jumps, dtype=bool)


def parse_utc(text: str) -> datetime.datetime | None:
    """The time that a header states in ISO 8601, with or without ``UTC``; None where it is none.

    A time without a zone is UTC, as these headers have it. A date alone is none.

    >>> utc("2014-03-10 06:02:00.048845 UTC")
    datetime.datetime(2014, 3, 10, 6, 2, 0, 48845, tzinfo=datetime.timezone.utc)
    """
    bare = re.sub(r"\s*UTC?$", "", text.strip(), flags=re.IGNORECASE)
    try:
        time = datetime.datetime.fromisoformat(bare)
    except ValueError:
        return None
    if ":" not in bare and "T" not in bare:
        return None
    if time.tzinfo is None:
        return time.replace(tzinfo=datetime.UTC)
    return time.astimezone(datetime.UTC)


def parse_degrees(text: object, limit: int) -> float | None:
    """An angle of a header, in -90 to 90 or -180 to 180; None where it is none.

    >>> degrees("265.3443", 180)
    -94.6557
    """
    try:
        angle = float(str(text))
    except ValueError:
        return None
    if limit == 180 and 180 < angle <= 360:
        angle = round(angle - 360, 9)
    return angle if -limit <= angle <= limit else None
