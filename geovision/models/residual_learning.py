"""Networks that predict the residual of a simpler model.

The head restores the tail of the distribution. The prediction is computed in three steps::

    prediction_m = base(x) + head_m(network_m(x))                            m = 1 ... members
    prediction   = mean over m, set to 0 where negative
    prediction  <- (1 - share) prediction + share mapping(prediction)        after the training

The base is a ridge regression or the interpolated field. With a few hundred winter days, a network does not
find the linear part as well as a regression does in one step. The network therefore predicts only the
nonlinear part of the rain. A prediction with the least squared error varies less than the target, so its
heaviest days have too little rain. A quantile mapping, fitted in each cell to the predictions of the training
days, corrects this. Mixing in a share of it restores part of the tail at the cost of a slightly larger error.
All of this is our choice.
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
    """Features of networks, and the field of a baseline.

    All networks have the same input.

    Args:
        members: Networks of fields, all of one kind.
        base: Baseline that the networks correct. A regression is fitted before the first step.

    Attributes:
        factor: Number of output cells per input cell along each side, without grids.
        num_features: Number of features of all members, plus 1.

    Shape:
        Inputs -> ``(batch, num_features, y, x)``: the features of the members, followed by the field of the
        base in the unit of the target, which is 0 where it is missing.
    """

    def __init__(self, members: Sequence[nn.Module], base: RidgeRegression | Interpolation) -> None:
        super().__init__()
        self.members, self.base = nn.ModuleList(members), base
        self.factor = first.factor if isinstance(first := self.members[0], HasFactor) else 1
        width: Any = self.members[0].num_features
        self.num_features = len(self.members) * int(width) + 1

    def fit_statistics(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Compute the input statistics of each member.

        Args:
            inputs: Normalized training inputs by name, each of shape ``(sample, *layout)``.
            valid: Valid values by input name, bool.
        """
        for member in self.members:
            if isinstance(member, HasInputStatistics):
                member.fit_statistics(inputs, valid)

    def fit_base(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor], truth: Tensor, there: Tensor | None
    ) -> None:
        """Fit the base to the training samples if it is a regression.

        Args:
            inputs: Normalized training inputs by name, each of shape ``(sample, *layout)``.
            valid: Valid values by input name, bool.
            truth: Targets, shape (sample, 1, y, x), in the unit of the target.
            there: Valid targets, bool, in the same shape. None: all finite targets.
        """
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
        """Compute the features of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Features, shape (batch, num_features, y, x), the last of which is the field of the base.
        """
        features = [member(inputs, valid=valid, context=context) for member in self.members]
        return torch.cat([*features, self.base(inputs, valid=valid)], dim=1)

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the cells in which the base has a valid prediction.

        A regression has none in cells without training targets, as over the sea.

        Args:
            inputs: Inputs by name.
            valid: Valid values by input name, bool. None: all values.
            shape: Shape of the output.
        """
        return self.base.valid_mask(inputs, valid, shape)


def build(
    model_args: Mapping[str, Any],
    *,
    inputs: Sequence[InputSpec],
    size: tuple[int, int] | None = None,
    grids: GridPair | None = None,
) -> ResidualNetwork:
    """Build networks of `geovision.models.field_models` with a baseline.

    Args:
        model_args: Options. ``members`` is the number of networks (default: 1). ``base`` is ``"ridge"`` (the
            default) with ``components`` and ``penalty``, or a method of interpolation. The others are options
            of each network.
        inputs: Input specifications, exactly one.
        size: Size of the input; ignored, because every size is supported.
        grids: Input grid and target grid. Default: the model is not bound to a grid.
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
    """Head with one value per cell and member.

    The prediction is the mean of the members.

    Args:
        num_features: Number of features of all members, plus 1 for the field that they correct.
        target: Target field.
        dropout: Dropout probability of complete features during training. Default: 0.
        error: Loss, ``"squared"`` or ``"absolute"`` error. Default: ``"squared"``.
        members: Number of members. Each has a 1x1 convolution of its own features. Default: 1.
        share: Weight of the quantile mapping in the prediction, 0 to 1. Default: 0, no mapping is fitted.
        nodes: Number of quantiles of the mapping. Default: 100.

    Shape:
        Features ``(batch, num_features, y, x)`` -> ``(batch, member, y, x)``.

    Raises:
        OptionError: The share is not in [0, 1], or the features cannot be divided among the members.
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
                f"members={members} with {num_features - 1} features, share={share}: expected an equal "
                "number of features per member, and a share between 0 and 1"
            )
        super().__init__(num_features - 1, target, dropout=dropout, error=error, num_parameters=members)
        self.convolution = nn.Conv2d(num_features - 1, members, 1, groups=members)
        # Before the training, the correction is almost 0.
        nn.init.normal_(self.convolution.weight, std=1e-3)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]
        self.mapping_weight, self.num_quantiles = share, nodes
        for name in ("modelled", "observed"):
            self.register_buffer(name, torch.empty(0, 0, 0))

    def forward(self, features: Tensor) -> Tensor:
        """Add the correction of each member to the base.

        The result is in units of `scale`.
        """
        return super().forward(features[:, :-1]) + features[:, -1:] / self.scale

    def loss(self, parameters: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the mean error over members and valid cells.

        Members are trained independently.

        Args:
            parameters: Output of `forward`, shape (batch, member, y, x).
            truth: Targets, shape (batch, 1, y, x), in the unit of the target.
            valid: Valid targets, bool, in the same shape. Default: all finite targets.
        """
        truth, present = zero_invalid(truth, valid)
        return masked_mean(self.losses(parameters, truth.expand_as(parameters)), present)

    def members(self, parameters: Tensor) -> Tensor:
        """Return the field of each member, without quantile mapping.

        Args:
            parameters: Output of `forward`, shape (batch, member, y, x).
        """
        return self._clip(parameters * self.scale)

    def field(self, parameters: Tensor) -> Tensor:
        """Return the mean of the members, with quantile mapping."""
        mean = self.members(parameters).mean(1, keepdim=True)
        if not self.modelled.numel():
            return mean
        return self._clip(mean + self.mapping_weight * (self._apply_mapping(mean) - mean))

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return the standard deviation of the members, if there are several."""
        members = self.members(parameters)
        return {} if members.shape[1] == 1 else {"spread": members.std(1, keepdim=True)}

    @torch.no_grad()
    def fit_postprocessing(self, parameters: Tensor, truth: Tensor, valid: Tensor | None = None) -> None:
        """Fit the quantile mapping to the predictions of the training days.

        It is fitted after the training.

        Args:
            parameters: Output of `forward` for all training samples, shape (sample, member, y, x).
            truth: Targets, shape (sample, 1, y, x), in the unit of the target.
            valid: Valid targets, bool, in the same shape. Default: all finite targets.
        """
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
        # Cells without training targets, as over the sea, have no mapping.
        return torch.where(torch.isfinite(self.observed[:1]), mapping(field[:, 0])[:, None], field)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in ("modelled", "observed"):  # with the size of the training grid
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
