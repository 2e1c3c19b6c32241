"""From a model to a running server."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
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
    """Where a server listens.

    Args:
        host: ``"127.0.0.1"``: this machine alone; ``"0.0.0.0"``: everybody who reaches it.
        port: 0: any free one.
        certificate, key: PEM files of TLS; both or neither. Phones give camera and offline use to pages
            under HTTPS alone.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise OptionError("TLS needs a certificate and its key: give both --tls-cert and --tls-key")
        for file in (self.certificate, self.key):
            if file is not None and not file.is_file():
                raise OptionError(f"{file}: no such file; give the PEM files of --tls-cert and --tls-key")

    def url(self, port: int) -> str:
        """Where a browser on this machine finds the page."""
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
    """Export a model, lay out its page, and serve both until interrupted.

    Args:
        open_model: Gives the model, see `geovision.serve.exported_models.export_models`.
        mode: ``"device"``: the page computes in the browser; the server's answers stay there for programs.
        int8: The graph in 8 bits: smaller and faster, and nearly the same answers.
        on_ready: Is told the page's address once it can be opened.

    Raises:
        OptionError: A model that is not of pictures to classes, or an address that is taken.
        MissingExtraError: Without the extra ``[serve]``.
    """
    uvicorn, build = _check_dependencies()
    limits = limits or ServerLimits()
    with contextlib.closing(_listen(address)) as listening, _temporary_dir() as beside:
        graphs = export_models(beside, open_model, int8=int8)
        answers = BatchPredictor(graphs.with_map, limits, graphs.without_map)
        site = write_site(beside / "site", answers.metadata, mode, answers.path)
        config = uvicorn_config(build(answers.metadata, answers.predict_batch, site, limits), limits, address)
        if on_ready is not None:
            on_ready(address.url(listening.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):  # that is how one ends it
            uvicorn.Server(config).run(sockets=[listening])


def uvicorn_config(app: FastAPI, limits: ServerLimits, address: ServerAddress) -> uvicorn.Config:
    """How uvicorn serves an application."""
    import uvicorn

    from geovision.serve.timeouts import header_timeout_protocol

    return uvicorn.Config(
        app,
        http=header_timeout_protocol(limits.upload_timeout),
        access_log=False,
        log_level="warning",
        server_header=False,  # no address is noted down
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
    )


def _listen(address: ServerAddress) -> socket.socket:
    """A socket that clients may connect to at once; they wait until the server takes them."""
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


def _check_dependencies():
    try:
        import uvicorn

        from geovision.serve.app import build_app
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    return uvicorn, build_app
