"""`geovision train`, `calibrate` and `evaluate`: a model and a data set, by name."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geovision import api, registry
from geovision.cli._model_argument import model_folder, open_model
from geovision.cli._output import examples, say, write_json
from geovision.errors import DatasetError, OptionError
from geovision.spec import ClassTarget, FieldTarget, ModelSpec, Recipe, resolve

if TYPE_CHECKING:
    from geovision.datasets.base import GeoDataset
    from geovision.models.geomodel import GeoModel

__all__ = ["choose_recipe", "register"]

OWN_DATA = "folder"
"""The data set that reads a folder a class, or a CSV, of one's own."""

_DATA = "Folder of the data; for one's own, a folder a class or a CSV, or grids.toml beside grids."
_DATASET = "Whose layout the data has, such as ccsn; one's own if absent."


class Precision(enum.StrEnum):
    """Arithmetic of training, as lightning calls it."""

    recipe = "recipe"
    auto = "auto"
    float32 = "32-true"
    bfloat16 = "bf16-mixed"
    float16 = "16-mixed"


def register(app: typer.Typer) -> None:
    app.command("train", epilog=examples(
        "geovision train cloud-mobilenetv2 --data my_folder",
        "geovision train cloud-vit --dataset ccsn --data CCSN_v2 --backbone-weights imagenet --out runs/vit",
        "the same with --resume after an interruption",
    ))(train)  # fmt: skip
    app.command("calibrate", epilog=examples(
        "geovision calibrate runs/hail --dataset hail-samples --data OTHER_DAYS",
        "geovision calibrate runs/mine --data photos_of_another_year --out runs/mine-calibrated",
    ))(calibrate)  # fmt: skip
    app.command("evaluate", epilog=examples(
        "geovision evaluate runs/vit --dataset ccsn --data CCSN_v2 --split test --out report",
        "geovision evaluate cloud-mobilenetv2 --data my_folder --json",
    ))(evaluate)  # fmt: skip


