"""Calibration of probabilities by temperature and Platt scaling of logits."""

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
"""Bounds of a temperature. Logits that separate every sample would give a temperature of 0."""


def calibrate(model: GeoModel, data: GeoDataset, *, batch_size: int = 32) -> dict[str, float]:
    """Calibrate the probabilities of a class or mask model on a dataset.

    Args:
        model: Trained model; its calibration is replaced in place.
        data: Samples that are not used for training or evaluation, such as the inner part of
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
        raise InputError(f"{model.spec.name} predicts a {model.target.kind}, which has no probability")
    description: dict[str, Any] = {
        "data": data.card.name,
        "samples": len(data),
        "groups": len(set(data.groups)),
    }
    model.training_record = {**model.training_record, "calibration": description | found}
    return found


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Fit the temperature of class logits.

    The temperature minimizes the negative log-likelihood of ``softmax(logits / temperature)`` (Guo et al.
    2017, arXiv:1706.04599). It does not change the order of the classes.

    Args:
        logits: Logits of samples that were not used for training, shape (sample, class).
        labels: Labels, shape (sample,).

    Returns:
        Temperature within `TEMPERATURE_BOUNDS`; above 1 the model was overconfident.
    """
    logits = logits.double()
    # The logarithm keeps the temperature positive, and the loss has a single minimum.
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]
    return min(max(math.exp(log_temperature.item()), TEMPERATURE_BOUNDS[0]), TEMPERATURE_BOUNDS[1])


def calibrate_classes(model: GeoModel, predictions: Predictions) -> float:
    """Fit the temperature of a class model to its predictions, and set it.

    Args:
        model: Class model; its temperature is replaced in place.
        predictions: Predictions of the model with logits, of samples that were not used for training.

    Returns:
        Temperature, which is saved with the model.

    Raises:
        InputError: The predictions contain no logits, or have other classes.
    """
    if predictions.logits is None or predictions.classes != model.target.classes:
        raise InputError(
            "The predictions have no logits of the model's own classes. "
            "Collect them with collect_predictions()."
        )
    temperature = fit_temperature(predictions.logits, predictions.labels)
    head = model.head
    assert isinstance(head, HasTemperature)
    head.temperature.fill_(temperature)
    return temperature


def fit_platt(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    """Fit temperature and offset of mask logits.

    They minimize the negative log-likelihood of ``sigmoid(logits / temperature + offset)`` (Platt 1999,
    Advances in Large Margin Classifiers). They do not change the order of the cells. Weighting positive
    cells, or a Dice loss, inflates all probabilities; a temperature alone cannot correct this.

    Args:
        logits: Logits of samples that were not used for training, any shape.
        truth: Target, 0 or 1, same shape.

    Returns:
        Temperature within `TEMPERATURE_BOUNDS`, and offset.

    Raises:
        InputError: No cell or every cell has the event.
    """
    logits, truth = logits.double().flatten(), truth.double().flatten()
    if not 0 < float(truth.sum()) < len(truth):
        raise InputError(
            f"{int(truth.sum())} of {len(truth)} cells have the event; "
            "calibration requires cells with and without it"
        )
    log_temperature, offset = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    _minimize_nll(logits, truth, log_temperature, offset, [log_temperature, offset])
    temperature = math.exp(log_temperature.item())
    clipped = min(max(temperature, TEMPERATURE_BOUNDS[0]), TEMPERATURE_BOUNDS[1])
    if clipped != temperature:  # the offset depends on the temperature
        fixed = torch.tensor(math.log(clipped), dtype=torch.float64)
        _minimize_nll(logits, truth, fixed, offset, [offset])
    return clipped, offset.item()


def _minimize_nll(
    logits: Tensor, truth: Tensor, log_temperature: Tensor, offset: Tensor, parameters: list[Tensor]
) -> None:
    """Minimize the negative log-likelihood over the given parameters, in place."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(logits / log_temperature.exp() + offset, truth)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]


def calibrate_mask(model: GeoModel, data: GeoDataset, *, batch_size: int = 32) -> tuple[float, float]:
    """Fit temperature and offset of a mask model, and set them.

    Args:
        model: Mask model; its calibration is replaced in place.
        data: Samples that are not used for training or evaluation, such as the inner part of
            `GeoDataset.group_split`.
        batch_size: Samples per forward pass. Default: 32.

    Returns:
        Temperature and offset, which are saved with the model.

    Raises:
        InputError: The model does not predict masks, or no cell or every cell has the event.
        DatasetError: The dataset is empty, or belongs to another task.
    """
    head = model.head
    if not isinstance(head, IdentityMaskHead):
        raise InputError(f"{model.spec.name} does not predict masks; use calibrate_classes() for classes")
    before = float(head.temperature), float(head.offset)
    head.temperature.fill_(1.0)
    head.offset.fill_(0.0)
    logits, truth = [], []
    try:
        for prediction, observed, *_ in predict_batches(model, data, batch_size=batch_size):
            valid = torch.isfinite(prediction) & torch.isfinite(observed)
            logits.append(torch.logit(prediction[valid].double(), eps=1e-12))
            truth.append(observed[valid])
        found = fit_platt(torch.cat(logits), torch.cat(truth))
    except Exception:
        head.temperature.fill_(before[0])
        head.offset.fill_(before[1])
        raise
    head.temperature.fill_(found[0])
    head.offset.fill_(found[1])
    return found
