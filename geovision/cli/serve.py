"""Command `geovision serve`: serve a page for phones and a prediction API."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from geovision.cli._model_argument import find_entry, open_model
from geovision.cli._output import examples_epilog, print_status
from geovision.cli.export import ExportPrecision

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `serve` to the application."""
    app.command(
        "serve",
        epilog=examples_epilog(
            "geovision serve cloud-mobilenetv2",
            "geovision serve cloud-mobilenetv2 --host 0.0.0.0 --offline --tls-cert c.pem --tls-key k.pem",
            "geovision serve runs/aurora --port 9000 --precision int8",
            "curl --data-binary @sky.jpg http://localhost:8000/api/predict",
        ),
    )(serve)


def serve(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address of the interface. 0.0.0.0: reachable from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: any free port.")] = 8000,
    offline: Annotated[
        bool, typer.Option("--offline", help="Predict in the browser; no image leaves the phone.")
    ] = False,
    precision: Annotated[
        ExportPrecision,
        typer.Option(help="Numeric precision. int8: 8-bit weights and activations, smaller."),
    ] = ExportPrecision.float32,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="TLS certificate, PEM. Phones allow camera and offline use only over HTTPS."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="TLS private key, PEM.")] = None,
    max_megabytes: Annotated[
        float, typer.Option(min=0.01, help="Maximum file size of an image, in MB.")
    ] = 20.0,
    max_megapixels: Annotated[
        float, typer.Option(min=0.01, help="Maximum number of pixels of an image, in millions.")
    ] = 50.0,
    rate_limit: Annotated[
        int, typer.Option(min=0, help="Maximum number of images per minute and client address; 0: no limit.")
    ] = 240,
    threads: Annotated[int, typer.Option(min=0, help="Number of prediction threads; 0: number of CPUs.")] = 0,
) -> None:
    """Serve a page that predicts photos, and a JSON API.

    Images are processed in memory; they are not written to disk and not logged. /openapi.json
    describes the API.
    """
    from geovision.serve import ServerAddress, ServerLimits, run_server

    if entry := find_entry(model):
        entry.check_exportable()
    address = ServerAddress(host, port, tls_cert, tls_key)
    limits = ServerLimits(
        max_image_bytes=round(1e6 * max_megabytes),
        max_image_pixels=round(1e6 * max_megapixels),
        rate_limit=rate_limit,
        num_threads=threads,
    )
    run_server(
        partial(open_model, model, weights),
        address,
        mode="device" if offline else "server",
        limits=limits,
        int8=precision is ExportPrecision.int8,
        on_ready=lambda url: print_status(f"serving at {url}; stop with Ctrl-C"),
    )
