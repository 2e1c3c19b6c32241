"""Server on loopback for the duration of a test, with the full stack from socket to model."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from geovision.serve.app import build_app
from geovision.serve.limits import ServerLimits
from geovision.serve.predictor import BatchPredictor
from geovision.serve.server import ServerAddress, uvicorn_config
from geovision.web import Mode, write_site

__all__ = ["Reply", "Server", "serving"]


@dataclass(frozen=True)
class Reply:
    """Response of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """Address of a running server."""

    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            reply = connection.getresponse()
            received = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, received, reply.read())
        finally:
            connection.close()

    def predict(self, picture: bytes) -> Reply:
        return self.request("POST", "/api/predict", picture, {"Content-Type": "application/octet-stream"})


@contextmanager
def serving(
    file: Path,
    folder: Path,
    *,
    mode: Mode = "server",
    limits: ServerLimits | None = None,
    predict_batch: Any = None,
) -> Iterator[Server]:
    """Serve an exported model.

    Args:
        file: Exported model.
        folder: Folder for the files of the page.
        mode: Place of inference.
        limits: Limits of the server. Default: no rate limit.
        predict_batch: Replacement for the batch prediction of the model. Default: None.
    """
    limits = limits or ServerLimits(rate_limit=0)
    predictor = BatchPredictor(file, limits)
    site = write_site(folder, predictor.metadata, mode, file)
    app = build_app(predictor.metadata, predict_batch or predictor.predict_batch, site, limits)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(uvicorn_config(app, limits, ServerAddress()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Server(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
