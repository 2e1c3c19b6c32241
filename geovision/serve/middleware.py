"""The door of the server: how many may be in at a time, and what every answer carries."""

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
    # Both together give a page memory that threads share, which the browser's model needs to be fast.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: nothing is loaded from elsewhere, nobody frames the page, threads may share memory."""

_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_log = logging.getLogger("geovision.serve")


class LimitMiddleware:
    """Lets so many requests in at a time, adds the headers, and tells nothing of an error but that there was
    one."""

    def __init__(self, app: ASGIApp, *, limits: ServerLimits) -> None:
        self.app, self.limits, self.active_requests = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.active_requests >= self.limits.max_connections:
            await _say(
                send, 503, "too many requests at once; try again in a few seconds", ("retry-after", "2")
            )
            return
        begun = False

        async def adding(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        self.active_requests += 1
        try:
            await self.app(scope, receive, adding)
        except Exception:
            _log.exception("an error at %s", scope["path"])
            if not begun:
                await _say(send, 500, "an error in the server; it is in its log")
        finally:
            self.active_requests -= 1


async def _say(send: Send, status: int, detail: str, *more: tuple[str, str]) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *more]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": [*raw, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
