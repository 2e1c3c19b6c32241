"""Cross-validation: every sample is judged by a model that saw neither it nor its group."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geovision import api, registry
from geovision._atomic_io import file_lock, write_text
from geovision.datasets.base import GeoDataset
from geovision.errors import DatasetError, OptionError
from geovision.evaluation.calibration import fit_temperature
from geovision.evaluation.classification import ClassReport, score
from geovision.evaluation.predictions import Predictions, collect
from geovision.metrics import create as create_metric
from geovision.models.geomodel import GeoModel
from geovision.provenance import data_digest
from geovision.spec import ClassTarget, Recipe

__all__ = ["calibrated", "cross_validate", "fold_numbers"]

ANSWERS = "predictions.npz"
_INNER = 0.1
"""Fraction of the training groups that early stopping looks at, where a recipe asks for it."""


def cross_validate(
    name: str, data: GeoDataset, *, out: str | Path, folds: int | Sequence[int] = 5,
    recipe: Recipe | None = None, backbone_weights: str | Path | None = None,
    size: tuple[int, int] | None = None, dropout: float | None = None, bootstrap: int = 1000, seed: int = 0,
    devices: int | str = "auto", workers: int = 0, progress: bool = True,
) -> ClassReport:  # fmt: skip
    """Train a fresh model for each fold, ask it about the samples it did not see, score all answers
    together.

    Probabilities are calibrated, and no sample has a part in its own calibration: the temperature of
    a fold is fitted to the answers of all other folds. A fold that is finished is read back from
    `out`, so that a killed run goes on where it was. Several processes that are given the same `out`
    share the folds among them: each takes those that no other is at.

    Args:
        name: Of the model, as for `geovision.create`.
        data: With its own classes where they are not the task's.
        out: Folder; each fold's training and answers stand in ``fold-N``, the report in ``report``.
        folds: How many, drawn by group with classes spread evenly; or the fold of each sample.
        recipe: Instead of the registry's. Where it stops early, a tenth of the training groups is
            what it looks at, never the fold's own samples.
        backbone_weights, size, dropout: As for `geovision.create`.
        bootstrap: Resamples; 0 gives no intervals.
        seed: Of the folds and of the resampling.
        devices, workers, progress: As for `geovision.train`.

    Returns:
        The report over all samples, also saved.

    Raises:
        OptionError: `out` holds another cross-validation, or fewer than two folds.
        DatasetError: The data set cannot be divided so.
    """
    out, recipe = Path(out), recipe or _recipe(name)
    fold = fold_numbers(data, folds, seed=seed)
    numbers = sorted(set(fold.tolist()))
    facts = _facts(name, data, fold, recipe, backbone_weights, size, dropout)
    _claim(out, facts)

    def train_and_ask(number: int) -> None:
        model = _fresh(name, data, recipe, backbone_weights, size, dropout)
        training, inner = _inner(data.subset(np.flatnonzero(fold != number).tolist()), recipe)
        folder = out / f"fold-{number}"
        api.train(
            model, training, validation=inner, recipe=recipe, out=folder / "training",
            resume=True, devices=devices, workers=workers, progress=progress,
        )  # fmt: skip
        _ask(model, data, fold, number, progress).save(folder / ANSWERS)

    for wait in (False, True):  # first what is free, then what others were at
        for number in numbers:
            _once(out / f"fold-{number}", partial(train_and_ask, number), wait=wait)
    parts = [Predictions.load(out / f"fold-{number}" / ANSWERS) for number in numbers]
    predictions, temperatures = calibrated(Predictions.join(parts))
    report = score(
        predictions, data, facts=facts | {"temperatures": temperatures},
        notes=_notes(predictions, len(numbers), data, fold), resamples=bootstrap, seed=seed,
    )  # fmt: skip
    report.save(out / "report")
    return report


def fold_numbers(data: GeoDataset, folds: int | Sequence[int], *, seed: int = 0) -> np.ndarray:
    """The fold of each sample, int64 ``(sample,)``.

    Args:
        folds: How many; or the fold of each sample, taken as it is.

    Raises:
        OptionError: Fewer than two folds, or not one number for each sample.
        DatasetError: There are fewer groups than folds.
    """
    if not isinstance(folds, int):
        given = np.asarray(folds, dtype=np.int64)
        if given.shape != (len(data),) or len(set(given.tolist())) < 2:
            raise OptionError(f"{len(data)} samples need as many fold numbers, of two folds or more; "
                              f"got {len(given)} numbers of {len(set(given.tolist()))} folds")  # fmt: skip
        return given
    if folds < 2:
        raise OptionError(f"cross-validation takes two folds or more, not {folds}")
    number = np.empty(len(data), dtype=np.int64)
    if hasattr(data, "folds"):  # classes spread evenly
        for fold, (_, test) in enumerate(data.folds(k=folds, seed=seed)):
            number[test] = fold
        return number
    groups = sorted(set(data.groups))
    if len(groups) < folds:
        raise DatasetError(f"{data.card.name}: {len(groups)} groups are too few for {folds} folds")
    order = np.random.default_rng(seed).permutation(len(groups))
    fold_of = {groups[group]: place % folds for place, group in enumerate(order)}
    return np.array([fold_of[group] for group in data.groups], dtype=np.int64)


def calibrated(predictions: Predictions) -> tuple[Predictions, dict[int, float]]:
    """Each fold's answers at the temperature that suits the answers of the other folds.

    Args:
        predictions: Of all folds, with logits.

    Returns:
        The same rows with other probabilities, and the temperature of each fold.
    """
    assert predictions.logits is not None
    assert predictions.folds is not None
    found = {}
    scale = torch.ones(len(predictions))
    for number in predictions.folds.unique().tolist():
        own = predictions.folds == number
        found[number] = fit_temperature(predictions.logits[~own], predictions.labels[~own])
        scale[own] = found[number]
    return predictions.at_temperature(scale), found


# --- steps --------------------------------------------------------------------------------------


def _once(folder: Path, work: Callable[[], None], *, wait: bool) -> None:
    """Do what leaves the answers of one fold, unless they are there or another process is at it."""
    with file_lock(folder / "_lock", wait=wait) as free:
        if free and not (folder / ANSWERS).is_file():
            work()


def _recipe(name: str) -> Recipe:
    spec = registry.find_model(name)
    return spec.recipe or registry.find_task(spec.task).recipe


def _facts(
    name: str, data: GeoDataset, fold: np.ndarray, recipe: Recipe, backbone_weights: str | Path | None,
    size: tuple[int, int] | None, dropout: float | None,
) -> dict[str, Any]:  # fmt: skip
    """What makes this cross-validation that one, as it comes back from a file."""
    facts = {
        "model": name,
        # Reading every sample for its source would take long; groups do where there are no paths.
        "sample_digest": data_digest([str(path) for path in getattr(data, "paths", data.groups)]),
        "fold_digest": hashlib.sha256(fold.tobytes()).hexdigest(),
        "fold_sizes": np.bincount(fold).tolist(),
        "recipe": dataclasses.asdict(recipe),
        "backbone_weights": str(backbone_weights) if backbone_weights else None,
        "size": size,
        "dropout": dropout,
    }
    return json.loads(json.dumps(facts))


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Make the folder this cross-validation's own, or see that it is."""
    path = out / "cross_validation.json"
    if not path.is_file():
        write_text(path, json.dumps(facts, indent=2) + "\n")
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    different = [key for key in facts if known.get(key) != facts[key]]
    if different:
        raise OptionError(f"{out}: holds another cross-validation, of other {', '.join(different)}; "
                          "choose another folder")  # fmt: skip


