"""Scoring a model on a data set whose classes are coarser than its own, by adding probabilities."""

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
    """How the probabilities of a model are read on a data set; None: as they are.

    Args:
        model_classes: In the order of the logits.
        dataset_classes: Classes of the data set.
        merging: What the data set declares.
        dataset: Its name, for the message.

    Raises:
        DatasetError: The classes differ and nothing says how they correspond.

    >>> merging_for(("Ci", "Cu"), ("Ci", "Cu"), None, dataset="ccsn") is None
    True
    """
    if tuple(model_classes) == tuple(dataset_classes):
        return None
    facts = f"{dataset}: its classes ({', '.join(dataset_classes)})"
    advice = f"Train a model on them: geovision train MODEL --dataset {dataset} --data ROOT --out FOLDER"
    if merging is None:
        raise DatasetError(f"{facts} are not the model's ({', '.join(model_classes)}). {advice}")
    if not merging.merged:
        raise DatasetError(
            f"{facts} correspond to none of the model's ({', '.join(model_classes)}), so there is nothing "
            f"to score; the data set serves for training its own classes. {advice}"
        )
    missing = [part for parts in merging.merged.values() for part in parts if part not in model_classes]
    if missing:
        raise DatasetError(
            f"{facts} are merged of {', '.join(missing)}, which this model does not know; it knows "
            f"{', '.join(model_classes)}. {advice}"
        )
    return merging


def unmatched_classes(model_classes: Sequence[str], merging: ClassMapping) -> tuple[str, ...]:
    """The model classes that nothing in the data set corresponds to.

    >>> unmatched(("Ci", "Ct", "Cu"), ClassMapping({"cumulus": ("Cu",), "cirrus": ("Ci",)}))
    ('Ct',)
    """
    used = {part for parts in merging.merged.values() for part in parts}
    return tuple(name for name in model_classes if name not in used)


def merge_probabilities(probabilities: Tensor, model_classes: Sequence[str], merging: ClassMapping) -> Tensor:
    """Probability of each merged class, given that the truth is one of them.

    ``p(merged) = sum of p(part) over its parts / sum of p over all parts``. The division leaves the
    likeliest merged class the same and takes out what the model gave to classes that the data set
    does not have. Where a model gives everything to those, it says nothing about the others: uniform.

    Args:
        probabilities: ``(batch, model class)``, rows that sum to 1.
        model_classes: In the order of the columns.
        merging: What belongs together, from `merging_for`.

    Returns:
        ``(batch, merged class)`` in the order of ``merging.classes``; rows sum to 1.

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
    """Index of each sample's class among ``merging.classes``; -1 where the class is excluded.

    Args:
        targets: ``(batch,)``, int64, indices into `dataset_classes`.

    >>> merging = ClassMapping({"cirrus": ("Ci", "Cs")}, excluded={"clear": "no cloud"})
    >>> merge_targets(torch.tensor([0, 1]), ("clear", "cirrus"), merging)
    tensor([-1,  0])
    """
    places = {name: index for index, name in enumerate(merging.classes)}
    table = torch.tensor([places.get(name, -1) for name in dataset_classes], device=targets.device)
    return table[targets]
