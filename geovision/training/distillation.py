"""Knowledge refinement: train a small field model on the truth and on predictions of a large one.

See `geovision.training.teacher_targets` for the loss.
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
    """Train the student in place. See `geovision.distill`, which is this."""
    if not isinstance(student.target, FieldTarget) or teacher.target != student.target:
        raise OptionError(
            f"{teacher.spec.name} teaches {student.spec.name}: both have to answer the same field"
        )
    if student.spec.fit != "gradient":
        raise OptionError(f"{student.spec.name} is not trained by steps, so that nobody can teach it")
    if (recipe or student.recipe).augment != Augment():
        raise OptionError(
            "the teacher is asked once about each sample as it is; take a recipe without augment"
        )
    if not 0 <= alpha < 1:
        raise OptionError(f"alpha={alpha}: expected 0 or more and below 1")
    if feature_weight < 0:
        raise OptionError(f"feature_weight={feature_weight}: expected 0 or more")
    if feature_weight and teacher.spec.fit != "gradient":
        raise OptionError(f"{teacher.spec.name} has no maps to compare; leave feature_weight at 0")
    said, seen = _teacher_outputs(teacher, data, attend=feature_weight > 0)
    teaching = TeacherTargets(teacher.spec.name, said, alpha, seen, feature_weight)
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
        teacher_targets=teaching,
    )


@torch.no_grad()
def _teacher_outputs(teacher: GeoModel, data: GeoDataset, *, attend: bool) -> tuple[Tensor, Tensor | None]:
    """Its answers ``(sample, 1, y, x)`` and, where asked for, its attention ``(sample, y, x)``."""
    head: Any = teacher.head
    device = next((each.device for each in teacher.parameters()), torch.device("cpu"))
    known = {spec.name for spec in teacher.inputs}
    before = teacher.training
    teacher.eval()
    found, seen = [], []
    for batch in DataLoader(data, batch_size=_BATCH_SIZE, collate_fn=collate):  # type: ignore[arg-type]
        inputs = {name: each.to(device) for name, each in batch["inputs"].items() if name in known}
        valid = {name: each.to(device) for name, each in batch["valid"].items() if name in known}
        teacher.validate_inputs(inputs, valid=valid)
        with head_inputs(head) as features:
            output = teacher(inputs, valid=valid or None)
        said = head.estimate(output.values.float())
        if output.valid is not None:
            said = said.where(output.valid.expand_as(said), torch.nan)
        found.append(said.cpu())
        if attend:
            seen.append(attention(features[0]).cpu())
    teacher.train(before)
    return torch.cat(found), torch.cat(seen) if attend else None
