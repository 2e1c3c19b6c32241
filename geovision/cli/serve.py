"""`geovision serve`: a page for a phone, and a server that answers its pictures."""

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
    host: Annotated[str, typer.Option(help="0.0.0.0: everybody who reaches this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    offline: Annotated[
        bool, typer.Option("--offline", help="The page answers in the browser: no picture leaves the phone.")
    ] = False,
    precision: Annotated[
        ExportPrecision, typer.Option(help="int8: 8-bit weights and activations, smaller.")
    ] = ExportPrecision.float32,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file; phones give camera and offline use to HTTPS alone.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    max_megabytes: Annotated[float, typer.Option(min=0.01, help="Of one picture's file.")] = 20.0,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Of one picture.")] = 50.0,
    rate_limit: Annotated[
        int, typer.Option(min=0, help="Largest number of images per minute from one address; 0: no limit.")
    ] = 240,
    threads: Annotated[
        int, typer.Option(min=0, help="Number of prediction threads; 0: number of processors.")
    ] = 0,
) -> None:
    """Serve a page where one takes or chooses a picture and learns what it shows, and a JSON API.

    Pictures are answered in memory, neither written to disk nor logged. /openapi.json describes the API.
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
        on_ready=lambda url: print_status(f"the page is at {url}; end with Ctrl-C"),
    )
