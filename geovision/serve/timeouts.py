"""Connections that open and say nothing, or half of what they want, are ended: as many as there can be would
keep everybody else out."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["header_timeout_protocol"]

_TIMEOUT_BODY = b'{"detail":"the request did not arrive in time"}'
_TIMEOUT_RESPONSE = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_TIMEOUT_BODY), _TIMEOUT_BODY)
)


def header_timeout_protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's way of speaking HTTP, with an end to waiting for the head of a request.

    Args:
        seconds: From the connection, or from the first byte of a later request, until its head is there.
            How long a body may take is for who reads it, and between requests uvicorn has its own time.
    """
    base: Any = AutoHTTPProtocol

    class Patient(base):
        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self.wait()
            else:
                self.stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop()
            super().connection_lost(exc)

        def wait(self) -> None:
            if self.waiting is None and not self.transport.is_closing():
                self.waiting = self.loop.call_later(seconds, self.end)

        def stop(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

        def end(self) -> None:
            self.transport.write(_TIMEOUT_RESPONSE)
            self.transport.close()

    return Patient
