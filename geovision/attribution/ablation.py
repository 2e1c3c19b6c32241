"""Ablation of whole inputs: a simple check of every other attribution method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from geovision.attribution.target import eval_mode
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel, Output
from geovision.spec import ClassTarget

__all__ = ["source_ablation"]

ScoreFn = Callable[[Output], Tensor]


def source_ablation(
    model: GeoModel,
    inputs: Mapping[str, Tensor],
    *,
    valid: Mapping[str, Tensor] | None = None,
    score: ScoreFn | None = None,
) -> dict[str, float]:
    """Return the drop of a score when each input is missing.

    The whole network runs again with the input masked everywhere, as for a sample without it. Inputs with
    redundant information hide each other: the drop is small for each of them as long as the other is
    available.

    Args:
        model: Model with several inputs.
        inputs: Batch of inputs by name, in physical units, shape (batch, *layout) each.
        valid: Masks of valid values by input name, shapes as in `inputs`. Default: all values are valid.
        score: Function from the output to the score that drops, shape () or (1,). Default: the mean of the
            logits of a mask, or of the parameters of a field, over the valid cells.

    Returns:
        The drop of the score by input name; 0 for an input that the network does not use.

    Raises:
        OptionError: There is only one input, or the model predicts classes and `score` is missing.
    """
    if len(inputs) < 2:
        raise OptionError(f"{model.spec.name} has only one input here; source ablation needs two or more")
    if score is None and isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} predicts classes; pass the score to compare as score=")
    compute_score = score or _mean_score
    masks = {
        name: torch.ones_like(each, dtype=torch.bool) if valid is None or name not in valid else valid[name]
        for name, each in inputs.items()
    }
    with eval_mode(model), torch.no_grad():
        full = float(compute_score(model(inputs, valid=masks)))
        return {
            name: full
            - float(compute_score(model(inputs, valid=masks | {name: torch.zeros_like(masks[name])})))
            for name in inputs
        }


def _mean_score(output: Output) -> Tensor:
    if output.valid is None:
        return output.values.mean()
    return output.values[output.valid.expand_as(output.values)].mean()
