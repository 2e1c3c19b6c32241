"""Knowledge refinement: a small network of fields trained on the truth and on what a large one says of it
(MAUNet-Light, arXiv:2602.12980; the form of the loss is our reconstruction, see
`geovision.heads.field.knowledge_refinement`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from geovision.datasets.base import GeoDataset, collate
from geovision.errors import OptionError
from geovision.heads.field import knowledge_refinement
from geovision.models.geomodel import GeoModel
from geovision.spec import Augment, FieldTarget, Recipe

__all__ = ["TeacherTargets", "attention", "distill", "heard"]

_AT_ONCE = 64
"""Samples that the teacher is asked about together."""


@dataclass(frozen=True)
class TeacherTargets:
    """What a teacher said of the training samples.

    Args:
        name: Of the teacher.
        answers: ``(sample, 1, y, x)``, in the unit of the target; NaN where it says nothing.
        share: Of the loss against the teacher, 0 up to, but not, 1.
        attention: Of the teacher's last maps, ``(sample, y, x)``; None: they are not compared.
        feature_weight: Of the squared distance between the attention of both, which is added.
    """

    name: str
    answers: Tensor
    share: float
    attention: Tensor | None = None
    feature_weight: float = 0.0

    def loss(
        self, model: GeoModel, to_truth: Tensor, values: Tensor, position: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The loss of a batch against truth and teacher.

        Args:
            to_truth: The loss against the truth.
            values: Of the student.
            position: Of the samples in the training set.
            features: The student's last maps, ``(batch, feature, y, x)``.
        """
        said = self.answers[position.cpu()].to(values.device)
        there = torch.isfinite(said)
        loss = knowledge_refinement(to_truth, model.loss(values, said, there), share=self.share)
        if self.attention is None or features is None:
            return loss
        seen = self.attention[position.cpu()].to(values.device)
        apart = (attention(features, seen.shape[1:]) - seen).square().sum((1, 2))
        return loss + self.feature_weight * apart.mean()


def attention(features: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
    """Where a network is at work: squares of its maps, summed over the maps, with length 1 in each sample
    (Zagoruyko and Komodakis 2017, arXiv:1612.03928). Networks of any two widths can be compared by it.

    Args:
        features: ``(batch, feature, y, x)``.
        size: What it is brought to; None: as it is.

    Shape:
        -> ``(batch, y, x)``.
    """
    energy = features.float().square().sum(1, keepdim=True)
    if size is not None and energy.shape[2:] != size:
        energy = F.interpolate(energy, size, mode="bilinear")
    return F.normalize(energy.flatten(1), dim=1).view(len(energy), *energy.shape[2:])


@contextlib.contextmanager
def heard(head: nn.Module) -> Iterator[list[Tensor]]:
    """What a head is given, meanwhile: the last maps of the network before it."""
    given: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    try:
        yield given
    finally:
        hook.remove()


def distill(
    teacher: GeoModel, student: GeoModel, data: GeoDataset, *, share: float = 0.5,
    feature_weight: float = 0.0, validation: GeoDataset | None = None, recipe: Recipe | None = None,
    out: Path | None = None, resume: bool = False, devices: int | str = "auto",
    workers: int = 0, progress: bool = True,
) -> GeoModel:  # fmt: skip
    """Train the student in place. See `geovision.distill`, which is this."""
    from geovision.training._train import train

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
    if feature_weight < 0:
        raise OptionError(f"feature_weight={feature_weight}: expected 0 or more")
    if feature_weight and teacher.spec.fit != "gradient":
        raise OptionError(f"{teacher.spec.name} has no maps to compare; leave feature_weight at 0")
    said, seen = _asked(teacher, data, attend=feature_weight > 0)
    teaching = TeacherTargets(teacher.spec.name, said, share, seen, feature_weight)
    return train(
        student, data, validation=validation, recipe=recipe, out=out, resume=resume, devices=devices,
        workers=workers, progress=progress, teaching=teaching,
    )  # fmt: skip


@torch.no_grad()
def _asked(teacher: GeoModel, data: GeoDataset, *, attend: bool) -> tuple[Tensor, Tensor | None]:
    """Its answers ``(sample, 1, y, x)`` and, where asked for, its attention ``(sample, y, x)``."""
    head: Any = teacher.head
    device = next((each.device for each in teacher.parameters()), torch.device("cpu"))
    known = {spec.name for spec in teacher.inputs}
    before = teacher.training
    teacher.eval()
    found, seen = [], []
    for batch in DataLoader(data, batch_size=_AT_ONCE, collate_fn=collate):  # type: ignore[arg-type]
        inputs = {name: each.to(device) for name, each in batch["inputs"].items() if name in known}
        valid = {name: each.to(device) for name, each in batch["valid"].items() if name in known}
        teacher.validate_inputs(inputs, valid=valid)
        with heard(head) as features:
            output = teacher(inputs, valid=valid or None)
        said = head.estimate(output.values.float())
        if output.valid is not None:
            said = said.where(output.valid.expand_as(said), torch.nan)
        found.append(said.cpu())
        if attend:
            seen.append(attention(features[0]).cpu())
    teacher.train(before)
    return torch.cat(found), torch.cat(seen) if attend else None
