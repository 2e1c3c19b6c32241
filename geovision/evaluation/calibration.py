"""Probabilities that mean what they say: the temperature that a model's logits are divided by."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from geovision.errors import InputError
from geovision.evaluation.predictions import Predictions
from geovision.models.geomodel import GeoModel

__all__ = ["LIMITS", "calibrate", "fit_temperature"]

LIMITS = (0.05, 20.0)
"""What a temperature is held to: logits that separate every sample would take it to 0."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature at which softmax(logits / temperature) has the least negative log-likelihood
    (Guo et al. 2017, arXiv:1706.04599). The order of the classes stays.

    Args:
        logits: ``(sample, class)``, of samples that the model was not trained on.
        labels: ``(sample,)``.

    Returns:
        A number within `LIMITS`; above 1 the model was too sure of itself.
    """
    logits = logits.double()
    # In the logarithm no step leads to a negative temperature, and the loss has one minimum.
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[arg-type]
    return min(max(math.exp(log_temperature.item()), LIMITS[0]), LIMITS[1])


def calibrate(model: GeoModel, predictions: Predictions) -> float:
    """Fit the temperature of a model's head to its own answers, and set it.

    Args:
        predictions: With logits, of samples that the model was not trained on.

    Returns:
        The temperature, which is saved with the model.

    Raises:
        InputError: The predictions hold no logits, or are of other classes.
    """
    if predictions.logits is None or predictions.classes != getattr(model.target, "classes", ()):
        raise InputError("a temperature is fitted to logits of the model's own classes; collect() keeps them")
    temperature = fit_temperature(predictions.logits, predictions.labels)
    model.head.temperature.fill_(temperature)  # type: ignore[union-attr, operator]
    return temperature
