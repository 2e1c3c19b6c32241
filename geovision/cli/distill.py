"""`geovision distill`: a small model of fields, taught by a large one."""

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
        str | None, typer.Option(help="Whose layout the data has, such as iberia; your own if absent.")
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0, help="Weight of the loss against the teacher, 0 to below 1.")
    ] = 0.5,
    feature_weight: Annotated[
        float, typer.Option(min=0, help="Of where the last maps are at work, against the teacher's.")
    ] = 0.0,
    split: Annotated[str | None, typer.Option(help="Split to train on; `train` where there is one.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the trained model; runs/STUDENT-distilled if absent.")
    ] = None,
    factor: Annotated[
        int | None, typer.Option(min=1, help="How many times finer the student makes its grid.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Total number of epochs. Default: those of the recipe.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="By name; the student's own if absent.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Fraction held back to watch, whole groups; 0.1 if absent."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Random seed. Default: the seed of the recipe.")] = None,
    precision: Annotated[TrainingPrecision, typer.Option(help="Arithmetic.")] = TrainingPrecision.recipe,
) -> None:
    """Train a small model of fields on the truth and on what a large one says of the same samples.

    Writes checkpoints, logs and the trained model to --out, and prints where the model is.
    """
    spec = registry.find_model(student)
    dataset = dataset or default_layout(spec.task)

    from geovision.training import create_for, hold_back, select_recipe

    chosen = select_recipe(
        spec, recipe or "default", epochs=epochs, seed=seed, precision=precision.recipe_override
    )
    taught_by = open_model(teacher, None)
    samples = open_training_data(dataset, data, split, spec.task).adapt_to(taught_by)
    opened, samples = create_for(
        student,
        samples,
        predictors=taught_by.config.predictors,
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
        f"{taught_by.spec.name} teaches {opened.spec.name} on {len(samples)} samples, {chosen.epochs} "
        f"epochs, into {folder}"
    )
    api.distill(
        taught_by,
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
