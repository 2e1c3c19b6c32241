"""Command `geovision train`: train a model on a dataset."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from geovision import api, registry
from geovision.cli._data_argument import (
    DATA_HELP,
    DATASET_HELP,
    default_layout,
    open_training_data,
    open_validation_data,
)
from geovision.cli._output import examples_epilog, print_status
from geovision.cli.calibrate import calibrate_and_save
from geovision.errors import OptionError

__all__ = ["TrainingPrecision", "register"]


class TrainingPrecision(enum.StrEnum):
    """Numeric precision of training."""

    recipe = "recipe"
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"

    @property
    def recipe_override(self) -> str | None:
        """Lightning precision that replaces that of a recipe, or None."""
        lightning = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
        return None if self is TrainingPrecision.recipe else lightning.get(self.value, self.value)


def register(app: typer.Typer) -> None:
    """Add `train` to the application."""
    app.command(
        "train",
        epilog=examples_epilog(
            "geovision train cloud-mobilenetv2 --data my_folder",
            "geovision train cloud-vit --dataset ccsn --data CCSN --backbone-weights imagenet --out runs/vit",
            "# After an interruption, add --resume to the same command.",
        ),
    )(train)


def train(
    model: Annotated[str, typer.Argument(help="Name of a model, as printed by `geovision list`.")],
    data: Annotated[Path, typer.Option(help=DATA_HELP)],
    dataset: Annotated[str | None, typer.Option(help=DATASET_HELP)] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Training split, or years such as 1985-1992. Default: `train` if official, else all samples."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder of the trained model. Default: runs/MODEL.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Total number of epochs. Default: those of the recipe.")
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            help="Initial weights of the backbone: `imagenet`, a timm tag, or a .safetensors file. "
            "Default: random weights."
        ),
    ] = None,
    scalars: Annotated[
        list[str] | None,
        typer.Option("--scalar", help="Name of a measurement in addition to the image. May be repeated."),
    ] = None,
    predictors: Annotated[
        list[str] | None,
        typer.Option(
            "--predictor",
            help="Name of an additional input field. May be repeated. Default: all fields of the data, or "
            "none if the model uses precipitation only.",
        ),
    ] = None,
    head: Annotated[
        str, typer.Option(help="Head of the task, such as quantiles. Default: the head of the model.")
    ] = "",
    factor: Annotated[
        int | None,
        typer.Option(
            min=1, help="Refinement factor of a field model: ratio of input to output grid spacing."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a recipe. Default: `scratch` without backbone weights, else that of the model."
        ),
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Height and width of the input, in pixels.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="Fraction of samples for validation, in whole groups. Default: the `val` split of the data, "
            "or 0.1.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="After training, calibrate probabilities on the validation samples."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Random seed. Default: the seed of the recipe.")] = None,
    precision: Annotated[
        TrainingPrecision, typer.Option(help="Floating-point precision of the training.")
    ] = TrainingPrecision.recipe,
    devices: Annotated[str, typer.Option(help="Number of devices, or `auto`.")] = "auto",
    num_workers: Annotated[
        int, typer.Option(min=0, help="Number of loader processes; 0: load in this process.")
    ] = 0,
) -> None:
    """Train a model on a public dataset or on your data.

    Your data define their own classes. Checkpoints, logs and the trained model are written to
    --out. The path of the model is printed.
    """
    spec = registry.find_model(model)
    dataset = dataset or default_layout(spec.task)

    from geovision.training import create_for, hold_back, select_recipe

    chosen = select_recipe(
        spec,
        recipe,
        epochs=epochs,
        seed=seed,
        precision=precision.recipe_override,
        from_scratch=backbone_weights is None,
    )
    opened, samples = create_for(
        model,
        open_training_data(dataset, data, split, spec.task),
        predictors=predictors,
        backbone_weights=backbone_weights,
        scalars=scalars or (),
        size=(size, size) if size else None,
        head=head,
        model_args={"factor": factor} if factor else None,
    )
    samples, held_back = hold_back(
        samples,
        opened,
        fraction=validation,
        seed=chosen.seed,
        official=lambda: open_validation_data(dataset, data, spec.task),
    )
    folder = out or Path("runs") / opened.spec.name
    if calibrate and held_back is None:
        raise OptionError("--calibrate requires validation samples; omit --validation 0")
    steps = f", {chosen.epochs} epochs" if spec.fit == "gradient" else ""
    print_status(f"training {opened.spec.name} on {len(samples)} samples{steps}; output: {folder}")
    api.train(
        opened,
        samples,
        validation=held_back,
        recipe=chosen,
        out=folder,
        resume=resume,
        devices=int(devices) if devices.isdigit() else devices,
        num_workers=num_workers,
    )
    if calibrate and held_back is not None:
        calibrate_and_save(opened, held_back, folder / "model")
    print(folder / "model")
