"""Limits of the server for one image, one client and all requests together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from geovision.errors import OptionError

__all__ = ["IMAGE_FORMATS", "ServerLimits"]

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Accepted image formats, detected from the content; names as in Pillow."""


@dataclass(frozen=True)
class ServerLimits:
    """Limits of a server, and the HTTP status of requests that exceed them.

    Args:
        max_image_bytes: Maximum size of an image file, in bytes; 413. Default: 20 000 000.
        max_image_pixels: Maximum height times width, read from the header before decoding; 413.
            Default: 50 000 000.
        max_jpeg_scans: Maximum number of scans of a JPEG; 413. Decoding time is proportional to it. Cameras
            and programs write one to about a dozen. Default: 100.
        max_memory_bytes: Maximum size of all images that are received, queued or predicted, in bytes; 503.
            Default: 256 000 000.
        max_queue_size: Maximum number of images that wait for a worker; 503. Default: 64.
        max_connections: Maximum number of simultaneous requests of any kind; 503. Default: 256.
        max_batch_size: Maximum number of images per batch. Larger batches are no faster per image and delay
            the first result. Default: 2.
        num_threads: Number of prediction threads, each on one CPU; 0: number of CPUs. Default: 0.
        upload_timeout: Maximum time from the connection to the end of the request header, and from the first
            to the last byte of an image, in s; 408. Default: 30.
        prediction_timeout: Maximum time from the last byte to the response, in s; 503. Default: 20.
        rate_limit: Maximum number of images per minute and client address; 429. 0: no limit. Default: 240.

    Raises:
        OptionError: If a value is too small.
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
        """Number of prediction threads, with 0 replaced by the number of CPUs."""
        return self.num_threads or len(os.sched_getaffinity(0))
