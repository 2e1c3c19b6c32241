"""Heads for physical fields: values, quantiles or distributions of every cell.

Every head returns parameters of shape ``(batch, parameter, y, x)``. `field` converts them to a prediction in
the unit of the target, and `loss` compares them with the target. Two limits apply to every prediction: a
quantity without negative values is never negative, and no value is above `limit`, a multiple of the largest
value in training. The loss uses the parameters before these limits, so that its gradient does not vanish
there.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.heads.dense import DenseHead, masked_mean, to_nan_array, zero_invalid
from geovision.heads.prediction import FieldPrediction
from geovision.spec import FieldTarget

__all__ = [
    "BernoulliGammaHead",
    "FieldHead",
    "GivenField",
    "QuantileHead",
    "distillation_loss",
    "dropout_ensemble",
]


class GivenField(DenseHead):
    """Head of a network whose features are the field.

    The field is in the unit of the target.

    Args:
        num_features: Number of features per cell; here 1.
        target: Quantity to predict. If its valid range starts at 0 or above, predictions are never
            negative.
        dropout: Ignored by this head.

    Shape:
        features ``(batch, 1, y, x)`` -> the same.

    Attributes:
        prediction_type: Type of the predictions that `decode` returns.
        scale: Value of a parameter of 1, in the unit of the target.
        limit: Highest value of a prediction, in the unit of the target; infinite until `fit_statistics`.
    """

    prediction_type = FieldPrediction
    scale: Tensor
    limit: Tensor

    def __init__(self, num_features: int, target: FieldTarget, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.target = target
        self.non_negative = target.channel.valid_range[0] >= 0
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("limit", torch.full((), math.inf))

    @torch.no_grad()
    def fit_statistics(self, truth: Tensor, valid: Tensor | None = None, *, multiple: float = 1.5) -> None:
        """Fit the upper limit of the predictions to the training targets.

        A second fit to other data can only raise the limit.

        Args:
            truth: Targets, shape ``(sample, 1, y, x)``, in the unit of the target; NaN where missing.
            valid: Valid cells, bool, broadcastable to `truth`. Default: None, all cells.
            multiple: Ratio of the limit to the largest target, at least 1. Default: 1.5.

        Raises:
            OptionError: `multiple` is below 1, or no target is valid.
        """
        mask = torch.isfinite(truth) if valid is None else torch.isfinite(truth) & valid
        values = truth[mask]
        if multiple < 1 or not len(values):
            raise OptionError(
                f"multiple={multiple}, {len(values)} valid targets; expected 1 or more for both"
            )
        self.note_seen(mask)
        limit = values.max() * multiple
        self._fit_scale(values)
        self.limit.copy_(torch.maximum(limit, self.limit) if torch.isfinite(self.limit) else limit)

    def _fit_scale(self, values: Tensor) -> None:
        """Leave the scale at 1; features have the unit of the target."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features unchanged.

        Args:
            features: Field in the unit of the target, shape ``(batch, 1, y, x)``.
        """
        return features

    def field(self, parameters: Tensor) -> Tensor:
        """Return the predicted field in its unit, shape ``(batch, 1, y, x)``.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
        """
        return self._clip(parameters * self.scale)

    def estimate(self, values: Tensor) -> Tensor:
        """Return the predicted field in its unit, shape ``(batch, 1, y, x)``.

        Args:
            values: Output of `forward`.
        """
        return self.field(values)

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return auxiliary fields by name, shape ``(batch, 1, y, x)`` each.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
        """
        return {}

    def export_outputs(self, parameters: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return the outputs and auxiliary fields of an exported graph by name.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
            features: Features, shape ``(batch, num_features, y, x)``.
        """
        return super().export_outputs(parameters, features) | self.auxiliary_fields(parameters)

    def _to_prediction(self, source: str, values: Tensor, found: Tensor, valid: Tensor) -> FieldPrediction:
        layers = {
            name: to_nan_array(layer[0, 0], valid) for name, layer in self.auxiliary_fields(values).items()
        }
        return FieldPrediction(
            source,
            name=self.target.name,
            unit=self.target.channel.unit,
            values=to_nan_array(found, valid),
            layers=layers,
            grid=self._matching_grid(found),
        )

    def _clip(self, values: Tensor) -> Tensor:
        values = values.clamp_min(0) if self.non_negative else values
        return torch.minimum(values, self.limit.to(values))


class FieldHead(GivenField):
    """Head with one value per cell from a 1x1 convolution.

    Args:
        num_features: Number of features per cell.
        target: Quantity to predict, as for `GivenField`.
        dropout: Dropout rate of whole feature maps in training, 0-1. Default: 0.
        error: Error whose mean is the loss, ``"squared"`` or ``"absolute"``. Default: ``"squared"``.
        num_parameters: Number of parameters per cell; above 1 only in subclasses. Default: 1.

    Raises:
        OptionError: `error` is unknown.

    Shape:
        features ``(batch, num_features, y, x)`` -> ``(batch, parameter, y, x)``.
    """

    def __init__(
        self,
        num_features: int,
        target: FieldTarget,
        *,
        dropout: float = 0.0,
        error: Literal["squared", "absolute"] = "squared",
        num_parameters: int = 1,
    ) -> None:
        super().__init__(num_features, target)
        if error not in ("squared", "absolute"):
            raise OptionError(f"error={error!r} is unknown; expected squared or absolute")
        self.loss_name = error
        self.dropout = nn.Dropout2d(dropout)
        self.convolution = nn.Conv2d(num_features, num_parameters, 1)

    def _fit_scale(self, values: Tensor) -> None:
        # Only the first data set the scale, because trained weights depend on it.
        if not torch.isfinite(self.limit):
            self.scale.copy_(values.std().clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Return the parameters, shape ``(batch, parameter, y, x)``.

        Args:
            features: Features, shape ``(batch, num_features, y, x)``.
        """
        parameters: Tensor = self.convolution(self.dropout(features))
        return parameters

    def loss(self, parameters: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the mean loss over valid cells, a scalar.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
            truth: Target, shape ``(batch, 1, y, x)``, in the unit of the target; NaN where missing.
            valid: Valid cells, bool, broadcastable to `truth`. Default: None, all cells.
        """
        truth, mask = zero_invalid(truth, valid)
        return masked_mean(self.losses(parameters, truth), mask)

    def losses(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """Return the error of every cell in units of `scale`.

        A negative parameter has no error if the target is 0, because the prediction is then 0.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
            truth: Target, shape ``(batch, 1, y, x)``, finite, in the unit of the target.

        Returns:
            Errors, shape ``(batch, 1, y, x)``.
        """
        over = self._censored(parameters, truth) - truth / self.scale
        return over.square() if self.loss_name == "squared" else over.abs()

    def _censored(self, predicted: Tensor, truth: Tensor) -> Tensor:
        return torch.where(truth > 0, predicted, predicted.clamp_min(0)) if self.non_negative else predicted


class QuantileHead(FieldHead):
    """Head with several quantiles per cell, which never cross.

    Each quantile is the next lower one plus a positive step.

    Args:
        num_features: Number of features per cell.
        target: Quantity to predict, as for `GivenField`.
        dropout: Dropout rate of whole feature maps in training, 0-1. Default: 0.
        quantiles: Levels of the quantiles, above 0 and below 1, ascending.
            Default: 0.05, 0.25, 0.5, 0.75, 0.9, 0.95 and 0.99.

    Raises:
        OptionError: The levels are not ascending, or not between 0 and 1.

    Shape:
        features ``(batch, num_features, y, x)`` -> ``(batch, quantile, y, x)``.
    """

    quantiles: Tensor

    def __init__(
        self,
        num_features: int,
        target: FieldTarget,
        *,
        dropout: float = 0.0,
        quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99),
    ) -> None:
        if sorted(set(quantiles)) != list(quantiles) or not 0 < quantiles[0] <= quantiles[-1] < 1:
            raise OptionError(
                f"quantiles={tuple(quantiles)} are invalid; expected ascending numbers between 0 and 1"
            )
        super().__init__(num_features, target, dropout=dropout, num_parameters=len(quantiles))
        self._quantile_levels = tuple(quantiles)
        self.register_buffer("quantiles", torch.tensor(list(quantiles)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the quantiles in units of `scale`, shape ``(batch, quantile, y, x)``.

        Args:
            features: Features, shape ``(batch, num_features, y, x)``.
        """
        lowest, steps = super().forward(features).split([1, len(self.quantiles) - 1], dim=1)
        return torch.cat([lowest, lowest + F.softplus(steps).cumsum(1)], dim=1)

    def field(self, parameters: Tensor) -> Tensor:
        """Return the quantile nearest to the median, shape ``(batch, 1, y, x)``.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
        """
        at = int((self.quantiles - 0.5).abs().argmin())
        return self.quantile_fields(parameters)[:, at : at + 1]

    def quantile_fields(self, parameters: Tensor) -> Tensor:
        """Return all quantiles in their unit, shape ``(batch, quantile, y, x)``.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
        """
        return self._clip(parameters * self.scale)

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return the quantiles by name, shape ``(batch, 1, y, x)`` each.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
        """
        fields = self.quantile_fields(parameters)
        return {f"quantile_{q:g}": fields[:, n : n + 1] for n, q in enumerate(self._quantile_levels)}

    def sample(self, parameters: Tensor, *, num_members: int, seed: int = 0) -> Tensor:
        """Draw fields cell by cell, shape ``(member, batch, 1, y, x)``.

        Values are in the unit of the target. They are interpolated linearly between the quantiles, and
        constant below the lowest and above the highest.

        Args:
            parameters: Output of `forward`, shape ``(batch, quantile, y, x)``.
            num_members: Number of draws.
            seed: Random seed. Default: 0.
        """
        fields, q = self.quantile_fields(parameters), self.quantiles.to(parameters)
        generator = torch.Generator(fields.device).manual_seed(seed)
        shape = (num_members, *fields[:, :1].shape)
        level = torch.rand(shape, generator=generator, device=fields.device).clamp(q[0], q[-1])
        above = torch.searchsorted(q, level).clamp_max(len(q) - 1)
        below = (above - 1).clamp_min(0)
        several = fields.expand(num_members, *fields.shape)
        lower, upper = several.gather(2, below), several.gather(2, above)
        return lower + (level - q[below]) / (q[above] - q[below]).clamp_min(1e-9) * (upper - lower)

    def losses(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """Return the pinball loss of every quantile in units of `scale`.

        See Koenker and Bassett 1978.

        Args:
            parameters: Output of `forward`, shape ``(batch, quantile, y, x)``.
            truth: Target, shape ``(batch, 1, y, x)``, finite, in the unit of the target.

        Returns:
            Losses of every quantile and cell, shape ``(batch, quantile, y, x)``.
        """
        over = truth / self.scale - self._censored(parameters, truth)
        q = self.quantiles.view(1, -1, 1, 1)
        return torch.maximum(q * over, (q - 1) * over)


class BernoulliGammaHead(FieldHead):
    """Head with a Bernoulli-gamma distribution of the precipitation in every cell.

    See Williams 1998 and Cannon 2008, doi:10.1175/2008JHM960.1. A Bernoulli distribution describes the
    occurrence, a gamma distribution the amount above `wet`. The mean is ``p (wet + a b)``. Here, p is
    the probability of a wet cell; a and b are shape and scale of the gamma distribution.

    Args:
        num_features: Number of features per cell.
        target: Quantity to predict, which is never negative.
        dropout: Dropout rate of whole feature maps in training, 0-1. Default: 0.
        wet: Lowest amount of a wet cell, in the unit of the target; cells below are dry. Default: 0.1.

    Raises:
        OptionError: The quantity can be negative, or `wet` is negative.

    Shape:
        features ``(batch, num_features, y, x)`` -> ``(batch, 3, y, x)``: logit of p, log a, log b.
    """

    def __init__(
        self, num_features: int, target: FieldTarget, *, dropout: float = 0.0, wet: float = 0.1
    ) -> None:
        super().__init__(num_features, target, dropout=dropout, num_parameters=3)
        if not self.non_negative or wet < 0:
            raise OptionError(
                f"Bernoulli-gamma with wet={wet} needs a quantity that is never negative, not "
                f"{target.channel.name!r} from {target.channel.valid_range[0]:g}"
            )
        self.wet_threshold = wet

    def distribution(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the parameters of the distribution of every cell.

        They are the probability of a wet cell, and the shape and scale of the gamma distribution of the
        amount above `wet`.

        Args:
            parameters: Output of `forward`, shape ``(batch, 3, y, x)``.

        Returns:
            Three tensors of shape ``(batch, 1, y, x)``; the scale is in the unit of the target.
        """
        logit, log_shape, log_scale = parameters.float().split(1, dim=1)
        # float32 resolves shapes of 0.02 to 50 and scales of 1/150 to 150 standard deviations.
        return (
            torch.sigmoid(logit),
            _soft_clip(log_shape, 4.0).exp(),
            _soft_clip(log_scale, 5.0).exp() * self.scale,
        )

    def field(self, parameters: Tensor) -> Tensor:
        """Return the mean in its unit, shape ``(batch, 1, y, x)``.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
        """
        p, shape, scale = self.distribution(parameters)
        return self._clip(p * (self.wet_threshold + shape * scale))

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return the wet-cell probability by name, shape ``(batch, 1, y, x)``.

        Args:
            parameters: Output of `forward`, shape ``(batch, parameter, y, x)``.
        """
        return {f"probability_of_{self.wet_threshold:g}": self.distribution(parameters)[0]}

    def sample(self, parameters: Tensor, *, num_members: int, seed: int = 0) -> Tensor:
        """Draw fields cell by cell, shape ``(member, batch, 1, y, x)``.

        Values are in the unit of the target. Neighboring cells are independent, given the parameters.

        Args:
            parameters: Output of `forward`, shape ``(batch, 3, y, x)``.
            num_members: Number of draws.
            seed: Random seed. Default: 0.
        """
        p, shape, scale = self.distribution(parameters)
        generator = torch.Generator(p.device).manual_seed(seed)
        several = (num_members, *p.shape)
        is_wet = torch.rand(several, generator=generator, device=p.device) < p
        # torch.distributions draws with torch._standard_gamma, but does not accept a generator.
        amount = torch._standard_gamma(shape.expand(several).contiguous(), generator=generator) * scale
        return self._clip(torch.where(is_wet, self.wet_threshold + amount, torch.zeros_like(amount)))

    def losses(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """Return the negative log-likelihood of every cell.

        Amounts are in units of `scale`.

        Args:
            parameters: Output of `forward`, shape ``(batch, 3, y, x)``.
            truth: Target, shape ``(batch, 1, y, x)``, finite, in the unit of the target.

        Returns:
            Losses, shape ``(batch, 1, y, x)``.
        """
        logit = parameters[:, :1].float()
        _, shape, scale = self.distribution(parameters)
        is_wet = truth >= self.wet_threshold
        # The density of an amount of exactly `wet` is infinite for shapes below 1. A thousandth of the scale
        # is within rounding.
        amount = torch.where(
            is_wet, (truth - self.wet_threshold) / self.scale, torch.ones_like(truth)
        ).clamp_min(1e-3)
        rate = self.scale / scale
        gamma = shape * rate.log() + (shape - 1) * amount.log() - rate * amount - torch.lgamma(shape)
        return torch.where(is_wet, F.softplus(-logit) - gamma, F.softplus(logit))


def _soft_clip(values: Tensor, bound: float) -> Tensor:
    """Limit values smoothly to a symmetric range."""
    return bound * torch.tanh(values / bound)


# --- ensembles and distillation -----------------------------------------------------------------


@contextlib.contextmanager
def _enable_dropout(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, except for its dropout layers."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.training = True
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@torch.no_grad()
def dropout_ensemble(
    model: nn.Module, predict_fn: Callable[[], Tensor], *, num_members: int, seed: int = 0
) -> Tensor:
    """Return predictions of a model with active dropout (Monte Carlo dropout).

    See Gal and Ghahramani 2016, arXiv:1506.02142. The global random state is restored.

    Args:
        model: Model whose dropout layers are active; all other layers are in evaluation mode.
        predict_fn: Function that runs the model and returns a tensor of any shape.
        num_members: Number of predictions.
        seed: Random seed; the same seed gives the same members. Default: 0.

    Returns:
        Predictions, shape ``(member, ...)``.

    Raises:
        OptionError: The model has no dropout, so all members would be equal.
    """
    if not any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in model.modules()):
        raise OptionError(
            "the model has no dropout, so its members would be equal; build it with dropout above 0"
        )
    with torch.random.fork_rng(), _enable_dropout(model):
        torch.manual_seed(seed)
        return torch.stack([predict_fn() for _ in range(num_members)])


def distillation_loss(to_truth: Tensor, to_teacher: Tensor, *, share: float) -> Tensor:
    """Return the distillation loss of MAUNet-Light, a weighted mean of two losses.

    The loss is ``(1 - share) * to_truth + share * to_teacher`` (arXiv:2602.12980; the form is our
    reconstruction).

    Args:
        to_truth: Loss of the student against the target, a scalar.
        to_teacher: Loss of the student against the teacher, a scalar.
        share: Weight of the teacher, at least 0 and below 1. At 1 the student would copy the bias of the
            teacher.

    Raises:
        OptionError: `share` is below 0, or 1 or more.
    """
    if not 0 <= share < 1:
        raise OptionError(
            f"share={share} is invalid; expected 0 or more and below 1, as a teacher alone passes on its bias"
        )
    return (1 - share) * to_truth + share * to_teacher
