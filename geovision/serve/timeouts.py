"""Timeout for incomplete request headers.

Connections that do not send a complete request header in time are closed. Otherwise idle connections could
use up the connection limit.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["header_timeout_protocol"]

_TIMEOUT_BODY = b'{"detail":"the request header did not arrive in time"}'
_TIMEOUT_RESPONSE = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_TIMEOUT_BODY), _TIMEOUT_BODY)
)


def header_timeout_protocol(seconds: float) -> type[asyncio.Protocol]:
    """Return the HTTP protocol class of uvicorn with a timeout for request headers.

    The timeout does not apply to request bodies, which the application reads, or between requests, where
    uvicorn has its own timeout.

    Args:
        seconds: Maximum time from the connection, or from the first byte of a later request, to the end of
            the request header, in s.

    Returns:
        Protocol class for ``uvicorn.Config(http=...)``.
    """
    base: Any = AutoHTTPProtocol

    class HeaderTimeoutProtocol(base):
        timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.start_timer()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self.start_timer()
            else:
                self.cancel_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self.cancel_timer()
            super().connection_lost(exc)

        def start_timer(self) -> None:
            if self.timer is None and not self.transport.is_closing():
                self.timer = self.loop.call_later(seconds, self.close_connection)

        def cancel_timer(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

        def close_connection(self) -> None:
            self.transport.write(_TIMEOUT_RESPONSE)
            self.transport.close()

    return HeaderTimeoutProtocol
