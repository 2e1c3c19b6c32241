"""Probabilities that mean what they say: the temperature that a model's logits are divided by."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geovision.datasets.base import GeoDataset
from geovision.errors import InputError
from geovision.evaluation.dense_predictions import predict_batches
from geovision.evaluation.predictions import Predictions, collect_predictions
from geovision.heads.mask import IdentityMaskHead
from geovision.heads.protocols import HasTemperature
from geovision.models.geomodel import GeoModel

__all__ = [
    "TEMPERATURE_BOUNDS",
    "calibrate",
    "calibrate_classes",
    "calibrate_mask",
    "fit_platt",
    "fit_temperature",
]

TEMPERATURE_BOUNDS = (0.05, 20.0)
"""What a temperature is held to: logits that separate every sample would take it to 0."""


def calibrate(model: GeoModel, data: GeoDataset, *, batch_size: int = 32) -> dict[str, float]:
    """Calibrate the probabilities of a class or mask model on a dataset.

    Args:
        model: A trained model; its calibration is replaced in place.
        data: Samples that are neither trained on nor scored, such as the inner part of
            `GeoDataset.group_split`, adapted to the model with `GeoDataset.adapt_to`.
        batch_size: Samples per forward pass. Default: 32.

    Returns:
        ``temperature``, and for masks ``offset``. Both are saved with the model, and its `training_record`
        describes the samples.

    Raises:
        InputError: The model has no probabilities, or the samples do not allow a fit.
        DatasetError: The dataset is empty, or belongs to another task.
    """
    if isinstance(model.head, IdentityMaskHead):
        found = dict(
            zip(("temperature", "offset"), calibrate_mask(model, data, batch_size=batch_size), strict=True)
        )
    elif isinstance(model.head, HasTemperature):
        found = {
            "temperature": calibrate_classes(model, collect_predictions(model, data, batch_size=batch_size))
        }
    else:
        raise InputError(f"{model.spec.name} answers with a {model.target.kind}, which has no probability")
    about: dict[str, Any] = {"data": data.card.name, "samples": len(data), "groups": len(set(data.groups))}
    model.training_record = {**model.training_record, "calibration": about | found}
    return found


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature at which softmax(logits / temperature) has the least negative log-likelihood
    (Guo et al. 2017, arXiv:1706.04599). The order of the classes stays.

    Args:
        logits: ``(sample, class)``, of samples that the model was not trained on.
        labels: ``(sample,)``.

    Returns:
        A number within `TEMPERATURE_BOUNDS`; above 1 the model was too sure of itself.
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
    return min(max(math.exp(log_temperature.item()), TEMPERATURE_BOUNDS[0]), TEMPERATURE_BOUNDS[1])


def calibrate_classes(model: GeoModel, predictions: Predictions) -> float:
    """Fit the temperature of a class model to its own predictions, and set it.

    Args:
        predictions: With logits, of samples that the model was not trained on.

    Returns:
        The temperature, which is saved with the model.

    Raises:
        InputError: The predictions hold no logits, or are of other classes.
    """
    if predictions.logits is None or predictions.classes != model.target.classes:
        raise InputError("a temperature is fitted to logits of the model's own classes; collect() keeps them")
    temperature = fit_temperature(predictions.logits, predictions.labels)
    head = model.head
    assert isinstance(head, HasTemperature)
    head.temperature.fill_(temperature)
    return temperature


def fit_platt(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    """The temperature and the offset at which ``sigmoid(logits / temperature + offset)`` has the least
    negative log-likelihood (Platt 1999, Advances in Large Margin Classifiers). The order of the cells stays.

    A temperature alone cannot mend what a weight of positive cells or a Dice loss does to a mask, which is to
    say yes too often everywhere.

    Args:
        logits: Of any shape, of samples that the model was not trained on.
        truth: 0 or 1, of the same shape.

    Returns:
        The temperature, within `TEMPERATURE_BOUNDS`, and the offset.

    Raises:
        InputError: The event is in no cell or in all of them.
    """
    logits, truth = logits.double().flatten(), truth.double().flatten()
    if not 0 < float(truth.sum()) < len(truth):
        raise InputError(
            f"{int(truth.sum())} of {len(truth)} cells have the event; probabilities "
            "are fitted to some and not all"
        )
    log_temperature, offset = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    _minimize_nll(logits, truth, log_temperature, offset, [log_temperature, offset])
    temperature = math.exp(log_temperature.item())
    held = min(max(temperature, TEMPERATURE_BOUNDS[0]), TEMPERATURE_BOUNDS[1])
    if held != temperature:  # an offset belongs to its temperature
        fixed = torch.tensor(math.log(held), dtype=torch.float64)
        _minimize_nll(logits, truth, fixed, offset, [offset])
    return held, offset.item()


def _minimize_nll(
    logits: Tensor, truth: Tensor, log_temperature: Tensor, offset: Tensor, parameters: list[Tensor]
) -> None:
    """Bring what is free to the least negative log-likelihood."""
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(logits / log_temperature.exp() + offset, truth)
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[arg-type]


def calibrate_mask(model: GeoModel, data: GeoDataset, *, batch_size: int = 32) -> tuple[float, float]:
    """Fit the probabilities of a model of masks to what happened, and keep that in the model.

    Args:
        data: Samples that the model was not trained on and is not scored on: the inner part of a split by
            group, as of `GeoDataset.group_split`.

    Returns:
        Temperature and offset, which are saved with the model.

    Raises:
        InputError: The model is none of masks, or the event is in no cell or in all.
        DatasetError: The data set is empty, or of another task.
    """
    head = model.head
    if not isinstance(head, IdentityMaskHead):
        raise InputError(f"{model.spec.name}: no model of masks; calibrate_classes() is for classes")
    before = float(head.temperature), float(head.offset)
    head.temperature.fill_(1.0)
    head.offset.fill_(0.0)
    logits, truth = [], []
    try:
        for said, seen, *_ in predict_batches(model, data, batch_size=batch_size):
            there = torch.isfinite(said) & torch.isfinite(seen)
            logits.append(torch.logit(said[there].double(), eps=1e-12))
            truth.append(seen[there])
        found = fit_platt(torch.cat(logits), torch.cat(truth))
    except Exception:
        head.temperature.fill_(before[0])
        head.offset.fill_(before[1])
        raise
    head.temperature.fill_(found[0])
    head.offset.fill_(found[1])
    return found
