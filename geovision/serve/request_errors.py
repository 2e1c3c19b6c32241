"""What a server says no to, and with which status."""

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
    """A request that is not answered, in one line.

    Attributes:
        status: Of HTTP.
        retry_after: Seconds after which it may go well; None: never as it is.
    """

    status = 400
    retry_after: int | None = None


class UploadTimeout(RequestError):
    """The picture did not arrive in time."""

    status = 408


class ContentTooLarge(RequestError):
    """Too many bytes or pixels."""

    status = 413


class UnsupportedImage(RequestError):
    """Of no format that is taken, whatever it is called."""

    status = 415


class InvalidImage(RequestError):
    """A picture that is damaged, too small, or without a full scale."""

    status = 422


class RateLimitExceeded(RequestError):
    """More pictures a minute from one address than are taken."""

    status = 429

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.retry_after = seconds


class ServerBusy(RequestError):
    """More pictures at a time than the server has room for."""

    status = 503
    retry_after = 2
