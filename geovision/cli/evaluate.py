"""Command `geovision evaluate`: score a model on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geovision import api
from geovision.cli._data_argument import DATA_HELP, DATASET_HELP, adapted_samples
from geovision.cli._model_argument import open_model
from geovision.cli._output import DocumentFormat, examples_epilog, print_status, write_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `evaluate` to the application."""
    app.command(
        "evaluate",
        epilog=examples_epilog(
            "geovision evaluate runs/vit --dataset ccsn --data CCSN_v2 --split test --out report",
            "geovision evaluate cloud-mobilenetv2 --data my_folder --format json",
        ),
    )(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    data: Annotated[Path, typer.Option(help=DATA_HELP)],
    dataset: Annotated[str | None, typer.Option(help=DATASET_HELP)] = None,
    split: Annotated[str | None, typer.Option(help="Split to score. Default: all samples.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder of the report and its figures.")] = None,
    n_bootstrap: Annotated[
        int, typer.Option(min=0, help="Number of bootstrap resamples; 0: no intervals.")
    ] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of samples per forward pass.")] = 32,
    seed: Annotated[int, typer.Option(help="Random seed of resamples and ensemble members.")] = 0,
    members: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of ensemble members of a field, sampled from the predicted distribution or by MC "
            "dropout; 0: none. Default: the members of the model, or 20 samples of its distribution.",
        ),
    ] = None,
    output_format: Annotated[
        DocumentFormat, typer.Option("--format", help="Format of the printed report.")
    ] = DocumentFormat.table,
) -> None:
    """Score a model on a dataset with the metrics of its task.

    Bootstrap intervals resample groups of samples, such as nights or storm days.
    """
    opened = open_model(model, weights)
    samples = adapted_samples(opened, dataset, data, split)
    report = api.evaluate(
        opened,
        samples,
        batch_size=batch_size,
        n_bootstrap=n_bootstrap,
        seed=seed,
        members=members,
        progress=True,
    )
    if output_format is DocumentFormat.json:
        write_json(report.as_dict())
    else:
        print(report.text())
    if out:
        print_status(f"wrote the report and its figures to {report.save(out)}")
