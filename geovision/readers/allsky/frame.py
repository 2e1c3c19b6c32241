"""Frame of an all-sky camera, with its time."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Frame", "clock_jumps", "parse_degrees", "parse_utc"]


@dataclass(frozen=True, eq=False)
class Frame:
    """Frame of an all-sky camera, as stored in its file.

    Args:
        pixels: Counts, shape ``(y, x)`` or for color ``(y, x, 3)``, uint8 or uint16, not stretched. FITS
            may contain other types.
        time: Start of the exposure, with the time zone UTC; None if unknown.
        station: Code of the station, as in the file (``"gill"``); None if unknown.
        device: Code of the camera (``"themis19"``); None if unknown.
        exposure: Exposure time, in s; None if unknown.
        path: Path of the file.
        index: Position in the file, from 0.
        latitude: Latitude of the station, in degrees north; None if the file has none. Default: None.
        longitude: Longitude of the station, in degrees east, -180 to 180; None if the file has none.
            Default: None.
        notes: Notes on metadata that are missing or not from the header, one line each. Default: ``()``.
        header: Comments or keywords of this frame, as in the file. THEMIS writes constant metadata in
            the first frame of a file only. Default: ``{}``.
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
    """Flag the frames at which the clock of a camera jumped back.

    Flagged frames are earlier than the frame before. Only the jump is flagged, not the frames that
    follow on the new clock. A frame without a time is never flagged, and is skipped. Two cameras have
    two clocks: call this function once per camera.

    Args:
        times: Times of one camera, in the order of the files.

    Returns:
        True at each jump, bool, shape ``(frame,)``.
    """
    jumps: list[bool] = []
    last: datetime.datetime | None = None
    for time in times:
        jumps.append(time is not None and last is not None and time < last)
        last = time or last
    return np.array(jumps, dtype=bool)


def parse_utc(text: str) -> datetime.datetime | None:
    """Parse an ISO 8601 time of a header, with or without ``UTC``.

    A time without a zone is UTC, as in these headers. A date alone is not a time.

    >>> parse_utc("2014-03-10 06:02:00.048845 UTC")
    datetime.datetime(2014, 3, 10, 6, 2, 0, 48845, tzinfo=datetime.timezone.utc)

    Args:
        text: Text of the header.

    Returns:
        Time, with the time zone UTC; None if the text is not a time.
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
    """Parse an angle of a header.

    >>> parse_degrees("265.3443", 180)
    -94.6557

    Args:
        text: Value of the header.
        limit: Largest absolute value, in degrees: 90 for latitudes, 180 for longitudes. Longitudes up to
            360 are converted.

    Returns:
        Angle in degrees, in -90 to 90 or -180 to 180; None if the text is not such an angle.
    """
    try:
        angle = float(str(text))
    except ValueError:
        return None
    if limit == 180 and 180 < angle <= 360:
        angle = round(angle - 360, 9)
    return angle if -limit <= angle <= limit else None
