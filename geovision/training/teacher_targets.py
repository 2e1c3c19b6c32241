"""Targets of a student from a teacher: predictions and, optionally, attention maps.

Knowledge refinement as in MAUNet-Light (arXiv:2602.12980). The form of the loss is our reconstruction, see
`geovision.models.field_baselines`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.heads.field import distillation_loss
from geovision.models.geomodel import GeoModel

__all__ = ["TeacherTargets", "attention", "head_inputs"]


@dataclass(frozen=True)
class TeacherTargets:
    """Predictions of a teacher for the training samples.

    Args:
        name: Name of the teacher.
        predictions: Its predictions, shape ``(sample, 1, y, x)``, in the unit of the
            target; NaN where missing.
        share: Weight of the loss against the teacher, at least 0 and below 1.
        attention: Attention of the teacher's last feature maps, shape ``(sample, y, x)``. Default: None, no
            comparison.
        feature_weight: Weight of the squared distance between the attention of both models. Default: 0.
    """

    name: str
    predictions: Tensor
    share: float
    attention: Tensor | None = None
    feature_weight: float = 0.0

    def loss(
        self,
        model: GeoModel,
        to_truth: Tensor,
        values: Tensor,
        position: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch against target and teacher, a scalar.

        Args:
            model: Student.
            to_truth: Loss against the target, a scalar.
            values: Output of the head of the student.
            position: Index of each sample in the training set, shape ``(batch,)``.
            features: Last feature maps of the student, shape ``(batch, feature, y, x)``.
                Default: None, attention is not compared.
        """
        expected = self.predictions[position.cpu()].to(values.device)
        valid = torch.isfinite(expected)
        loss = distillation_loss(to_truth, model.loss(values, expected, valid), share=self.share)
        if self.attention is None or features is None:
            return loss
        teacher = self.attention[position.cpu()].to(values.device)
        distance = (attention(features, teacher.shape[1:]) - teacher).square().sum((1, 2))
        return loss + self.feature_weight * distance.mean()


def attention(features: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
    """Return the normalized energy of feature maps (Zagoruyko and Komodakis 2017, arXiv:1612.03928).

    Squares are summed over the maps, and each sample is scaled to length 1. This makes networks of different
    widths comparable.

    Args:
        features: Feature maps, shape ``(batch, feature, y, x)``.
        size: Height and width of the result, in cells. Default: None, those of `features`.

    Returns:
        Attention maps, shape ``(batch, y, x)``.
    """
    energy = features.float().square().sum(1, keepdim=True)
    if size is not None and energy.shape[2:] != size:
        energy = F.interpolate(energy, size, mode="bilinear")
    return F.normalize(energy.flatten(1), dim=1).view(len(energy), *energy.shape[2:])


@contextlib.contextmanager
def head_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the feature maps that a head receives within the context.

    Args:
        head: Head of a model.
    """
    given: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    try:
        yield given
    finally:
        hook.remove()
