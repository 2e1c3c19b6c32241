"""Class frequencies of a training set, taken out of what was learnt from it."""

from __future__ import annotations

import torch
from torch import Tensor

from geovision.datasets.base import GeoDataset, HasLabels
from geovision.heads.classification import ClassificationHead
from geovision.models.geomodel import GeoModel

__all__ = ["adjust_logits", "class_counts", "has_class_bias"]


def has_class_bias(model: GeoModel) -> bool:
    """Whether the last layer of a model has a bias for each class."""
    return isinstance(model.head, ClassificationHead) and model.head.linear.bias is not None


@torch.no_grad()
def adjust_logits(model: GeoModel, data: GeoDataset, strength: float) -> None:
    """Lower the logit of each class by ``strength * log(frequency)``, in the bias of the last layer
    (post-hoc logit adjustment, Menon et al. 2021, arXiv:2007.07314).

    At 1 the answers are those for classes that are all equally frequent, which is best for the mean
    recall; at 0 those for the frequencies of the training set, best for the fraction that is right.
    """
    head = model.head
    assert isinstance(head, ClassificationHead)
    counts = class_counts(data, len(model.target.classes))
    frequency = (counts / counts.sum()).clamp_min(0.5 / len(data))  # a class without a sample, too
    bias = head.linear.bias
    bias.sub_(strength * (frequency.log() - frequency.log().mean()).to(bias))


def class_counts(data: GeoDataset, classes: int) -> Tensor:
    """Number of samples of each class, float64 ``(class,)``; samples without a label do not count."""
    if isinstance(data, HasLabels):
        known = torch.as_tensor(data.labels)
    else:
        samples = (data[index] for index in range(len(data)))
        labels = [int(s["target"]) for s in samples if bool(s["valid"].get("target", torch.tensor(True)))]
        known = torch.as_tensor(labels)
    return torch.bincount(known[known >= 0], minlength=classes).double()
