"""Networks that learn what a simpler answer leaves, one or several side by side, and a head that keeps the
tail.

    answer_m = base(x) + head_m(network_m(x))                       m = 1 ... members
    answer   = mean over m, none of it negative
    answer  <- (1 - share) answer + share mapping(answer)           once trained

The base is a ridge regression, or the interpolated field. A few hundred winter days are too few for a network
to find the linear part as well as a regression does in one step; what is left for it is where rain is not
linear. An answer with the least squared error varies less
than the truth, so its heaviest days are too light; a share of a quantile mapping, fitted in each cell on the
answers to the training days, gives some of that back for a little of the error. All of this is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.heads.dense import masked_mean, zero_invalid
from geovision.heads.field import FieldHead
from geovision.models import field_models
from geovision.models.field_baselines import Interpolation, RidgeRegression
from geovision.models.protocols import HasFactor, HasInputStatistics
from geovision.models.quantile_mapping import EmpiricalQuantileMapping
from geovision.spec import FieldTarget, GridPair, InputSpec, SampleContext

__all__ = ["ResidualHead", "ResidualNetwork", "build"]


class ResidualNetwork(nn.Module):
    """Features of one or more networks of the same input, and the field of a baseline.

    Args:
        members: Networks as builders of fields give them, all of one kind.
        base: What they correct; a regression is fitted before the first step.

    Attributes:
        factor: How many times finer the answer is, where there are no grids.
        num_features: Of all members together, and 1.

    Shape:
        inputs -> ``(batch, num_features, y, x)``: the members' features, and last the base's field, in the
        unit of the target; 0 where it has none.
    """

    def __init__(self, members: Sequence[nn.Module], base: RidgeRegression | Interpolation) -> None:
        super().__init__()
        self.members, self.base = nn.ModuleList(members), base
        self.factor = first.factor if isinstance(first := self.members[0], HasFactor) else 1
        width: Any = self.members[0].num_features
        self.num_features = len(self.members) * int(width) + 1

    def fit_statistics(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """What each member takes from the inputs of the training set."""
        for member in self.members:
            if isinstance(member, HasInputStatistics):
                member.fit_statistics(inputs, valid)

    def fit_base(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor], truth: Tensor, there: Tensor | None
    ) -> None:
        """A regression, from inputs as `forward` sees them and truths ``(sample, 1, y, x)``."""
        if not isinstance(self.base, RidgeRegression):
            return
        known = torch.isfinite(truth) if there is None else there
        self.base.fit(
            [
                {
                    "inputs": {name: each[day] for name, each in inputs.items()},
                    "valid": {"target": known[day], **{name: each[day] for name, each in valid.items()}},
                    "target": truth[day],
                }
                for day in range(len(truth))
            ]  # type: ignore[arg-type]
        )

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        features = [member(inputs, valid=valid, context=context) for member in self.members]
        return torch.cat([*features, self.base(inputs, valid=valid)], dim=1)

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Where the base has an answer: a regression has none where it saw no truth, as over the sea."""
        return self.base.valid_mask(inputs, valid, shape)


def build(
    model_args: Mapping[str, Any],
    *,
    inputs: Sequence[InputSpec],
    size: tuple[int, int] | None = None,
    grids: GridPair | None = None,
) -> ResidualNetwork:
    """Networks of `geovision.models.field_models` beside a baseline.

    Args:
        model_args: ``members``; ``base``: ``"ridge"``, of ``components`` and with a ``penalty``, or a
            method of interpolation; the others are options of each network.
    """
    options = {name: value for name, value in model_args.items() if value is not None}
    members, kind = int(options.pop("members", 1)), options.pop("base", "ridge")
    own = {name: options.pop(name) for name in ("components", "penalty") if name in options}
    factor = int(options.get("factor", 1))
    base: RidgeRegression | Interpolation
    if kind == "ridge":
        base = RidgeRegression(inputs[0], grids=grids, **own)
    else:
        base = Interpolation(inputs[0], factor=factor, grids=grids, method=kind)
    networks = [field_models.build(options, inputs=inputs, size=size, grids=grids) for _ in range(members)]
    return ResidualNetwork(networks, base)


