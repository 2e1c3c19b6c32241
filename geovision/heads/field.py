"""A physical field from features of every cell: one value, a distribution, or quantiles.

Every head gives parameters ``(batch, parameter, y, x)``, from which `field` makes the answer in the unit
of the target, `loss` how bad it is. Two guards hold for all: a quantity that has no negative values gets
none, and no value is above `limit`, a multiple of the largest one in training. They are guards of the
answer: the loss sees what the network said, so that its gradient does not end at them.
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
    """The head of a network whose features are the field already, in the unit of the target.

    Args:
        num_features: Of every cell; here 1.
        target: The quantity; where its hard range begins at 0 or above, the answer is never negative.
        dropout: Nothing is dropped here.

    Shape:
        features ``(batch, 1, y, x)`` -> the same.

    Attributes:
        scale: What a parameter of 1 stands for, in the unit of the target.
        limit: Highest value of an answer; infinite until `fit_statistics`.
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
        """Take the limit of the answers from the truths of the training set. Fitted again on other data,
        the limit can but rise.

        Args:
            truth: ``(sample, 1, y, x)``; NaN does not count.
            valid: Cells that count, broadcastable; None: all.
            multiple: The limit is the largest value times this.
        """
        values = truth[torch.isfinite(truth) if valid is None else torch.isfinite(truth) & valid]
        if multiple < 1 or not len(values):
            raise OptionError(
                f"multiple={multiple} of {len(values)} values: expected 1 or more, and some values"
            )
        self.note_seen(torch.isfinite(truth) if valid is None else torch.isfinite(truth) & valid)
        limit = values.max() * multiple
        self._fit_scale(values)
        self.limit.copy_(torch.maximum(limit, self.limit) if torch.isfinite(self.limit) else limit)

    def _fit_scale(self, values: Tensor) -> None:
        """Nothing to fit: the features are in the unit of the target."""

    def forward(self, features: Tensor) -> Tensor:
        return features

    def field(self, parameters: Tensor) -> Tensor:
        """The answer ``(batch, 1, y, x)``, in the unit of the target."""
        return self._clip(parameters * self.scale)

    def estimate(self, values: Tensor) -> Tensor:
        return self.field(values)

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        """What else is known of every cell, by name, ``(batch, 1, y, x)`` each."""
        return {}

    def export_outputs(self, parameters: Tensor, features: Tensor) -> dict[str, Tensor]:
        """What an exported graph answers with, the layers each by its name."""
        return super().export_outputs(parameters, features) | self.auxiliary_fields(parameters)

    def _to_prediction(self, source: str, values: Tensor, found: Tensor, there: Tensor) -> FieldPrediction:
        layers = {
            name: to_nan_array(layer[0, 0], there) for name, layer in self.auxiliary_fields(values).items()
        }
        return FieldPrediction(
            source,
            name=self.target.name,
            unit=self.target.channel.unit,
            values=to_nan_array(found, there),
            layers=layers,
            grid=self._placed(found),
        )

    def _clip(self, values: Tensor) -> Tensor:
        values = values.clamp_min(0) if self.non_negative else values
        return torch.minimum(values, self.limit.to(values))


