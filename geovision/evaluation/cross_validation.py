"""Cross-validation by group: each model predicts groups that it has not seen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geovision import registry
from geovision._atomic_io import file_lock, write_text
from geovision.datasets.base import GeoDataset, HasPaths
from geovision.errors import OptionError
from geovision.evaluation.calibration import fit_temperature
from geovision.evaluation.classification import score_classes
from geovision.evaluation.dense import ensemble_for, score_dense
from geovision.evaluation.dense_predictions import DensePredictions, predict_batches
from geovision.evaluation.predictions import Predictions, collect_predictions
from geovision.evaluation.report import Report
from geovision.metrics import create as create_metric
from geovision.models.geomodel import GeoModel
from geovision.models.loading import read
from geovision.models.serialization import CONFIG
from geovision.provenance import data_digest
from geovision.spec import ClassTarget, Recipe
from geovision.training import create_for, hold_back, needs_validation, train

__all__ = ["calibrate_folds", "cross_validate", "fold_numbers"]

PREDICTIONS_NAME = "predictions.npz"
"""File with the class probabilities of a fold."""


def cross_validate(
    name: str,
    data: GeoDataset,
    *,
    out: str | Path,
    folds: int | Sequence[int] = 5,
    recipe: Recipe | None = None,
    predictors: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    devices: int | str = "auto",
    num_workers: int = 0,
    progress: bool = True,
    **options: Any,
) -> Report:
    """Train a new model for each fold and score all predictions.

    See `geovision.cross_validate`.

    Args:
        name: Name of the model.
        data: All samples.
        out: Folder of the cross-validation. An interrupted run is resumed.
        folds: Number of folds, or the fold of each sample. Default: 5.
        recipe: Recipe of each training. Default: that of the model, or of its task.
        predictors: Names of additional channels, see `geovision.training.create_for`. Default: None.
        n_bootstrap: Number of bootstrap resamples; 0 computes no intervals. Default: 1000.
        seed: Seed of the folds and of the bootstrap. Default: 0.
        devices: Devices of each training, as in `geovision.train`. Default: ``"auto"``.
        num_workers: Number of processes that load samples. Default: 0.
        progress: Whether to show progress bars. Default: True.
        **options: Further keywords of `geovision.create`.

    Raises:
        OptionError: The folds are invalid, or the folder contains another cross-validation.
        DatasetError: There are fewer groups than folds.
    """
    fold = fold_numbers(data, folds, seed=seed)
    run = _CrossValidation(
        name,
        data,
        Path(out),
        fold,
        recipe or _resolve_recipe(name),
        predictors,
        options,
        {"devices": devices, "num_workers": num_workers, "progress": progress},
    )
    run.check_identity()
    done = PREDICTIONS_NAME if isinstance(data.target, ClassTarget) else f"training/model/{CONFIG}"
    work = run.predict_fold if isinstance(data.target, ClassTarget) else run.train_fold
    for wait in (False, True):  # first unlocked folds, then those of other processes
        for number in run.fold_ids:
            _run_once(run.fold_dir(number), done, partial(work, number), wait=wait)
    report = (_class_report if isinstance(data.target, ClassTarget) else _dense_report)(
        run, n_bootstrap, seed
    )
    report.save(run.out / "report")
    return report


def fold_numbers(data: GeoDataset, folds: int | Sequence[int], *, seed: int = 0) -> np.ndarray:
    """Return the fold of each sample, int64, shape (sample,).

    Args:
        data: All samples.
        folds: Number of folds, or the fold of each sample.
        seed: Seed of the folds. Default: 0.

    Raises:
        OptionError: There are fewer than two folds, or not one number for each sample.
        DatasetError: There are fewer groups than folds.
    """
    if not isinstance(folds, int):
        given = np.asarray(folds, dtype=np.int64)
        if given.shape != (len(data),) or len(set(given.tolist())) < 2:
            raise OptionError(
                f"{len(data)} samples need as many fold numbers, of two folds or more; "
                f"got {len(given)} numbers of {len(set(given.tolist()))} folds"
            )
        return given
    if folds < 2:
        raise OptionError(f"cross-validation requires two folds or more, not {folds}")
    number = np.empty(len(data), dtype=np.int64)
    for fold, (_, test) in enumerate(data.folds(k=folds, seed=seed)):
        number[test] = fold
    return number


def calibrate_folds(predictions: Predictions) -> tuple[Predictions, dict[int, float]]:
    """Calibrate the predictions of each fold with the other folds.

    Args:
        predictions: Predictions of all folds, with logits.

    Returns:
        The same rows with calibrated probabilities, and the temperature of each fold.
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