def train(
    model: Annotated[str, typer.Argument(help="A model's name, as `geovision list` shows it.")],
    data: Annotated[Path, typer.Option(help=_DATA)],
    dataset: Annotated[str | None, typer.Option(help=_DATASET)] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to train on, or years such as 1985-1992; `train` where there is one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the trained model; runs/MODEL if absent.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="In all, instead of the recipe's.")] = None,
    backbone_weights: Annotated[
        str | None, typer.Option(help="`imagenet`, a timm tag, or a .safetensors file to begin from.")
    ] = None,
    scalars: Annotated[
        list[str] | None, typer.Option(help="A measurement taken beside the photo; may be repeated.")
    ] = None,
    predictors: Annotated[
        list[str] | None,
        typer.Option(
            help="A field beside rain; may be repeated. If absent, all that the data have, or none "
            "where the model looks at rain alone."
        ),
    ] = None,
    head: Annotated[str, typer.Option(help="One of the task's heads, such as quantiles.")] = "",
    factor: Annotated[
        int | None, typer.Option(min=1, help="How many times finer a network of fields makes its grid.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="By name; if absent, `scratch` without backbone weights, else the model's own."),
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Height and width of the input, pixels.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="Fraction held back to watch, whole groups. If absent, the `val` split of the data, or 0.1.",
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="In the end, fit the probabilities to what was held back.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    precision: Annotated[Precision, typer.Option(help="Arithmetic.")] = Precision.recipe,
    devices: Annotated[str, typer.Option(help="`auto` or a number.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data; 0: in this one.")] = 0,
) -> None:
    """Train a model on a data set; data of one's own trains with its own classes.

    Writes checkpoints, logs and the trained model to --out, and prints where the model is.
    """
    spec = registry.find_model(model)
    chosen = choose_recipe(spec, recipe, epochs, seed, precision, from_scratch=backbone_weights is None)
    dataset = dataset or _own_data(spec.task)
    samples = api.load_dataset(
        dataset, data, split=split or _training_split(dataset, spec.task), task=spec.task, synchronous=False
    )
    if predictors is None and "first_channel" in spec.capabilities:
        predictors = []
    if predictors is not None:
        samples = _with_predictors(samples, predictors)
    opened = api.create(
        model, classes=_own_classes(spec, samples), backbone_weights=backbone_weights,
        scalars=scalars or (), size=(size, size) if size else None, head=head,
        model_args={"factor": factor} if factor else None, **samples.options(),
    )  # fmt: skip
    samples = _as_taken_by(opened, samples)
    samples, held_back = _hold_back(samples, validation, dataset, data, opened, chosen.seed)
    folder = out or Path("runs") / opened.spec.name
    if calibrate and held_back is None:
        raise OptionError("--calibrate needs samples that are not trained on; leave out --validation 0")
    steps = f", {chosen.epochs} epochs" if spec.fit == "gradient" else ""
    say(f"training {opened.spec.name} on {len(samples)} samples{steps}, into {folder}")
    api.train(
        opened, samples, validation=held_back, recipe=chosen, out=folder, resume=resume,
        devices=int(devices) if devices.isdigit() else devices, workers=workers,
    )  # fmt: skip
    if calibrate and held_back is not None:
        _calibrate(opened, held_back, folder / "model")
    print(folder / "model")


def calibrate(
    model: Annotated[str, typer.Argument(help="A folder with a trained model, or a name with weights.")],
    data: Annotated[Path, typer.Option(help="Folder of data that were neither trained on nor are scored.")],
    dataset: Annotated[str | None, typer.Option(help=_DATASET)] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to fit to, such as val; everything if absent.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Tag or folder; the default weights if absent.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model; its own if absent.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a forward pass.")] = 32,
) -> None:
    """Fit the probabilities of a model of classes or masks to what happened, and keep that with its weights.

    Prints where the model is.
    """
    folder = out or model_folder(model)
    opened = open_model(model, weights)
    samples = _labelled_samples(opened, dataset, data, split)
    _calibrate(opened, samples, folder, batch_size)
    print(folder)


def _calibrate(model: GeoModel, samples: GeoDataset, folder: Path, batch_size: int = 32) -> None:
    from geovision.evaluation import calibrate_on

    found = calibrate_on(model, samples, batch_size=batch_size)
    told = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
    say(f"probabilities fitted to {len(samples)} samples: {told}")
    model.save(folder, card=model.card if model.weight else "")


def choose_recipe(
    spec: ModelSpec, name: str | None, epochs: int | None, seed: int | None, precision: Precision,
    *, from_scratch: bool,
) -> Recipe:  # fmt: skip
    """The recipe that the options describe.

    Raises:
        OptionError: The task has no recipe of this name.
    """
    task = registry.find_task(spec.task)
    known = task.recipes_of(spec)
    # A probe of features that nobody trained teaches nothing.
    name = name or ("scratch" if from_scratch and "scratch" in known else "default")
    if name not in known:
        raise OptionError(f"task {task.name!r} has no recipe {name!r}; known: {', '.join(known)}")
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if precision is not Precision.recipe:
        changes["precision"] = precision.value
    recipe = dataclasses.replace(known[name], **changes)
    return recipe.with_epochs(epochs) if epochs else recipe


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name, or a folder with a trained model.")],
    data: Annotated[Path, typer.Option(help=_DATA)],
    dataset: Annotated[str | None, typer.Option(help=_DATASET)] = None,
    split: Annotated[str | None, typer.Option(help="Split to score; everything if absent.")] = None,
    weights: Annotated[str | None, typer.Option(help="Tag or folder; the default weights if absent.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report with its figures.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the intervals; 0: none.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a forward pass.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the resampling, and of members.")] = 0,
    members: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of an ensemble of fields, drawn from the head's distribution or with the dropout left on. "
            "If absent, what the model has of itself; 0: none.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document.")] = False,
) -> None:
    """Score a model on a data set by the metrics of its task, with bootstrap intervals over groups."""
    opened = open_model(model, weights)
    samples = _labelled_samples(opened, dataset, data, split)
    report = api.evaluate(
        opened, samples, batch_size=batch_size, bootstrap=bootstrap, seed=seed, members=members, progress=True
    )
    if as_json:
        write_json(report.as_dict())
    else:
        print(report.text())
    if out:
        say(f"the report with its figures is in {report.save(out)}")


