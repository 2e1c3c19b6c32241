"""Command `geovision calibrate`: fit the probabilities of a model to a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geovision import api
from geovision.cli._data_argument import DATASET_HELP, adapted_samples
from geovision.cli._model_argument import model_folder, open_model
from geovision.cli._output import examples_epilog, print_status

if TYPE_CHECKING:
    from geovision.datasets.base import GeoDataset
    from geovision.models.geomodel import GeoModel

__all__ = ["calibrate_and_save", "register"]


def register(app: typer.Typer) -> None:
    """Add `calibrate` to the application."""
    app.command(
        "calibrate",
        epilog=examples_epilog(
            "geovision calibrate runs/hail --dataset hail-samples --data OTHER_DAYS",
            "geovision calibrate runs/mine --data photos_of_another_year --out runs/mine-calibrated",
        ),
    )(calibrate)


def calibrate(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    data: Annotated[
        Path, typer.Option(help="Folder of calibration data, separate from training and test data.")
    ],
    dataset: Annotated[str | None, typer.Option(help=DATASET_HELP)] = None,
    split: Annotated[
        str | None, typer.Option(help="Split used for calibration, such as val. Default: all samples.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder of the model. Default: the folder of the input model.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of samples per forward pass.")] = 32,
) -> None:
    """Calibrate the probabilities of a class or mask model and save the model.

    The folder of the model is printed.
    """
    folder = out or model_folder(model)
    opened = open_model(model, weights)
    samples = adapted_samples(opened, dataset, data, split)
    calibrate_and_save(opened, samples, folder, batch_size)
    print(folder)


def calibrate_and_save(model: GeoModel, samples: GeoDataset, folder: Path, batch_size: int = 32) -> None:
    """Calibrate a model, print the fitted values to standard error and save the model.

    Args:
        model: Trained model; changed in place.
        samples: Calibration data.
        folder: Output folder of the model.
        batch_size: Number of samples per forward pass. Default: 32.
    """
    found = api.calibrate(model, samples, batch_size=batch_size)
    values = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
    print_status(f"calibrated on {len(samples)} samples: {values}")
    model.save(folder, card=model.card if model.weight else "")