def _fresh(
    name: str, data: GeoDataset, recipe: Recipe, backbone_weights: str | Path | None,
    size: tuple[int, int] | None, dropout: float | None,
) -> GeoModel:  # fmt: skip
    own = registry.find_task(data.task).target
    target = data.target
    classes = None
    if isinstance(target, ClassTarget) and isinstance(own, ClassTarget) and target.classes != own.classes:
        classes = target.classes
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return api.create(
            name, classes=classes, backbone_weights=backbone_weights, size=size, drop_rate=dropout
        )


def _inner(training: GeoDataset, recipe: Recipe) -> tuple[GeoDataset, GeoDataset | None]:
    """What is trained on, and what early stopping looks at."""
    if recipe.patience == 0 and recipe.keep == "last":
        return training, None
    return training.group_split(_INNER, seed=recipe.seed)


def _ask(model: GeoModel, data: GeoDataset, fold: np.ndarray, number: int, progress: bool) -> Predictions:
    """The answers of a fold's model about the fold, in their places in the whole data set."""
    places = np.flatnonzero(fold == number)
    answers = collect(model, data.subset(places.tolist()), features=True, progress=progress)
    assert answers.positions is not None
    return dataclasses.replace(
        answers,
        positions=torch.from_numpy(places)[answers.positions],
        folds=torch.full((len(answers),), number),
    )


def _notes(predictions: Predictions, folds: int, data: GeoDataset, fold: np.ndarray) -> list[str]:
    raw = predictions.at_temperature(1.0)
    metric = create_metric("calibration_error", ClassTarget(predictions.classes))
    before = float(metric(raw.probabilities, raw.labels))
    notes = [
        f"Out of fold, {folds} folds; calibrated by the other folds (calibration error before: {before:.3f})."
    ]
    places: dict[str, set[int]] = {}
    for group, number in zip(data.groups, fold.tolist(), strict=True):
        places.setdefault(group, set()).add(number)
    if cut := sum(len(numbers) > 1 for numbers in places.values()):
        notes.append(f"The folds cut {cut} of {len(places)} groups: near-duplicates stand on both sides, "
                     "and the scores are better than they would be on new data.")  # fmt: skip
    return notes