class ResidualHead(FieldHead):
    """One value in every cell from each member, and their mean as the answer.

    Args:
        num_features: Of all members, and 1: the field that they correct.
        target, dropout, error: As of `FieldHead`.
        members: As many convolutions 1x1, each of its own member's features.
        share: Of the quantile mapping in the answer, 0-1; 0: none is fitted.
        nodes: Quantiles of the mapping.

    Shape:
        features ``(batch, num_features, y, x)`` -> ``(batch, member, y, x)``.
    """

    modelled: Tensor
    observed: Tensor

    def __init__(
        self,
        num_features: int,
        target: FieldTarget,
        *,
        dropout: float = 0.0,
        error: Literal["squared", "absolute"] = "squared",
        members: int = 1,
        share: float = 0.0,
        nodes: int = 100,
    ) -> None:
        if not 0 <= share <= 1 or members < 1 or (num_features - 1) % members:
            raise OptionError(
                f"members={members} of {num_features - 1} features, share={share}: expected as many features "
                "of each member, and a share between 0 and 1"
            )
        super().__init__(num_features - 1, target, dropout=dropout, error=error, num_parameters=members)
        self.convolution = nn.Conv2d(num_features - 1, members, 1, groups=members)
        # What is not learnt yet is hardly a correction.
        nn.init.normal_(self.convolution.weight, std=1e-3)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]
        self.mapping_weight, self.num_quantiles = share, nodes
        for name in ("modelled", "observed"):
            self.register_buffer(name, torch.empty(0, 0, 0))

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features[:, :-1]) + features[:, -1:] / self.scale

    def loss(self, parameters: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Mean over members and over the cells that count, so that each member learns by itself."""
        truth, there = zero_invalid(truth, valid)
        return masked_mean(self.losses(parameters, truth.expand_as(parameters)), there)

    def members(self, parameters: Tensor) -> Tensor:
        """The field of each member ``(batch, member, y, x)``, in the unit of the target, not mapped."""
        return self._clip(parameters * self.scale)

    def field(self, parameters: Tensor) -> Tensor:
        mean = self.members(parameters).mean(1, keepdim=True)
        if not self.modelled.numel():
            return mean
        return self._clip(mean + self.mapping_weight * (self._apply_mapping(mean) - mean))

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        members = self.members(parameters)
        return {} if members.shape[1] == 1 else {"spread": members.std(1, keepdim=True)}

    @torch.no_grad()
    def fit_postprocessing(self, parameters: Tensor, truth: Tensor, valid: Tensor | None = None) -> None:
        """Fit the mapping on the answers to the training days, once they are what they will be."""
        if not self.mapping_weight:
            return
        self.modelled = self.observed = torch.empty(0, 0, 0, device=self.scale.device)
        found = self.field(parameters)
        if valid is not None:
            truth = truth.where(valid.expand_as(truth), torch.nan)
        mapping = EmpiricalQuantileMapping(num_quantiles=self.num_quantiles).to(found.device)
        mapping.fit(found[:, 0], truth[:, 0])
        self.modelled, self.observed = mapping.modelled, mapping.observed

    def _apply_mapping(self, field: Tensor) -> Tensor:
        mapping = EmpiricalQuantileMapping(num_quantiles=self.num_quantiles).to(field.device)
        mapping.modelled, mapping.observed = self.modelled, self.observed
        # Where no truth was ever seen, as over the sea, there is nothing to map to.
        return torch.where(torch.isfinite(self.observed[:1]), mapping(field[:, 0])[:, None], field)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in ("modelled", "observed"):  # of the grid that was trained on
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
