"""Training of a field model on targets and predictions of a teacher.

This is knowledge refinement. See `geovision.training.teacher_targets` for the loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geovision.datasets.base import GeoDataset, collate
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel
from geovision.spec import Augment, FieldTarget, Recipe
from geovision.training._train import train
from geovision.training.teacher_targets import TeacherTargets, attention, head_inputs

__all__ = ["distill"]

_BATCH_SIZE = 64
"""Samples per forward pass of the teacher."""


def distill(
    teacher: GeoModel,
    student: GeoModel,
    data: GeoDataset,
    *,
    alpha: float = 0.5,
    feature_weight: float = 0.0,
    validation: GeoDataset | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    devices: int | str = "auto",
    num_workers: int = 0,
    progress: bool = True,
) -> GeoModel:
    """Train a student on targets and predictions of a teacher, in place.

    `geovision.distill` is the public form of this function.

    Args:
        teacher: Trained model of the same field; it predicts each sample once.
        student: Model to train.
        data: Training samples, valid for both models.
        alpha: Weight of the loss against the teacher, at least 0 and below 1. Default: 0.5.
        feature_weight: Weight of the distance between the attention maps of both models. Default: 0, none.
        validation: Samples for early stopping and the log, which are not trained on. Default: None.
        recipe: Training recipe. Default: None, the recipe of the student.
        out: Folder for checkpoints, logs and the trained model. Default: None, no files.
        resume: Whether to continue from the last checkpoint in `out`. Default: False.
        devices: Number of devices, or ``"auto"``. Default: ``"auto"``.
        num_workers: Number of loader processes; 0 loads in this process. Default: 0.
        progress: Whether to show a progress bar on stderr. Default: True.

    Returns:
        The student in evaluation mode.

    Raises:
        OptionError: The models predict different fields, the student is not trained by gradient descent, the
            recipe has augmentation, or a weight is invalid.
    """
    if not isinstance(student.target, FieldTarget) or teacher.target != student.target:
        raise OptionError(
            f"teacher {teacher.spec.name} and student {student.spec.name} have different targets; both must "
            "predict the same field"
        )
    if student.spec.fit != "gradient":
        raise OptionError(
            f"{student.spec.name} is not trained by gradient descent and cannot be a distillation student"
        )
    if (recipe or student.recipe).augment != Augment():
        raise OptionError(
            "the teacher predicts each sample once, without augmentation; pass a recipe without augment="
        )
    if not 0 <= alpha < 1:
        raise OptionError(f"alpha={alpha} is invalid; expected 0 or more and below 1")
    if feature_weight < 0:
        raise OptionError(f"feature_weight={feature_weight} is negative; expected 0 or more")
    if feature_weight and teacher.spec.fit != "gradient":
        raise OptionError(f"{teacher.spec.name} has no feature maps to compare; leave feature_weight at 0")
    predictions, attention_maps = _teacher_outputs(teacher, data, with_attention=feature_weight > 0)
    teacher_targets = TeacherTargets(teacher.spec.name, predictions, alpha, attention_maps, feature_weight)
    return train(
        student,
        data,
        validation=validation,
        recipe=recipe,
        out=out,
        resume=resume,
        devices=devices,
        num_workers=num_workers,
        progress=progress,
        teacher_targets=teacher_targets,
    )


@torch.no_grad()
def _teacher_outputs(
    teacher: GeoModel, data: GeoDataset, *, with_attention: bool
) -> tuple[Tensor, Tensor | None]:
    """Return predictions and optionally attention maps of the teacher."""
    head: Any = teacher.head
    device = next((each.device for each in teacher.parameters()), torch.device("cpu"))
    known = {spec.name for spec in teacher.inputs}
    before = teacher.training
    teacher.eval()
    predictions, attention_maps = [], []
    for batch in DataLoader(data, batch_size=_BATCH_SIZE, collate_fn=collate):  # type: ignore[arg-type]
        inputs = {name: each.to(device) for name, each in batch["inputs"].items() if name in known}
        valid = {name: each.to(device) for name, each in batch["valid"].items() if name in known}
        teacher.validate_inputs(inputs, valid=valid)
        with head_inputs(head) as features:
            output = teacher(inputs, valid=valid or None)
        predicted = head.estimate(output.values.float())
        if output.valid is not None:
            predicted = predicted.where(output.valid.expand_as(predicted), torch.nan)
        predictions.append(predicted.cpu())
        if with_attention:
            attention_maps.append(attention(features[0]).cpu())
    teacher.train(before)
    return torch.cat(predictions), torch.cat(attention_maps) if with_attention else None
