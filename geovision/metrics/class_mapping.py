"""Evaluation on datasets with coarser classes, by adding probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovision.errors import DatasetError
from geovision.spec import ClassMapping

__all__ = ["merge_probabilities", "merge_targets", "merging_for", "unmatched_classes"]


def merging_for(
    model_classes: Sequence[str],
    dataset_classes: Sequence[str],
    merging: ClassMapping | None,
    *,
    dataset: str,
) -> ClassMapping | None:
    """Return how the classes of a model are merged for a dataset.

    Args:
        model_classes: Classes of the model, in the order of the logits.
        dataset_classes: Classes of the dataset.
        merging: Mapping that the dataset declares. None: it declares none.
        dataset: Name of the dataset, for the message.

    Returns:
        The mapping, or None if the classes are equal.

    Raises:
        DatasetError: The classes differ, and no mapping relates them to those of the model.

    >>> merging_for(("Ci", "Cu"), ("Ci", "Cu"), None, dataset="ccsn") is None
    True
    """
    if tuple(model_classes) == tuple(dataset_classes):
        return None
    description = f"{dataset}: its classes ({', '.join(dataset_classes)})"
    advice = f"Train a model on them: geovision train MODEL --dataset {dataset} --data ROOT --out FOLDER"
    if merging is None:
        raise DatasetError(f"{description} are not the model's ({', '.join(model_classes)}). {advice}")
    if not merging.merged:
        raise DatasetError(
            f"{description} correspond to none of the model's ({', '.join(model_classes)}), so no score can "
            f"be computed. {advice}"
        )
    missing = [part for parts in merging.merged.values() for part in parts if part not in model_classes]
    if missing:
        raise DatasetError(
            f"{description} are merged from {', '.join(missing)}, which are not classes of this model "
            f"({', '.join(model_classes)}). {advice}"
        )
    return merging


def unmatched_classes(model_classes: Sequence[str], merging: ClassMapping) -> tuple[str, ...]:
    """Return the model classes that correspond to no class of the dataset.

    Args:
        model_classes: Classes of the model.
        merging: Mapping from `merging_for`.

    >>> unmatched_classes(("Ci", "Ct", "Cu"), ClassMapping({"cumulus": ("Cu",), "cirrus": ("Ci",)}))
    ('Ct',)
    """
    used = {part for parts in merging.merged.values() for part in parts}
    return tuple(name for name in model_classes if name not in used)


def merge_probabilities(probabilities: Tensor, model_classes: Sequence[str], merging: ClassMapping) -> Tensor:
    """Compute the probability of each merged class, given that one is correct.

    ``p(merged) = sum of p(part) over its parts / sum of p over all parts``. The division preserves the most
    probable merged class. It removes the probability of model classes that the dataset does not have. If a
    model assigns all probability to those classes, the result is uniform.

    Args:
        probabilities: Probabilities of the model, shape (batch, model class); rows sum to 1.
        model_classes: Classes of the model, in the order of the columns.
        merging: Mapping from `merging_for`.

    Returns:
        Probabilities, shape (batch, merged class), in the order of ``merging.classes``; rows sum to 1.

    >>> merging = ClassMapping({"cumulus": ("Cu",), "cirrus": ("Ci", "Cs")})
    >>> merge_probabilities(torch.tensor([[0.25, 0.25, 0.25, 0.25]]), ("Ci", "Cs", "Ct", "Cu"), merging)
    tensor([[0.3333, 0.6667]])
    """
    matrix = torch.tensor(
        [[float(name in parts) for parts in merging.merged.values()] for name in model_classes],
        dtype=probabilities.dtype,
        device=probabilities.device,
    )
    merged = probabilities @ matrix
    total = merged.sum(1, keepdim=True)
    uniform = torch.full_like(merged, 1 / len(merging.classes))
    return torch.where(total > 0, merged / total.clamp_min(torch.finfo(merged.dtype).tiny), uniform)


def merge_targets(targets: Tensor, dataset_classes: Sequence[str], merging: ClassMapping) -> Tensor:
    """Return the index of each sample's class in ``merging.classes``.

    Args:
        targets: Indices into `dataset_classes`, shape (batch,), int64.
        dataset_classes: Classes of the dataset.
        merging: Mapping from `merging_for`.

    Returns:
        Indices, shape (batch,); -1 for excluded classes.

    >>> merging = ClassMapping({"cirrus": ("Ci", "Cs")}, excluded={"clear": "no cloud"})
    >>> merge_targets(torch.tensor([0, 1]), ("clear", "cirrus"), merging)
    tensor([-1,  0])
    """
    indices = {name: index for index, name in enumerate(merging.classes)}
    table = torch.tensor([indices.get(name, -1) for name in dataset_classes], device=targets.device)
    return table[targets]
