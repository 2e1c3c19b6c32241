"""Segmentation heads: a probability in every cell of a grid."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.heads.dense import DenseHead, masked_mean, to_nan_array, zero_invalid
from geovision.heads.prediction import MaskPrediction
from geovision.heads.protocols import HasTemperature
from geovision.spec import MaskTarget

__all__ = ["IdentityMaskHead", "MaskHead", "dice_loss", "focal_loss"]

_MAX_POS_WEIGHT = 100.0
"""Largest weight of a positive cell that is computed from the data; rare positives are not weighted fully."""


class IdentityMaskHead(DenseHead, HasTemperature):
    """Head of a network whose features are the logits.

    Args:
        num_features: Number of features per cell; here 1.
        target: Phenomenon to detect.
        dropout: Ignored by this head.

    Shape:
        features ``(batch, 1, y, x)`` -> the same.

    Attributes:
        prediction_type: Type of the predictions that `decode` returns.
        temperature: Divisor of the logits, fitted after training by `geovision.evaluation.calibrate_mask`;
            it does not change the order of the cells.
        offset: Addend of the scaled logits, fitted in the same way.
    """

    prediction_type = MaskPrediction
    temperature: Tensor
    offset: Tensor

    def __init__(self, num_features: int, target: MaskTarget, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.target = target
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features as logits.

        Args:
            features: Logits, shape ``(batch, 1, y, x)``.
        """
        return features

    def estimate(self, values: Tensor) -> Tensor:
        """Return calibrated probabilities, shape ``(batch, 1, y, x)``.

        They are the logistic function of the logits divided by the temperature, plus the offset.

        Args:
            values: Logits, shape ``(batch, 1, y, x)``.
        """
        return torch.sigmoid(values.float() / self.temperature + self.offset)

    def _to_prediction(self, source: str, values: Tensor, found: Tensor, valid: Tensor) -> MaskPrediction:
        return MaskPrediction(
            source,
            name=self.target.name,
            probability=to_nan_array(found, valid),
            threshold=self.target.threshold,
            grid=self._matching_grid(found),
        )


