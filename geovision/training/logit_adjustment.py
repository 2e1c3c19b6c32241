"""Post-hoc logit adjustment for the class frequencies of a training set."""

from __future__ import annotations

import torch
from torch import Tensor

from geovision.datasets.base import GeoDataset, HasLabels
from geovision.heads.classification import ClassificationHead
from geovision.models.geomodel import GeoModel

__all__ = ["adjust_logits", "class_counts", "has_class_bias"]


def has_class_bias(model: GeoModel) -> bool:
    """Return whether the last layer has a bias for each class.

    Args:
        model: Model.
    """
    return isinstance(model.head, ClassificationHead) and model.head.linear.bias is not None


@torch.no_grad()
def adjust_logits(model: GeoModel, data: GeoDataset, strength: float) -> None:
    """Lower the logit of each class by ``strength * log(frequency)``, in place.

    The bias of the last layer is changed (post-hoc logit adjustment, Menon et al. 2021, arXiv:2007.07314). At
    strength 1, the predictions assume equally frequent classes, which is best for the mean recall. At 0, they
    assume the frequencies of the training set, which is best for the accuracy.

    Args:
        model: Model with a bias for each class, see `has_class_bias`.
        data: Training samples.
        strength: Strength of the adjustment, 0-1.
    """
    head = model.head
    assert isinstance(head, ClassificationHead)
    counts = class_counts(data, len(model.target.classes))
    frequency = (counts / counts.sum()).clamp_min(0.5 / len(data))  # also finite for a class without samples
    bias = head.linear.bias
    bias.sub_(strength * (frequency.log() - frequency.log().mean()).to(bias))


def class_counts(data: GeoDataset, classes: int) -> Tensor:
    """Return the number of labeled samples of each class, float64, shape ``(class,)``.

    Args:
        data: Samples.
        classes: Number of classes.
    """
    if isinstance(data, HasLabels):
        classes_of_samples = torch.as_tensor(data.labels)
    else:
        samples = (data[index] for index in range(len(data)))
        labels = [int(s["target"]) for s in samples if bool(s["valid"].get("target", torch.tensor(True)))]
        classes_of_samples = torch.as_tensor(labels)
    return torch.bincount(classes_of_samples[classes_of_samples >= 0], minlength=classes).double()
