"""Does a model notice inputs that are of another kind than everything it was trained on?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geovision.errors import InputError, MissingExtraError
from geovision.models.geomodel import GeoModel

__all__ = ["auroc", "fit_ood_score", "ood_auroc"]

ALL = "all"
"""Key of the area over all kinds together."""


def auroc(in_distribution: Tensor, out_of_distribution: Tensor) -> float:
    """Probability that a random outlier scores higher than a random ordinary input, ties counted
    half: the area under the ROC curve. 0.5 is chance, 1 perfect.

    Args:
        in_distribution, out_of_distribution: Scores ``(sample,)``, higher meaning stranger.

    Raises:
        InputError: One of them is empty.
        MissingExtraError: torchmetrics is not installed.
    """
    if not len(in_distribution) or not len(out_of_distribution):
        raise InputError(
            f"{len(in_distribution)} ordinary and {len(out_of_distribution)} strange inputs; both are needed"
        )
    try:
        from torchmetrics.functional.classification import binary_auroc
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "train") from error
    scores = torch.cat([in_distribution, out_of_distribution]).double()
    # torchmetrics takes values beyond 0 and 1 for logits, whose sigmoid would merge large scores;
    # ranks keep their order and their ties.
    ranks = scores.unique(return_inverse=True)[1].double()
    truth = torch.cat([torch.zeros(len(in_distribution)), torch.ones(len(out_of_distribution))]).long()
    return float(binary_auroc(ranks / ranks.max().clamp_min(1), truth))


def ood_auroc(model: GeoModel, in_distribution: Tensor, outside: Mapping[str, Tensor]) -> dict[str, float]:
    """How well the outlier score of a model's head tells strange inputs from ordinary ones.

    Args:
        model: With a fitted score.
        in_distribution: Features ``(sample, feature)`` of ordinary inputs that it was not fitted to.
        outside: Kind of strange inputs to their features.

    Returns:
        The area under the ROC curve for each kind, and for all of them together.

    Raises:
        InputError: The score is not fitted, or there is nothing to compare.
    """
    score = model.head.outlier
    if not score.fitted:  # type: ignore[union-attr]
        raise InputError(f"the outlier score of {model.spec.name} is not fitted; see fit_outlier_score")
    ordinary = score(in_distribution)  # type: ignore[operator]
    kinds = dict(outside)
    kinds[ALL] = torch.cat(list(outside.values()))
    return {kind: auroc(ordinary, score(features)) for kind, features in kinds.items()}  # type: ignore[operator]


def fit_ood_score(
    model: GeoModel, features: Tensor, *, held_out: Tensor | None = None, quantile: float = 0.98
) -> float:
    """Fit the outlier score of a model's head, which is then saved with the model.

    Args:
        features: ``(sample, feature)`` of the training set, as this model sees it (`collect`).
        held_out: Features of ordinary inputs that were not trained on, by which the threshold is
            set. Features of the training set are nearer than those of new inputs will be.
        quantile: Fraction of ordinary inputs that pass unflagged.

    Returns:
        The fraction of `held_out`, or else of `features`, that is flagged.
    """
    score = model.head.outlier
    score.fit(features, held_out=held_out, quantile=quantile)  # type: ignore[union-attr, operator]
    reference = features if held_out is None else held_out
    return float((score(reference) > 1).double().mean())  # type: ignore[operator]
