"""How much a server takes on: of one picture, of one client, and of all together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from geovision.errors import OptionError

__all__ = ["FORMATS", "ServerLimits"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats of pictures that are taken, told by their content; Pillow's names."""


@dataclass(frozen=True)
class ServerLimits:
    """What a server takes on before it says no.

    Args:
        bytes_a_picture: Of the file; more is answered 413.
        pixels_a_picture: Height times width, read from the header before anything is decoded; 413.
        scans_a_picture: Passages in which a JPEG is written, each over the whole of it; decoding takes as
            long as all of them. Cameras and programs write one to about a dozen; 413.
        bytes_in_memory: Of all pictures that arrive, wait or are answered; more are answered 503.
        waiting: Pictures that wait for a worker; more are answered 503.
        connections: Requests at a time, of any kind; more are answered 503.
        batch: Pictures that a worker answers together, at most. More of them take no less time each, and
            all wait for the last.
        workers: Threads that read and answer, each on one processor.
        upload_seconds: From the connection to the head of its request, and from the first byte of a picture
            to the last; 408.
        answer_seconds: From the last byte to the answer; 503.
        rate: Pictures a minute from one address; 429. 0: any number.
    """

    bytes_a_picture: int = 20_000_000
    pixels_a_picture: int = 50_000_000
    scans_a_picture: int = 100
    bytes_in_memory: int = 256_000_000
    waiting: int = 64
    connections: int = 256
    batch: int = 2
    workers: int = 0
    upload_seconds: float = 30.0
    answer_seconds: float = 20.0
    rate: int = 240

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("workers", "rate") else 1e-3
            if not value >= least:
                raise OptionError(f"limit {name}={value}: expected {least:g} or more")

    @property
    def threads(self) -> int:
        """Workers, as many as processors where nobody says."""
        return self.workers or len(os.sched_getaffinity(0))
