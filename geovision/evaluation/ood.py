"""Evaluation and fit of the out-of-distribution (OOD) score."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geovision.errors import InputError, MissingExtraError
from geovision.models.geomodel import GeoModel

__all__ = ["auroc", "fit_ood_score", "ood_auroc"]

ALL = "all"
"""Key of the AUROC over all kinds together."""


def auroc(in_distribution: Tensor, out_of_distribution: Tensor) -> float:
    """Compute the area under the ROC curve of an out-of-distribution score.

    It is the probability that a random out-of-distribution input scores higher than a random in-distribution
    input; ties count one half. 0.5 is chance, 1 is best.

    Args:
        in_distribution: Scores of in-distribution inputs, shape (sample,); higher means more unusual.
        out_of_distribution: Scores of out-of-distribution inputs, shape (sample,).

    Raises:
        InputError: One of them is empty.
        MissingExtraError: torchmetrics is not installed.
    """
    if not len(in_distribution) or not len(out_of_distribution):
        raise InputError(
            f"{len(in_distribution)} in-distribution and {len(out_of_distribution)} out-of-distribution "
            "inputs; expected at least one of each"
        )
    try:
        from torchmetrics.functional.classification import binary_auroc
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "train") from error
    scores = torch.cat([in_distribution, out_of_distribution]).double()
    # torchmetrics treats values outside 0 to 1 as logits, whose sigmoid would merge large scores. Ranks
    # preserve order and ties.
    ranks = scores.unique(return_inverse=True)[1].double()
    labels = torch.cat([torch.zeros(len(in_distribution)), torch.ones(len(out_of_distribution))]).long()
    return float(binary_auroc(ranks / ranks.max().clamp_min(1), labels))


def ood_auroc(model: GeoModel, in_distribution: Tensor, outside: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute the AUROC of a model's out-of-distribution score.

    Args:
        model: Model with a fitted score.
        in_distribution: Features of in-distribution inputs that were not used for the fit, shape (sample,
            feature).
        outside: Features of out-of-distribution inputs, shape (sample, feature), by kind of input.

    Returns:
        Area under the ROC curve by kind, and for all kinds together.

    Raises:
        InputError: The score is not fitted, or one side has no inputs.
    """
    score = model.head.outlier
    if not score.fitted:  # type: ignore[union-attr]
        raise InputError(f"the outlier score of {model.spec.name} is not fitted; see fit_outlier_score")
    reference = score(in_distribution)  # type: ignore[operator]
    kinds = dict(outside)
    kinds[ALL] = torch.cat(list(outside.values()))
    return {kind: auroc(reference, score(features)) for kind, features in kinds.items()}  # type: ignore[operator]


def fit_ood_score(
    model: GeoModel, features: Tensor, *, held_out: Tensor | None = None, quantile: float = 0.98
) -> float:
    """Fit the out-of-distribution score of a model's head.

    The score is saved with the model.

    Args:
        model: Model whose score is fitted in place.
        features: Features of the training set, from this model (`collect_predictions`), shape (sample,
            feature).
        held_out: Features of in-distribution inputs that were not used for training, which set the threshold.
            Features of the training set are closer than those of new inputs. Default: None.
        quantile: Fraction of in-distribution inputs that are not flagged. Default: 0.98.

    Returns:
        Fraction of flagged inputs in `held_out`, or otherwise in `features`.
    """
    score = model.head.outlier
    score.fit(features, held_out=held_out, quantile=quantile)  # type: ignore[union-attr, operator]
    reference = features if held_out is None else held_out
    return float((score(reference) > 1).double().mean())  # type: ignore[operator]
