"""What is lost without each source: the plain check of every other way to say what a source contributes."""

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
    """By how much the answer falls when an input is missing, for each input of a batch that has several.

    The whole network is asked again, the input masked everywhere, as a sample without it would be. Inputs
    that say the same hide each other here: each is little missed as long as the other is there.

    Args:
        inputs: Of a batch, in physical units.
        valid: Which values are there.
        score: What falls, one number a batch, of the answer; None: the mean of a mask's logits or of a
            field's parameters, over the cells that mean something.

    Returns:
        By input; an input that the network does not look at is 0.

    Raises:
        OptionError: A model of one input, or of classes without a score.
    """
    if len(inputs) < 2:
        raise OptionError(f"{model.spec.name} has one input here; leaving it out leaves nothing")
    if score is None and isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} tells classes apart; say what falls with score=")
    falls = score or _mean_score
    masks = {
        name: torch.ones_like(each, dtype=torch.bool) if valid is None or name not in valid else valid[name]
        for name, each in inputs.items()
    }
    with eval_mode(model), torch.no_grad():
        whole = float(falls(model(inputs, valid=masks)))
        return {
            name: whole - float(falls(model(inputs, valid=masks | {name: torch.zeros_like(masks[name])})))
            for name in inputs
        }


def _mean_score(output: Output) -> Tensor:
    if output.valid is None:
        return output.values.mean()
    return output.values[output.valid.expand_as(output.values)].mean()
