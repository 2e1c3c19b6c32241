"""Start of the server: export of the model, page and uvicorn."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from geovision.errors import MissingExtraError, OptionError
from geovision.serve.exported_models import export_models
from geovision.serve.limits import ServerLimits
from geovision.serve.predictor import BatchPredictor
from geovision.web import Mode, write_site

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from geovision.models.geomodel import GeoModel

__all__ = ["ServerAddress", "run_server", "uvicorn_config"]


@dataclass(frozen=True)
class ServerAddress:
    """Address of a server.

    Args:
        host: Address of the interface. ``"127.0.0.1"``: only this machine; ``"0.0.0.0"``: reachable from
            other machines. Default: ``"127.0.0.1"``.
        port: TCP port; 0: any free port. Default: 8000.
        certificate: PEM file of the TLS certificate; requires `key`. Phones allow camera and offline use only
            over HTTPS. Default: None, HTTP.
        key: PEM file of the TLS private key; requires `certificate`. Default: None.

    Raises:
        OptionError: If only one of `certificate` and `key` is given, or a file does not exist.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise OptionError("TLS requires a certificate and its key; pass both --tls-cert and --tls-key")
        for file in (self.certificate, self.key):
            if file is not None and not file.is_file():
                raise OptionError(f"{file}: no such file; pass PEM files as --tls-cert and --tls-key")

    def url(self, port: int) -> str:
        """Return the URL of the page for a browser on this machine.

        Args:
            port: TCP port of the server.

        Returns:
            URL with the scheme ``http`` or ``https``.
        """
        host = "localhost" if self.host in ("", "0.0.0.0", "::", "127.0.0.1") else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{port}/"


def run_server(
    open_model: Callable[[], GeoModel],
    address: ServerAddress,
    *,
    mode: Mode = "server",
    limits: ServerLimits | None = None,
    int8: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Export a model, write its page and serve both until interrupted.

    Args:
        open_model: Function that returns the model, see `geovision.serve.exported_models.export_models`.
        address: Address of the server.
        mode: ``"server"``: the page requests predictions from the server. ``"device"``: the page predicts in
            the browser, and the prediction API remains available to programs. Default: ``"server"``.
        limits: Limits of the server. Default: `ServerLimits()`.
        int8: Whether to quantize the graph to 8 bits, which makes it smaller and faster and changes
            predictions slightly. Default: False.
        on_ready: Function that is called with the URL of the page once the server accepts connections.
            Default: None.

    Raises:
        OptionError: If the model is not an image classifier, or the address is in use.
        MissingExtraError: If the extra ``[serve]`` is not installed.
    """
    uvicorn, build = _check_dependencies()
    limits = limits or ServerLimits()
    with contextlib.closing(_listen(address)) as listening, _temporary_dir() as folder:
        exported = export_models(folder, open_model, int8=int8)
        predictor = BatchPredictor(exported.with_map, limits, exported.without_map)
        site = write_site(folder / "site", predictor.metadata, mode, predictor.path)
        app = build(predictor.metadata, predictor.predict_batch, site, limits)
        config = uvicorn_config(app, limits, address)
        if on_ready is not None:
            on_ready(address.url(listening.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):  # the normal way to stop the server
            uvicorn.Server(config).run(sockets=[listening])


def uvicorn_config(app: FastAPI, limits: ServerLimits, address: ServerAddress) -> uvicorn.Config:
    """Return the uvicorn configuration of an application.

    Args:
        app: Application to serve.
        limits: Limits of the server.
        address: Address of the server.

    Returns:
        Configuration with header timeouts and without an access log.
    """
    import uvicorn

    from geovision.serve.timeouts import header_timeout_protocol

    return uvicorn.Config(
        app,
        http=header_timeout_protocol(limits.upload_timeout),
        access_log=False,  # client addresses are not logged
        log_level="warning",
        server_header=False,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
    )


def _listen(address: ServerAddress) -> socket.socket:
    """Return a listening socket; connections wait until the server accepts them."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=2048)
    except OSError as error:
        raise OptionError(
            f"cannot listen at {address.host}:{address.port} ({error.strerror or error}); choose another "
            "--host or --port"
        ) from error


@contextlib.contextmanager
def _temporary_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="geovision-serve-") as folder:
        yield Path(folder)


def _check_dependencies() -> tuple[ModuleType, Callable[..., FastAPI]]:
    try:
        import uvicorn

        from geovision.serve.app import build_app
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    return uvicorn, build_app
