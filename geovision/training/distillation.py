"""Knowledge refinement: a small network of fields trained on the truth and on what a large one says of it
(MAUNet-Light, arXiv:2602.12980; the form of the loss is our reconstruction, see
`geovision.heads.field.knowledge_refinement`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geovision.datasets.base import GeoDataset, collate
from geovision.errors import OptionError
from geovision.heads.field import knowledge_refinement
from geovision.models.geomodel import GeoModel
from geovision.spec import Augment, FieldTarget, Recipe

__all__ = ["Teaching", "distill"]

_AT_ONCE = 64
"""Samples that the teacher is asked about together."""


@dataclass(frozen=True)
class Teaching:
    """What a teacher said of the training samples.

    Args:
        name: Of the teacher.
        answers: ``(sample, 1, y, x)``, in the unit of the target; NaN where it says nothing.
        share: Of the loss against the teacher, 0 up to, but not, 1.
    """

    name: str
    answers: Tensor
    share: float

    def loss(self, model: GeoModel, to_truth: Tensor, values: Tensor, position: Tensor) -> Tensor:
        """The loss of a batch against truth and teacher.

        Args:
            to_truth: The loss against the truth.
            values: Of the student.
            position: Of the samples in the training set.
        """
        said = self.answers[position.cpu()].to(values.device)
        there = torch.isfinite(said)
        return knowledge_refinement(to_truth, model.loss(values, said, there), share=self.share)


def distill(
    teacher: GeoModel, student: GeoModel, data: GeoDataset, *, share: float = 0.5,
    validation: GeoDataset | None = None, recipe: Recipe | None = None, out: Path | None = None,
    resume: bool = False, devices: int | str = "auto", workers: int = 0, progress: bool = True,
) -> GeoModel:  # fmt: skip
    """Train the student in place. See `geovision.distill`, which is this."""
    from geovision.training.fit import train

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
    if not 0 <= share < 1:
        raise OptionError(f"share={share}: expected 0 or more and below 1")
    teaching = Teaching(teacher.spec.name, _answers(teacher, data), share)
    return train(
        student, data, validation=validation, recipe=recipe, out=out, resume=resume, devices=devices,
        workers=workers, progress=progress, teaching=teaching,
    )  # fmt: skip


@torch.no_grad()
def _answers(teacher: GeoModel, data: GeoDataset) -> Tensor:
    head: Any = teacher.head
    device = next((each.device for each in teacher.parameters()), torch.device("cpu"))
    known = {spec.name for spec in teacher.inputs}
    before = teacher.training
    teacher.eval()
    found = []
    for batch in DataLoader(data, batch_size=_AT_ONCE, collate_fn=collate):  # type: ignore[arg-type]
        inputs = {name: each.to(device) for name, each in batch["inputs"].items() if name in known}
        valid = {name: each.to(device) for name, each in batch["valid"].items() if name in known}
        teacher.check(inputs, valid=valid)
        output = teacher(inputs, valid=valid or None)
        said = head.estimate(output.values.float())
        if output.valid is not None:
            said = said.where(output.valid.expand_as(said), torch.nan)
        found.append(said.cpu())
    teacher.train(before)
    return torch.cat(found)
