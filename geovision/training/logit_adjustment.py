"""Class frequencies of a training set, taken out of what was learnt from it."""

from __future__ import annotations

import torch
from torch import Tensor

from geovision.datasets.base import GeoDataset
from geovision.models.geomodel import GeoModel

__all__ = ["adjust_logits", "class_counts", "has_class_bias"]


def has_class_bias(model: GeoModel) -> bool:
    """Whether the last layer of a model has a bias for each class."""
    bias = getattr(getattr(model.head, "linear", None), "bias", None)
    return bias is not None and len(bias) == len(getattr(model.target, "classes", ()))


@torch.no_grad()
def adjust_logits(model: GeoModel, data: GeoDataset, strength: float) -> None:
    """Lower the logit of each class by ``strength * log(frequency)``, in the bias of the last layer
    (post-hoc logit adjustment, Menon et al. 2021, arXiv:2007.07314).

    At 1 the answers are those for classes that are all equally frequent, which is best for the mean
    recall; at 0 those for the frequencies of the training set, best for the fraction that is right.
    """
    counts = class_counts(data, len(model.target.classes))  # type: ignore[union-attr]
    frequency = (counts / counts.sum()).clamp_min(0.5 / len(data))  # a class without a sample, too
    bias: Tensor = model.head.linear.bias  # type: ignore[union-attr, assignment]
    bias -= strength * (frequency.log() - frequency.log().mean()).to(bias)


def class_counts(data: GeoDataset, classes: int) -> Tensor:
    """Number of samples of each class, float64 ``(class,)``; samples without a label do not count."""
    labels = getattr(data, "labels", None)  # without reading a picture
    if labels is None:
        samples = (data[index] for index in range(len(data)))
        labels = [int(s["target"]) for s in samples if bool(s["valid"].get("target", torch.tensor(True)))]
    known = torch.as_tensor(labels)
    return torch.bincount(known[known >= 0], minlength=classes).double()
