"""Middleware that limits simultaneous requests and adds security headers."""

from __future__ import annotations

import json
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geovision.serve.limits import ServerLimits

__all__ = ["HEADERS", "LimitMiddleware"]

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": _POLICY,
    # Both headers enable shared memory between threads, which makes predictions in the browser fast.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response: no content from other servers, no framing, shared memory for threads."""

_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_log = logging.getLogger("geovision.serve")


class LimitMiddleware:
    """ASGI middleware that limits simultaneous requests and adds headers.

    Responses to unexpected errors contain no details; the details are logged.

    Args:
        app: Wrapped application.
        limits: Limits of the server.
    """

    def __init__(self, app: ASGIApp, *, limits: ServerLimits) -> None:
        self.app, self.limits, self.active_requests = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Args:
            scope: ASGI scope of the connection.
            receive: ASGI function that receives messages.
            send: ASGI function that sends messages.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.active_requests >= self.limits.max_connections:
            await _send_error(
                send, 503, "too many simultaneous requests; try again in a few seconds", ("retry-after", "2")
            )
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        self.active_requests += 1
        try:
            await self.app(scope, receive, send_with_headers)
        except Exception:
            _log.exception("unexpected error at %s", scope["path"])
            if not started:
                await _send_error(send, 500, "internal server error; see the log of the server")
        finally:
            self.active_requests -= 1


async def _send_error(send: Send, status: int, detail: str, *extra_headers: tuple[str, str]) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *extra_headers]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": [*raw, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