class MaskHead(IdentityMaskHead):
    """Head with one logit per cell from a 1x1 convolution.

    Args:
        num_features: Number of features per cell.
        target: Phenomenon to detect.
        dropout: Dropout rate of whole feature maps in training, 0-1. Default: 0.
        error: Loss: ``"bce"`` (binary cross-entropy), ``"focal"`` (see `focal_loss`), ``"dice"`` (see
            `dice_loss`) or ``"bce+dice"`` (their sum). Default: ``"bce"``.
        positive_weight: Weight of positive cells in cross-entropy and focal loss, above 0; ``"balanced"``
            for the ratio of negative to positive cells in the training data, at most 100. Default: 1.
        focus: Exponent of the focal loss. Default: 2.

    Raises:
        OptionError: `error` or `positive_weight` is invalid.

    Shape:
        features ``(batch, num_features, y, x)`` -> logits ``(batch, 1, y, x)``.
    """

    weight: Tensor
    fitted: Tensor

    def __init__(
        self,
        num_features: int,
        target: MaskTarget,
        *,
        dropout: float = 0.0,
        error: Literal["bce", "focal", "dice", "bce+dice"] = "bce",
        positive_weight: float | Literal["balanced"] = 1.0,
        focus: float = 2.0,
    ) -> None:
        super().__init__(num_features, target)
        if error not in ("bce", "focal", "dice", "bce+dice"):
            raise OptionError(f"error={error!r} is unknown; expected bce, focal, dice or bce+dice")
        balanced = positive_weight == "balanced"
        if not balanced and not (isinstance(positive_weight, int | float) and positive_weight > 0):
            raise OptionError(
                f"positive_weight={positive_weight!r} is invalid; expected a number above 0, or 'balanced'"
            )
        self.loss_name, self.balanced, self.gamma = error, balanced, focus
        self.dropout = nn.Dropout2d(dropout)
        self.convolution = nn.Conv2d(num_features, 1, 1)
        self.register_buffer("weight", torch.tensor(1.0 if balanced else float(positive_weight)))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, shape ``(batch, 1, y, x)``.

        Args:
            features: Features, shape ``(batch, num_features, y, x)``.
        """
        logits: Tensor = self.convolution(self.dropout(features))
        return logits

    @torch.no_grad()
    def fit_statistics(self, truth: Tensor, valid: Tensor | None = None) -> None:
        """Fit the positive weight and the initial bias to training targets.

        The weight is fitted if it is ``"balanced"``. The bias is fitted before the first training only; it is
        set to the weighted frequency of positive cells.

        Args:
            truth: Targets, shape ``(sample, 1, y, x)``, 0 or 1; NaN where missing.
            valid: Valid cells, bool, broadcastable to `truth`. Default: None, all cells.

        Raises:
            OptionError: No cell is valid.
        """
        labels, mask = zero_invalid(truth.float(), valid)
        self.note_seen(mask)
        count, positive = float(mask.sum()), float(labels.sum())
        if not count:
            raise OptionError("no cell of the training targets is valid; check their valid masks")
        if self.balanced:
            self.weight.fill_(min(max(count - positive, 1.0) / max(positive, 1.0), _MAX_POS_WEIGHT))
        bias = self.convolution.bias
        if bias is not None and not self.fitted:
            # With an initial probability of 0.5, the first steps would only learn to predict negatives.
            odds = float(self.weight) * max(positive, 0.5) / max(count - positive, 0.5)
            bias.fill_(math.log(odds))
        self.fitted.fill_(True)

    def loss(self, logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the mean loss over valid cells, a scalar.

        Args:
            logits: Logits, shape ``(batch, 1, y, x)``.
            truth: Target, shape ``(batch, 1, y, x)``, 0 or 1, or in between for uncertain labels; NaN where
                missing.
            valid: Valid cells, bool, broadcastable to `truth`. Default: None, all cells.
        """
        truth, mask = zero_invalid(truth.float(), valid)
        total = logits.new_zeros(())
        if "bce" in self.loss_name:
            each = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=self.weight, reduction="none")
            total = total + masked_mean(each, mask)
        if self.loss_name == "focal":
            each = focal_loss(logits, truth, gamma=self.gamma) * (1 + truth * (self.weight - 1))
            total = total + masked_mean(each, mask)
        if "dice" in self.loss_name:
            total = total + dice_loss(logits, truth, mask)
        return total


def focal_loss(logits: Tensor, truth: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Return the focal loss of every cell.

    The loss is ``-(1 - p_t)^gamma log p_t`` (Lin et al. 2017, arXiv:1708.02002). p_t is the probability of
    the target class, so easily classified cells have little weight.

    Args:
        logits: Logits of any shape.
        truth: Targets in the same shape, 0-1.
        gamma: Exponent. Default: 2.

    >>> round(float(focal_loss(torch.tensor(0.0), torch.tensor(1.0))), 4)  # log 2 / 4
    0.1733
    """
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (1 - torch.exp(-entropy)).pow(gamma) * entropy


def dice_loss(logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the Dice loss over the valid cells of a batch.

    The loss is ``1 - (2 sum(p t) + 1) / (sum p + sum t + 1)`` (Milletari et al. 2016, arXiv:1606.04797). The
    added 1 defines the loss of an empty mask.

    Args:
        logits: Logits of any shape.
        truth: Targets in the same shape, 0-1.
        valid: Valid cells, bool, in the same shape. Default: None, all cells.
    """
    predicted = torch.sigmoid(logits)
    if valid is not None:
        predicted, truth = predicted * valid, truth * valid
    return 1 - (2 * (predicted * truth).sum() + 1) / (predicted.sum() + truth.sum() + 1)
