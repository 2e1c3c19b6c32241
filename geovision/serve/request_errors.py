"""Errors of rejected requests and their HTTP status."""

from __future__ import annotations

__all__ = [
    "ContentTooLarge",
    "InvalidImage",
    "RateLimitExceeded",
    "RequestError",
    "ServerBusy",
    "UnsupportedImage",
    "UploadTimeout",
]


class RequestError(Exception):
    """Rejected request, with a one-line message.

    Attributes:
        status: HTTP status of the response.
        retry_after: Seconds after which the request may be repeated. None: the same request always fails.
    """

    status = 400
    retry_after: int | None = None


class UploadTimeout(RequestError):
    """Upload that exceeded its time limit."""

    status = 408


class ContentTooLarge(RequestError):
    """Image with too many bytes, pixels or scans."""

    status = 413


class UnsupportedImage(RequestError):
    """Image whose content has no accepted format; the file name is ignored."""

    status = 415


class InvalidImage(RequestError):
    """Image that is damaged, too small or without a full scale."""

    status = 422


class RateLimitExceeded(RequestError):
    """Too many images per minute from one address.

    Args:
        message: One-line message.
        seconds: Seconds until the next image is accepted.
    """

    status = 429

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.retry_after = seconds


class ServerBusy(RequestError):
    """Too many images at the same time."""

    status = 503
    retry_after = 2
