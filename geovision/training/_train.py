"""Training by the method that the registry entry of a model specifies."""

from __future__ import annotations

import time
from pathlib import Path

from geovision import registry
from geovision.datasets.base import GeoDataset
from geovision.errors import MissingExtraError, OptionError
from geovision.models.geomodel import GeoModel
from geovision.spec import Recipe
from geovision.training import closed_form
from geovision.training.feature_extraction import fit_outlier_score
from geovision.training.run_dir import RunDir, describe_run
from geovision.training.teacher_targets import TeacherTargets
from geovision.training.training_record import build_training_record

__all__ = ["train"]


def train(
    model: GeoModel,
    data: GeoDataset,
    *,
    validation: GeoDataset | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    devices: int | str = "auto",
    num_workers: int = 0,
    progress: bool = True,
    teacher_targets: TeacherTargets | None = None,
) -> GeoModel:
    """Train a model in place.

    `geovision.train` is the public form of this function.

    Args:
        model: Model to train.
        data: Training samples.
        validation: Samples for early stopping and the log, which are not trained on. Default: None.
        recipe: Training recipe. Default: None, the recipe of the model.
        out: Folder for checkpoints, logs and the trained model. Default: None, no files.
        resume: Whether to continue from the last checkpoint in `out`. Default: False.
        devices: Number of devices, or ``"auto"``. Default: ``"auto"``.
        num_workers: Number of loader processes; 0 loads in this process. Default: 0.
        progress: Whether to show a progress bar on stderr. Default: True.
        teacher_targets: Predictions of a teacher for the samples. Default: None.

    Returns:
        The same model in evaluation mode.

    Raises:
        OptionError: `resume` is given without `out`, the folder contains another training, or the recipe or
            the data do not fit the model.
        MissingExtraError: Lightning is not installed.
    """
    if resume and out is None:
        raise OptionError("resume=True needs the folder of the training; pass out=")
    if not data.synchronous and "unpaired" not in model.spec.capabilities:
        unpaired = [
            name
            for name in registry.list_models(task=model.task.name)
            if "unpaired" in registry.find_model(name).capabilities
        ]
        raise OptionError(
            f"the inputs of {data.card.name} are not paired with its targets, but {model.spec.name} is "
            f"trained on pairs. Models without this requirement: {', '.join(unpaired) or 'none of this task'}"
        )
    model.card, model.weight = "", None  # they describe the weights before training
    recipe = recipe or model.recipe
    folder = RunDir(Path(out)) if out else None
    if folder:
        described = describe_run(model, data, validation, recipe)
        if teacher_targets:
            described["teacher"] = {
                "name": teacher_targets.name,
                "share": teacher_targets.share,
                "feature_weight": teacher_targets.feature_weight,
            }
        folder.open(described, resume=resume)
        if folder.finished:
            return _load_finished(model, folder)
    if model.spec.fit == "gradient":
        _train_by_gradient(
            model, data, validation, recipe, folder, devices, num_workers, progress, teacher_targets
        )
    else:
        start = time.perf_counter()
        if model.spec.fit == "closed_form":
            closed_form.fit(model, data, progress=progress)
        model.training_record = build_training_record(data, None, seconds=time.perf_counter() - start)
    model.eval()
    fit_outlier_score(model, data, validation, progress=progress)
    if folder:
        model.save(folder.model)
    return model


def _load_finished(model: GeoModel, folder: RunDir) -> GeoModel:
    from geovision.models.loading import read

    trained = read(folder.model)
    model.load_state_dict(trained.state_dict())
    model.training_record = trained.training_record
    return model.eval()


def _train_by_gradient(
    model: GeoModel,
    data: GeoDataset,
    validation: GeoDataset | None,
    recipe: Recipe,
    folder: RunDir | None,
    devices: int | str,
    workers: int,
    progress: bool,
    teacher_targets: TeacherTargets | None,
) -> None:
    try:
        import lightning  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("lightning", "train") from error
    from geovision.training import trainer

    job = trainer.TrainingRun(
        model, data, validation, recipe, folder, devices, workers, progress, teacher_targets
    )
    trainer.fit_gradient(job)
    model.training_record = build_training_record(
        data,
        recipe,
        seconds=sum(row["seconds"] for row in job.rows),
        epochs=len(job.rows),
        steps=job.rows[-1]["step"],
        last=job.rows[-1],
    )
