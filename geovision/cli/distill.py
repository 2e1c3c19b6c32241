"""`geovision distill`: a small model of fields, taught by a large one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geovision import api, registry
from geovision.cli._model_argument import open_model
from geovision.cli._output import examples, say
from geovision.cli.train import (
    Precision,
    _as_taken_by,
    _hold_back,
    _own_data,
    _training_split,
    choose_recipe,
)  # fmt: skip

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command("distill", epilog=examples(
        "geovision distill runs/downscale-maunet/model downscale-maunet-light --data MYRAIN",
        "geovision distill runs/downscale-maunet/model downscale-maunet-light --dataset iberia --data IBERIA",
    ))(distill)  # fmt: skip


def distill(
    teacher: Annotated[str, typer.Argument(help="A folder with a trained model, or a name with weights.")],
    student: Annotated[str, typer.Argument(help="A model's name, as `geovision list` shows it.")],
    data: Annotated[Path, typer.Option(help="Folder of the data.")],
    dataset: Annotated[
        str | None, typer.Option(help="Whose layout the data has, such as iberia; one's own if absent.")
    ] = None,
    share: Annotated[float, typer.Option(min=0, help="Of the loss against the teacher, below 1.")] = 0.5,
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
    epochs: Annotated[int | None, typer.Option(min=1, help="In all, instead of the recipe's.")] = None,
    recipe: Annotated[str | None, typer.Option(help="By name; the student's own if absent.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Fraction held back to watch, whole groups; 0.1 if absent."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    precision: Annotated[Precision, typer.Option(help="Arithmetic.")] = Precision.recipe,
) -> None:
    """Train a small model of fields on the truth and on what a large one says of the same samples.

    Writes checkpoints, logs and the trained model to --out, and prints where the model is.
    """
    spec = registry.find_model(student)
    chosen = choose_recipe(spec, recipe or "default", epochs, seed, precision, from_scratch=True)
    taught_by = open_model(teacher, None)
    dataset = dataset or _own_data(spec.task)
    samples = api.load_dataset(
        dataset, data, split=split or _training_split(dataset, spec.task), task=spec.task
    )
    samples = _as_taken_by(taught_by, samples)
    opened = api.create(student, model_args={"factor": factor} if factor else None, **samples.options())
    samples, held_back = _hold_back(samples, validation, dataset, data, opened, chosen.seed)
    folder = out or Path("runs") / f"{opened.spec.name}-distilled"
    say(
        f"{taught_by.spec.name} teaches {opened.spec.name} on {len(samples)} samples, {chosen.epochs} "
        f"epochs, into {folder}"
    )
    api.distill(
        taught_by,
        opened,
        samples,
        share=share,
        feature_weight=feature_weight,
        validation=held_back,
        recipe=chosen,
        out=folder,
        resume=resume,
    )
    print(folder / "model")