def _labelled_samples(model: GeoModel, dataset: str | None, data: Path, split: str | None) -> GeoDataset:
    """Samples as a trained model takes them, with its own names of their labels."""
    dataset = dataset or _own_data(model.task.name)
    samples = api.load_dataset(dataset, data, split=split, task=model.task.name, synchronous=False)
    samples = _as_taken_by(model, samples)
    return _labelled_for(model, samples) if dataset == OWN_DATA else samples


def _own_data(task: str) -> str:
    """What data of one's own are read as: a folder a class, or what the task has for grids."""
    found = registry.find_task(task)
    return OWN_DATA if isinstance(found.target, ClassTarget) else found.dataset


def _with_predictors(samples: GeoDataset, names: Sequence[str]) -> GeoDataset:
    from geovision.datasets.paired_grids import GridPairs

    if not isinstance(samples, GridPairs):
        raise OptionError(f"{samples.card.name} has no predictors to choose from")
    return samples.with_predictors(names)


def _training_split(name: str, task: str) -> str | None:
    """``train`` where the data set has an official one; otherwise everything."""
    adapter: type[GeoDataset] = resolve(registry.dataset_reference(name, task)[1])
    return "train" if "train" in adapter.splits else None


def _hold_back(
    samples: GeoDataset, fraction: float | None, dataset: str, root: Path, model: GeoModel, seed: int
) -> tuple[GeoDataset, GeoDataset | None]:
    """What is trained on, and what is only watched."""
    if fraction == 0 or (fraction is None and _has_no_use_for(model)):
        return samples, None
    if fraction is None and "val" in samples.splits:
        with contextlib.suppress(DatasetError):  # this very data may lack the split
            held_back = api.load_dataset(dataset, root, split="val", task=model.task.name)
            return samples, _as_taken_by(model, held_back)
    try:
        return samples.group_split(fraction or 0.1, seed=seed)
    except DatasetError as error:
        raise DatasetError(f"{error}; --validation 0 holds none back") from error


def _has_no_use_for(model: GeoModel) -> bool:
    """Whether nothing watches samples that are held back: fields by statistics are fitted in one go."""
    return model.spec.fit != "gradient" and isinstance(model.target, FieldTarget)


def _own_classes(spec: ModelSpec, samples: GeoDataset) -> tuple[str, ...] | None:
    """The classes of the data where they are others than the task's."""
    target, own = samples.target, registry.find_task(spec.task).target
    if isinstance(target, ClassTarget) and isinstance(own, ClassTarget) and target.classes != own.classes:
        return target.classes
    return None


def _as_taken_by(model: GeoModel, samples: GeoDataset) -> GeoDataset:
    """The samples at the size and with the measurements that a model takes."""
    from geovision.datasets.image_classification import ImageDataset
    from geovision.datasets.paired_grids import GridPairs

    if isinstance(samples, GridPairs):
        return samples.with_predictors(model.config.predictors)
    if not isinstance(samples, ImageDataset):
        return samples
    samples = samples.with_scalars(model.config.scalars)
    size = model.inputs[0].size
    return samples.with_size(size) if size else samples


def _labelled_for(model: GeoModel, samples: GeoDataset) -> GeoDataset:
    """One's own labels as the model's classes: a folder ``cumulus`` is ``Cu``."""
    from geovision.datasets.image_classification import ImageDataset

    if isinstance(samples, ImageDataset) and isinstance(model.target, ClassTarget):
        return samples.with_classes(model.target.classes)
    return samples
