"""Ensemble predictions of a model of fields.

The members are those of the model, draws from its distribution, or predictions with Monte Carlo dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geovision.heads.field import dropout_ensemble
from geovision.heads.protocols import HasMembers, HasSamples
from geovision.models.geomodel import GeoModel

__all__ = ["DEFAULT_NUM_MEMBERS", "EnsembleMembers", "predict_ensemble"]

DEFAULT_NUM_MEMBERS = 20
"""Default number of draws from a distribution."""


class EnsembleMembers(NamedTuple):
    """Members of an ensemble prediction.

    Attributes:
        fields: Members, shape (field, member, y, x), in the unit of the target.
        origin: Description of the members.
    """

    fields: Tensor
    origin: str


def predict_ensemble(
    model: GeoModel,
    inputs: Mapping[str, Tensor],
    valid: Mapping[str, Tensor],
    values: Tensor,
    *,
    count: int | None = None,
    seed: int = 0,
    begin: int = 0,
) -> EnsembleMembers | None:
    """Predict an ensemble for each field of a batch.

    Args:
        model: Model of fields.
        inputs: Inputs by name in physical units, each of shape ``(batch, *layout)``.
        valid: Valid values by input name, bool.
        values: Output of the head for these inputs, ``Output.values``.
        count: Number of draws from the distribution of the head, or of predictions with Monte Carlo dropout.
            Default: the members of the model, or `DEFAULT_NUM_MEMBERS` draws.
        seed: Seed of the draws. Default: 0.
        begin: Index of the first field of the batch in the dataset. The members of a field depend on its
            index, not on the batch. Default: 0.

    Returns:
        Ensemble. None if `count` is None and the model has a single prediction.

    Raises:
        OptionError: A number of members is requested of a model without a distribution and without dropout.
    """
    head = model.head
    if isinstance(head, HasSamples):
        number = DEFAULT_NUM_MEMBERS if count is None else count
        drawn = [
            head.sample(values[n : n + 1], num_members=number, seed=seed + 1000 * (begin + n))[:, 0, 0]
            for n in range(len(values))
        ]
        return EnsembleMembers(torch.stack(drawn), "draws from the distribution of each cell")
    if count is None:
        own = head.members(values) if isinstance(head, HasMembers) else values[:, :0]
        return EnsembleMembers(own, "networks of the ensemble") if own.shape[1] > 1 else None
    members = [
        dropout_ensemble(
            model,
            partial(_estimate, model, _select_sample(inputs, n), _select_sample(valid, n)),
            num_members=count,
            seed=seed + 1000 * (begin + n),
        )[:, 0, 0]
        for n in range(len(values))
    ]
    return EnsembleMembers(torch.stack(members), "predictions with Monte Carlo dropout")


def _select_sample(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    return {name: each[number : number + 1] for name, each in tensors.items()}


def _estimate(model: GeoModel, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
    head: Any = model.head
    return head.estimate(model(inputs, valid=valid or None).values)
