"""Evaluation of models: predictions, scores with intervals, figures, calibration, cross-validation."""

from geovision.errors import MissingExtraError

try:
    import torchmetrics  # noqa: F401  # required by every metric
except ImportError as error:
    raise MissingExtraError("torchmetrics", "train") from error

from geovision.evaluation._evaluate import evaluate
from geovision.evaluation.calibration import (
    calibrate,
    calibrate_classes,
    calibrate_mask,
    fit_platt,
    fit_temperature,
)
from geovision.evaluation.classification import ClassReport, score_classes
from geovision.evaluation.cross_validation import cross_validate
from geovision.evaluation.dense import DenseReport
from geovision.evaluation.dense_predictions import DensePredictions, EnsembleConfig, predict_batches
from geovision.evaluation.predictions import Predictions, collect_predictions
from geovision.evaluation.report import MetricValue, Report

__all__ = [
    "ClassReport",
    "DensePredictions",
    "DenseReport",
    "EnsembleConfig",
    "MetricValue",
    "Predictions",
    "Report",
    "calibrate",
    "calibrate_classes",
    "calibrate_mask",
    "collect_predictions",
    "cross_validate",
    "evaluate",
    "fit_platt",
    "fit_temperature",
    "predict_batches",
    "score_classes",
]