# --- trainings ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _CrossValidation:
    """One cross-validation.

    Args:
        name: Name of the model.
        data: All samples.
        out: Folder of the cross-validation.
        fold: Fold of each sample, int64 ``(sample,)``.
        recipe: Recipe of each training.
        predictors: Names of additional channels, see `create_for`.
        options: Further keywords of `geovision.create`.
        train_options: Keywords of `geovision.train` that do not change the result.
    """

    name: str
    data: GeoDataset
    out: Path
    fold: np.ndarray
    recipe: Recipe
    predictors: Sequence[str] | None
    options: dict[str, Any]
    train_options: dict[str, Any]

    @property
    def fold_ids(self) -> list[int]:
        """Numbers of the folds."""
        return sorted(set(self.fold.tolist()))

    def fold_dir(self, number: int) -> Path:
        """Return the folder of a fold."""
        return self.out / f"fold-{number}"

    def indices(self, number: int) -> np.ndarray:
        """Return the positions of the samples of a fold."""
        return np.flatnonzero(self.fold == number)

    def load_model(self, number: int) -> GeoModel:
        """Read the trained model of a fold."""
        return read(self.fold_dir(number) / "training" / "model")

    def train_fold(self, number: int) -> tuple[GeoModel, GeoDataset]:
        """Train the model of a fold; return it with all samples as it expects them."""
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            model, data = create_for(self.name, self.data, predictors=self.predictors, **self.options)
        others = data.subset(np.flatnonzero(self.fold != number).tolist())
        fraction = None if needs_validation(self.recipe) else 0
        training, validation = hold_back(others, model, fraction=fraction, seed=self.recipe.seed)
        train(
            model,
            training,
            validation=validation,
            recipe=self.recipe,
            out=self.fold_dir(number) / "training",
            resume=True,
            **self.train_options,
        )
        return model, data

    def predict_fold(self, number: int) -> None:
        """Train the class model of a fold and store its predictions for the fold."""
        model, data = self.train_fold(number)
        places = self.indices(number)
        found = collect_predictions(
            model, data.subset(places.tolist()), features=True, progress=self.train_options["progress"]
        )
        assert found.positions is not None
        dataclasses.replace(
            found,
            positions=torch.from_numpy(places)[found.positions],
            folds=torch.full((len(found),), number),
        ).save(self.fold_dir(number) / PREDICTIONS_NAME)

    def identity(self) -> dict[str, Any]:
        """Return the values that identify this cross-validation, as JSON restores them."""
        names = self.data.paths if isinstance(self.data, HasPaths) else self.data.groups
        facts = {
            "model": self.name,
            # Reading every sample for its source would be slow; without paths, groups identify the samples.
            "sample_digest": data_digest([str(each) for each in names]),
            "fold_digest": hashlib.sha256(self.fold.tobytes()).hexdigest(),
            "fold_sizes": np.bincount(self.fold).tolist(),
            "recipe": dataclasses.asdict(self.recipe),
            "predictors": None if self.predictors is None else list(self.predictors),
            "options": self.options,
        }
        return json.loads(json.dumps(facts, default=_to_json))

    def check_identity(self) -> None:
        """Write the identity of the cross-validation to its folder, or compare it.

        Raises:
            OptionError: The folder contains another cross-validation.
        """
        path, facts = self.out / "cross_validation.json", self.identity()
        if not path.is_file():
            write_text(path, json.dumps(facts, indent=2) + "\n")
            return
        known = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in facts if known.get(key) != facts[key]]
        if different:
            raise OptionError(
                f"{self.out} contains another cross-validation with different {', '.join(different)}; "
                "choose another folder"
            )


def _to_json(value: Any) -> Any:
    """Convert the value of an option for JSON."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)  # type: ignore[arg-type]


def _run_once(folder: Path, output: str, work: Callable[[], Any], *, wait: bool) -> None:
    """Run a fold unless it is finished or another process runs it."""
    with file_lock(folder / "_lock", wait=wait) as free:
        if free and not (folder / output).is_file():
            work()


def _resolve_recipe(name: str) -> Recipe:
    spec = registry.find_model(name)
    return spec.recipe or registry.find_task(spec.task).recipe


# --- reports ------------------------------------------------------------------------------------


def _class_report(run: _CrossValidation, n_bootstrap: int, seed: int) -> Report:
    parts = [Predictions.load(run.fold_dir(number) / PREDICTIONS_NAME) for number in run.fold_ids]
    predictions, temperatures = calibrate_folds(Predictions.join(parts))
    return score_classes(
        predictions,
        run.data,
        provenance=run.identity() | {"temperatures": temperatures},
        notes=_notes(predictions, len(run.fold_ids), run.data, run.fold),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def _dense_report(run: _CrossValidation, n_bootstrap: int, seed: int) -> Report:
    model = run.load_model(run.fold_ids[0])
    data = run.data.adapt_to(model)
    ensemble = ensemble_for(model, data, seed=seed)

    def batches() -> Iterator[DensePredictions]:
        for number in run.fold_ids:
            part = data.subset(run.indices(number).tolist())
            yield from predict_batches(
                run.load_model(number), part, progress=run.train_options["progress"], ensemble=ensemble
            )

    uncalibrated = "; probabilities as trained" if model.target.kind == "mask" else ""
    notes = [
        f"Out of fold, {len(run.fold_ids)} folds{uncalibrated}.",
        *_split_group_notes(run.data, run.fold),
    ]
    order = np.concatenate([run.indices(number) for number in run.fold_ids])
    return score_dense(
        batches(),
        model,
        data.subset(order.tolist()),
        provenance=run.identity(),
        notes=notes,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def _notes(predictions: Predictions, folds: int, data: GeoDataset, fold: np.ndarray) -> list[str]:
    raw = predictions.at_temperature(1.0)
    metric = create_metric("calibration_error", ClassTarget(predictions.classes))
    before = float(metric(raw.probabilities, raw.labels))
    return [
        f"Out of fold, {folds} folds; calibrated by the other folds "
        f"(calibration error before: {before:.3f}).",
        *_split_group_notes(data, fold),
    ]


def _split_group_notes(data: GeoDataset, fold: np.ndarray) -> list[str]:
    """Return a warning if folds split groups."""
    places: dict[str, set[int]] = {}
    for group, number in zip(data.groups, fold.tolist(), strict=True):
        places.setdefault(group, set()).add(number)
    if cut := sum(len(numbers) > 1 for numbers in places.values()):
        return [
            f"The folds split {cut} of {len(places)} groups: near-duplicates are in several folds, "
            "and the scores are better than they would be on new data."
        ]
    return []
