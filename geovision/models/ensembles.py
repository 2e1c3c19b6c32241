"""Several answers of one model of fields: its members, draws of its distribution, or with dropout left on."""

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
"""Of a distribution, where nobody says how many."""


class EnsembleMembers(NamedTuple):
    """Several answers ``(field, member, y, x)``, in the unit of the target, and in words what they are."""

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
    """Several answers to each field of a batch.

    Args:
        inputs, valid: What the model was asked.
        values: What its network and head said, ``Output.values``.
        count: Of members: drawn from the head's distribution, or answers with the dropout left on. None: what
            the model has of itself, its own members or `DRAWS` draws.
        seed: Of chance.
        begin: Number of the first field of the batch: a field has the same members whatever batch it is in.

    Returns:
        None where the model has one answer and `count` is None.

    Raises:
        OptionError: Members of a model that has neither a distribution nor dropout.
    """
    head = model.head
    if isinstance(head, HasSamples):
        number = DEFAULT_NUM_MEMBERS if count is None else count
        drawn = [
            head.sample(values[n : n + 1], num_members=number, seed=seed + 1000 * (begin + n))[:, 0, 0]
            for n in range(len(values))
        ]
        return EnsembleMembers(torch.stack(drawn), "draws of the distribution of every cell")
    if count is None:
        own = head.members(values) if isinstance(head, HasMembers) else values[:, :0]
        return EnsembleMembers(own, "networks side by side") if own.shape[1] > 1 else None
    answers = [
        dropout_ensemble(
            model,
            partial(_estimate, model, _select_sample(inputs, n), _select_sample(valid, n)),
            num_members=count,
            seed=seed + 1000 * (begin + n),
        )[:, 0, 0]
        for n in range(len(values))
    ]
    return EnsembleMembers(torch.stack(answers), "answers with the dropout left on")


def _select_sample(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    return {name: each[number : number + 1] for name, each in tensors.items()}


def _estimate(model: GeoModel, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
    head: Any = model.head
    return head.estimate(model(inputs, valid=valid or None).values)
