"""Yes or no in every cell of a grid, from features of every cell."""

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
"""Of a positive cell, where it is taken from the data: one cell in a thousand is not worth a thousand."""


class IdentityMaskHead(DenseHead, HasTemperature):
    """The head of a network whose features are the logits already.

    Args:
        num_features: Of every cell; here 1.
        target: What is there or not.
        dropout: Nothing is dropped here.

    Shape:
        features ``(batch, 1, y, x)`` -> the same.

    Attributes:
        temperature, offset: Fitted after training, see `geovision.evaluation.calibrate_mask`; they leave the
            order of the cells as it is.
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
        return features

    def estimate(self, values: Tensor) -> Tensor:
        """Probability ``(batch, 1, y, x)``: the logistic function of logits over the temperature, and the
        offset."""
        return torch.sigmoid(values.float() / self.temperature + self.offset)

    def _to_prediction(self, source: str, values: Tensor, found: Tensor, there: Tensor) -> MaskPrediction:
        return MaskPrediction(
            source,
            name=self.target.name,
            probability=to_nan_array(found, there),
            threshold=self.target.threshold,
            grid=self._placed(found),
        )


class MaskHead(IdentityMaskHead):
    """One logit in every cell: a convolution 1x1.

    Args:
        num_features: Of every cell.
        target: What is there or not.
        dropout: Of whole features, in training.
        error: ``"bce"``, binary cross-entropy; ``"focal"``, see `focal_loss`; ``"dice"``, see `dice_loss`;
            ``"bce+dice"``, the sum of the two.
        positive_weight: Of cells that are yes, in cross-entropy and focal loss; ``"balanced"``: as many
            times as cells are no in the training data for one that is yes, at most 100.
        focus: Exponent of the focal loss.

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
            raise OptionError(f"error={error!r}; known: bce, focal, dice, bce+dice")
        balanced = positive_weight == "balanced"
        if not balanced and not (isinstance(positive_weight, int | float) and positive_weight > 0):
            raise OptionError(
                f"positive_weight={positive_weight!r}: expected a number above 0, or 'balanced'"
            )
        self.loss_name, self.balanced, self.gamma = error, balanced, focus
        self.dropout = nn.Dropout2d(dropout)
        self.convolution = nn.Conv2d(num_features, 1, 1)
        self.register_buffer("weight", torch.tensor(1.0 if balanced else float(positive_weight)))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, features: Tensor) -> Tensor:
        return self.convolution(self.dropout(features))

    @torch.no_grad()
    def fit_statistics(self, truth: Tensor, valid: Tensor | None = None) -> None:
        """Take the weight of positive cells from the training data where it is ``"balanced"``, and begin at
        the frequency of yes where nothing was learnt yet.

        Args:
            truth: ``(sample, 1, y, x)``, 0 or 1; NaN does not count.
            valid: Cells that count, broadcastable; None: all.

        Raises:
            OptionError: No cell counts.
        """
        yes, there = zero_invalid(truth.float(), valid)
        self.note_seen(there)
        count, positive = float(there.sum()), float(yes.sum())
        if not count:
            raise OptionError("no cell of the training masks counts; look at their valid masks")
        if self.balanced:
            self.weight.fill_(min(max(count - positive, 1.0) / max(positive, 1.0), _MAX_POS_WEIGHT))
        bias = self.convolution.bias
        if bias is not None and not self.fitted:
            # A head that begins at one half spends its first steps on saying no.
            odds = float(self.weight) * max(positive, 0.5) / max(count - positive, 0.5)
            bias.fill_(math.log(odds))
        self.fitted.fill_(True)

    def loss(self, logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Mean over the cells that count: valid ones whose truth is a number.

        Args:
            truth: ``(batch, 1, y, x)``, 0 or 1; or between, for labels that are not sure.
        """
        truth, there = zero_invalid(truth.float(), valid)
        total = logits.new_zeros(())
        if "bce" in self.loss_name:
            each = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=self.weight, reduction="none")
            total = total + masked_mean(each, there)
        if self.loss_name == "focal":
            each = focal_loss(logits, truth, gamma=self.gamma) * (1 + truth * (self.weight - 1))
            total = total + masked_mean(each, there)
        if "dice" in self.loss_name:
            total = total + dice_loss(logits, truth, there)
        return total


def focal_loss(logits: Tensor, truth: Tensor, *, gamma: float = 2.0) -> Tensor:
    """``-(1 - p_t)^focus log p_t`` of every cell (Lin et al. 2017, arXiv:1708.02002), p_t being the
    probability of what is true: what is easily told counts little.

    >>> round(float(focal_loss(torch.tensor(0.0), torch.tensor(1.0))), 4)  # log 2 / 4
    0.1733
    """
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (1 - torch.exp(-entropy)).pow(gamma) * entropy


def dice_loss(logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """``1 - 2 sum(p t) / (sum p + sum t)`` over all cells of the batch that count (Milletari et al. 2016,
    arXiv:1606.04797), with 1 added above and below, so that an empty mask has a loss."""
    said = torch.sigmoid(logits)
    if valid is not None:
        said, truth = said * valid, truth * valid
    return 1 - (2 * (said * truth).sum() + 1) / (said.sum() + truth.sum() + 1)
