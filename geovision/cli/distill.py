"""Command `geovision distill`: train a small field model with a large one as teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geovision import api, registry
from geovision.cli._data_argument import default_layout, open_training_data, open_validation_data
from geovision.cli._model_argument import open_model
from geovision.cli._output import examples_epilog, print_status
from geovision.cli.train import TrainingPrecision

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `distill` to the application."""
    app.command(
        "distill",
        epilog=examples_epilog(
            "geovision distill runs/downscale-maunet/model downscale-maunet-light --data MYRAIN",
            "geovision distill runs/maunet/model downscale-maunet-light --dataset iberia --data IBERIA",
        ),
    )(distill)


def distill(
    teacher: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    student: Annotated[str, typer.Argument(help="Name of a model, as printed by `geovision list`.")],
    data: Annotated[Path, typer.Option(help="Folder of the data.")],
    dataset: Annotated[
        str | None,
        typer.Option(help="Layout of the data, such as iberia. Default: the layout for your data."),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0, help="Weight of the loss against the teacher, from 0 to below 1.")
    ] = 0.5,
    feature_weight: Annotated[
        float,
        typer.Option(
            min=0, help="Weight of the attention loss between the last feature maps of student and teacher."
        ),
    ] = 0.0,
    split: Annotated[
        str | None, typer.Option(help="Training split. Default: `train` if official, else all samples.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder of the trained model. Default: runs/STUDENT-distilled."),
    ] = None,
    factor: Annotated[
        int | None,
        typer.Option(min=1, help="Refinement factor of the student: ratio of input to output grid spacing."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Total number of epochs. Default: those of the recipe.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe. Default: the recipe of the student.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="Fraction of samples for validation, in whole groups. Default: the official validation "
            "split, or 0.1.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Random seed. Default: the seed of the recipe.")] = None,
    precision: Annotated[
        TrainingPrecision, typer.Option(help="Floating-point precision of the training.")
    ] = TrainingPrecision.recipe,
) -> None:
    """Train a small field model on targets and predictions of a large one.

    Checkpoints, logs and the trained model are written to --out. The path of the model is
    printed.
    """
    spec = registry.find_model(student)
    dataset = dataset or default_layout(spec.task)

    from geovision.training import create_for, hold_back, select_recipe

    chosen = select_recipe(
        spec, recipe or "default", epochs=epochs, seed=seed, precision=precision.recipe_override
    )
    teacher_model = open_model(teacher, None)
    samples = open_training_data(dataset, data, split, spec.task).adapt_to(teacher_model)
    opened, samples = create_for(
        student,
        samples,
        predictors=teacher_model.config.predictors,
        model_args={"factor": factor} if factor else None,
    )
    samples, held_back = hold_back(
        samples,
        opened,
        fraction=validation,
        seed=chosen.seed,
        official=lambda: open_validation_data(dataset, data, spec.task),
    )
    folder = out or Path("runs") / f"{opened.spec.name}-distilled"
    print_status(
        f"distilling {teacher_model.spec.name} into {opened.spec.name}: {len(samples)} samples, "
        f"{chosen.epochs} epochs, output {folder}"
    )
    api.distill(
        teacher_model,
        opened,
        samples,
        alpha=alpha,
        feature_weight=feature_weight,
        validation=held_back,
        recipe=chosen,
        out=folder,
        resume=resume,
    )
    print(folder / "model")
