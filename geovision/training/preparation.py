"""Preparation of a training: matching recipe, model, dataset and validation split."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from geovision import registry
from geovision.errors import DatasetError, OptionError
from geovision.spec import FieldTarget, ModelSpec, Recipe, resolve

if TYPE_CHECKING:
    from geovision.datasets.base import GeoDataset
    from geovision.models.geomodel import GeoModel

__all__ = ["FRACTION", "create_for", "hold_back", "needs_validation", "select_recipe"]

FRACTION = 0.1
"""Default fraction of the groups that is held back for validation."""


def create_for(
    name: str, data: GeoDataset, *, predictors: Sequence[str] | None = None, **options: Any
) -> tuple[GeoModel, GeoDataset]:
    """Create a model for a dataset, and adapt the dataset to it.

    Args:
        name: Name of the model, as for `geovision.create`.
        data: Samples to train on; their classes, grids and predictors become those of the model.
        predictors: Names of additional channels of the first input. Default: None, all channels of the
            dataset, or none for a model that uses the first channel only.
        **options: Further keywords of `geovision.create`; they take precedence over those of the dataset.

    Returns:
        The model in evaluation mode, and the samples in the form that it expects.

    Raises:
        OptionError: The dataset lacks a predictor, or the model an option.
    """
    if predictors is None and "first_channel" in registry.find_model(name).capabilities:
        predictors = ()
    if predictors is not None:
        data = data.with_predictors(predictors)
    create: Callable[..., GeoModel] = resolve("geovision.models.factory:create_model")
    model = create(name, **{**data.model_kwargs(), **options})
    return model, data.adapt_to(model)


def select_recipe(
    spec: ModelSpec,
    name: str | None = None,
    *,
    epochs: int | None = None,
    seed: int | None = None,
    precision: str | None = None,
    from_scratch: bool = False,
) -> Recipe:
    """Return a recipe of a model by name, with some values replaced.

    Args:
        spec: Registry entry of the model.
        name: Name of the recipe. Default: None, ``"scratch"`` for a model without pretrained backbone
            if the task has it, else ``"default"``.
        epochs: Total number of epochs. Default: that of the recipe.
        seed: Random seed. Default: that of the recipe.
        precision: Precision as in lightning. Default: that of the recipe.
        from_scratch: Whether the backbone is initialized at random. Default: False.

    Raises:
        OptionError: The task has no recipe of this name.
    """
    task = registry.find_task(spec.task)
    known = task.available_recipes(spec)
    # Training only the head on features of a random backbone is useless.
    name = name or ("scratch" if from_scratch and "scratch" in known else "default")
    if name not in known:
        raise OptionError(f"task {task.name!r} has no recipe {name!r}; known: {', '.join(known)}")
    changes: dict[str, Any] = {"seed": seed, "precision": precision}
    recipe = dataclasses.replace(known[name], **{k: v for k, v in changes.items() if v is not None})
    return recipe.with_epochs(epochs) if epochs else recipe


def needs_validation(recipe: Recipe) -> bool:
    """Return whether a recipe needs validation samples.

    Args:
        recipe: Training recipe.
    """
    watches = recipe.patience or any(stage.schedule == "plateau" for stage in recipe.stages)
    return recipe.keep == "best" or bool(watches and recipe.monitor == "val_loss")


def hold_back(
    data: GeoDataset,
    model: GeoModel,
    *,
    fraction: float | None = None,
    seed: int = 0,
    official: Callable[[], GeoDataset | None] = lambda: None,
) -> tuple[GeoDataset, GeoDataset | None]:
    """Split samples into those for training and those for validation, by group.

    Args:
        data: Samples, adapted to the model.
        model: The model to be trained.
        fraction: Fraction of the groups for validation; 0 holds none back. Default: None, the official
            validation split, else `FRACTION`; none for field models in closed form, which do not use it.
        seed: Seed of the random split. Default: 0.
        official: Function that opens the official validation split, or returns None. Default: no such split.

    Returns:
        Samples for training, and for validation or None.

    Raises:
        DatasetError: There are fewer than two groups.
    """
    unused = model.spec.fit != "gradient" and isinstance(model.target, FieldTarget)
    if fraction == 0 or (fraction is None and unused):
        return data, None
    validation = None
    if fraction is None:
        with contextlib.suppress(DatasetError):  # the files may lack the split
            validation = official()
    if validation is not None:
        return data, validation.adapt_to(model)
    try:
        return data.group_split(fraction or FRACTION, seed=seed)
    except DatasetError as error:
        raise DatasetError(f"{error}; fraction 0 (--validation 0) holds none back") from error
