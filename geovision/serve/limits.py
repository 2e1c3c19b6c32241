"""How much a server takes on: of one picture, of one client, and of all together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from geovision.errors import OptionError

__all__ = ["IMAGE_FORMATS", "ServerLimits"]

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats of pictures that are taken, told by their content; Pillow's names."""


@dataclass(frozen=True)
class ServerLimits:
    """What a server takes on before it says no.

    Args:
        max_image_bytes: Of the file; more is answered 413.
        max_image_pixels: Height times width, read from the header before anything is decoded; 413.
        max_jpeg_scans: Passages in which a JPEG is written, each over the whole of it; decoding takes as
            long as all of them. Cameras and programs write one to about a dozen; 413.
        max_memory_bytes: Of all pictures that arrive, wait or are answered; more are answered 503.
        max_queue_size: Pictures that wait for a worker; more are answered 503.
        max_connections: Requests at a time, of any kind; more are answered 503.
        max_batch_size: Pictures that a worker answers together, at most. More of them take no less time
            each, and all wait for the last.
        num_threads: Threads that read and answer, each on one processor.
        upload_timeout: From the connection to the head of its request, and from the first byte of a picture
            to the last; 408.
        prediction_timeout: From the last byte to the answer; 503.
        rate_limit: Pictures a minute from one address; 429. 0: any number.
    """

    max_image_bytes: int = 20_000_000
    max_image_pixels: int = 50_000_000
    max_jpeg_scans: int = 100
    max_memory_bytes: int = 256_000_000
    max_queue_size: int = 64
    max_connections: int = 256
    max_batch_size: int = 2
    num_threads: int = 0
    upload_timeout: float = 30.0
    prediction_timeout: float = 20.0
    rate_limit: int = 240

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("num_threads", "rate_limit") else 1e-3
            if not value >= least:
                raise OptionError(f"limit {name}={value}: expected {least:g} or more")

    @property
    def resolved_num_threads(self) -> int:
        """Workers, as many as processors where nobody says."""
        return self.num_threads or len(os.sched_getaffinity(0))