class FieldHead(GivenField):
    """One value in every cell: a convolution 1x1.

    Args:
        num_features: Of every cell.
        target: As of `GivenField`.
        dropout: Of whole features, in training.
        error: ``"squared"`` or ``"absolute"``, what the loss is the mean of.
        num_parameters: Of every cell; more than one for heads that are built on this.

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
            raise OptionError(f"error={error!r}; known: squared, absolute")
        self.loss_name = error
        self.dropout = nn.Dropout2d(dropout)
        self.convolution = nn.Conv2d(num_features, num_parameters, 1)

    def _fit_scale(self, values: Tensor) -> None:
        # Of the first data alone: trained weights stand on it.
        if not torch.isfinite(self.limit):
            self.scale.copy_(values.std().clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        return self.convolution(self.dropout(features))

    def loss(self, parameters: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Mean over the cells that count: valid ones whose truth is a number.

        Args:
            truth: ``(batch, 1, y, x)``, in the unit of the target.
        """
        truth, there = zero_invalid(truth, valid)
        return masked_mean(self.losses(parameters, truth), there)

    def losses(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """The error of every cell ``(batch, 1, y, x)``, in units of `scale`.

        A negative parameter where the truth is 0 is right: the answer there is 0.
        """
        over = self._censored(parameters, truth) - truth / self.scale
        return over.square() if self.loss_name == "squared" else over.abs()

    def _censored(self, predicted: Tensor, truth: Tensor) -> Tensor:
        return torch.where(truth > 0, predicted, predicted.clamp_min(0)) if self.non_negative else predicted


class QuantileHead(FieldHead):
    """Several quantiles in every cell, which never cross: each is the one below it and a positive step.

    Args:
        num_features, target, dropout: As of `FieldHead`.
        quantiles: 0-1, ascending.

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
            raise OptionError(f"quantiles={tuple(quantiles)}: expected ascending numbers between 0 and 1")
        super().__init__(num_features, target, dropout=dropout, num_parameters=len(quantiles))
        self._quantile_levels = tuple(quantiles)
        self.register_buffer("quantiles", torch.tensor(list(quantiles)))

    def forward(self, features: Tensor) -> Tensor:
        lowest, steps = super().forward(features).split([1, len(self.quantiles) - 1], dim=1)
        return torch.cat([lowest, lowest + F.softplus(steps).cumsum(1)], dim=1)

    def field(self, parameters: Tensor) -> Tensor:
        """The quantile that is nearest to the median ``(batch, 1, y, x)``."""
        at = int((self.quantiles - 0.5).abs().argmin())
        return self.quantile_fields(parameters)[:, at : at + 1]

    def quantile_fields(self, parameters: Tensor) -> Tensor:
        """All quantiles ``(batch, quantile, y, x)``, in the unit of the target."""
        return self._clip(parameters * self.scale)

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        fields = self.quantile_fields(parameters)
        return {f"quantile_{q:g}": fields[:, n : n + 1] for n, q in enumerate(self._quantile_levels)}

    def sample(self, parameters: Tensor, *, num_members: int, seed: int = 0) -> Tensor:
        """Fields drawn cell by cell ``(member, batch, 1, y, x)``, in the unit of the target: between
        quantiles on a straight line, beyond the lowest and the highest their value."""
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
        """The pinball loss (Koenker and Bassett 1978) of every quantile and cell, in units of `scale`."""
        over = truth / self.scale - self._censored(parameters, truth)
        q = self.quantiles.view(1, -1, 1, 1)
        return torch.maximum(q * over, (q - 1) * over)


class BernoulliGammaHead(FieldHead):
    """Whether it rains, and how much if it does: a Bernoulli and a gamma distribution in every cell
    (Williams 1998; Cannon 2008, doi:10.1175/2008JHM960.1).

    With the probability p of a wet cell, the shape a and the scale b of what is above `wet`:
    mean = p (wet + a b).

    Args:
        num_features, target, dropout: As of `FieldHead`.
        wet: Least amount of a wet cell, in the unit of the target; what is less is dry.

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
        """Probability of a wet cell, and shape and scale (unit of the target) of what is above `wet`,
        ``(batch, 1, y, x)`` each."""
        logit, log_shape, log_scale = parameters.float().split(1, dim=1)
        # Within what float32 can tell apart: shapes of 0.02 to 50, scales of 1/150 to 150 deviations.
        return (
            torch.sigmoid(logit),
            _soft_clip(log_shape, 4.0).exp(),
            _soft_clip(log_scale, 5.0).exp() * self.scale,
        )

    def field(self, parameters: Tensor) -> Tensor:
        """The mean ``(batch, 1, y, x)``, in the unit of the target."""
        p, shape, scale = self.distribution(parameters)
        return self._clip(p * (self.wet_threshold + shape * scale))

    def auxiliary_fields(self, parameters: Tensor) -> dict[str, Tensor]:
        return {f"probability_of_{self.wet_threshold:g}": self.distribution(parameters)[0]}

    def sample(self, parameters: Tensor, *, num_members: int, seed: int = 0) -> Tensor:
        """Fields drawn cell by cell ``(member, batch, 1, y, x)``, in the unit of the target; neighbours are
        independent given the parameters."""
        p, shape, scale = self.distribution(parameters)
        generator = torch.Generator(p.device).manual_seed(seed)
        several = (num_members, *p.shape)
        rains = torch.rand(several, generator=generator, device=p.device) < p
        # torch._standard_gamma is what torch.distributions draws with; only it takes a generator.
        amount = torch._standard_gamma(shape.expand(several).contiguous(), generator=generator) * scale
        return self._clip(torch.where(rains, self.wet_threshold + amount, torch.zeros_like(amount)))

    def losses(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """The negative log-likelihood of every cell, amounts in units of `scale`."""
        logit = parameters[:, :1].float()
        _, shape, scale = self.distribution(parameters)
        rains = truth >= self.wet_threshold
        # An amount of exactly `wet` has no finite density for shapes below 1; a thousandth is rounding.
        amount = torch.where(
            rains, (truth - self.wet_threshold) / self.scale, torch.ones_like(truth)
        ).clamp_min(1e-3)
        rate = self.scale / scale
        gamma = shape * rate.log() + (shape - 1) * amount.log() - rate * amount - torch.lgamma(shape)
        return torch.where(rains, F.softplus(-logit) - gamma, F.softplus(logit))


def _soft_clip(values: Tensor, bound: float) -> Tensor:
    """Nearly the same about 0, and never beyond the bound either way."""
    return bound * torch.tanh(values / bound)


# --- several answers, and two teachers ----------------------------------------------------------


@contextlib.contextmanager
def _enable_dropout(model: nn.Module) -> Iterator[None]:
    """The model in evaluation but for its dropout."""
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
    """Answers of a model with its dropout left on (Gal and Ghahramani 2016, arXiv:1506.02142).

    Args:
        model: Whose dropout is left on; all else is as in evaluation.
        predict_fn: Runs it, giving ``(…)``.
        num_members: Answers.
        seed: The same seed gives the same members; the state of chance outside is left as it was.

    Returns:
        ``(member, …)``.

    Raises:
        OptionError: The model has no dropout, so all members would be one.
    """
    if not any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in model.modules()):
        raise OptionError(
            "the model has no dropout, so its members would be equal; build it with dropout above 0"
        )
    with torch.random.fork_rng(), _enable_dropout(model):
        torch.manual_seed(seed)
        return torch.stack([predict_fn() for _ in range(num_members)])


def distillation_loss(to_truth: Tensor, to_teacher: Tensor, *, share: float) -> Tensor:
    """``(1 - share) loss(student, truth) + share loss(student, teacher)``, which MAUNet-Light is distilled by
    (arXiv:2602.12980; the form is our reconstruction).

    Args:
        share: 0 up to, but not, 1: matching the teacher alone copies its bias.
    """
    if not 0 <= share < 1:
        raise OptionError(
            f"share={share}: expected 0 or more and below 1; a teacher alone passes on its bias"
        )
    return (1 - share) * to_truth + share * to_teacher
