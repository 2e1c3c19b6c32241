"""What a model is worth: its answers on a data set, scores with intervals, figures, calibration."""

from geovision.errors import MissingExtraError

try:
    import torchmetrics  # noqa: F401  # every score stands on it
except ImportError as error:
    raise MissingExtraError("torchmetrics", "train") from error

from geovision.evaluation._evaluate import evaluate
from geovision.evaluation.calibration import (
    calibrate,
    calibrate_mask,
    calibrate_on,
    fit_platt,
    fit_temperature,
)
from geovision.evaluation.classification import ClassReport, score
from geovision.evaluation.cross_validation import cross_validate
from geovision.evaluation.dense import GriddedReport
from geovision.evaluation.dense_predictions import Answers, EnsembleConfig, answers
from geovision.evaluation.predictions import Predictions, collect
from geovision.evaluation.report import Figure, Report

__all__ = [
    "Answers",
    "ClassReport",
    "EnsembleConfig",
    "Figure",
    "GriddedReport",
    "Predictions",
    "Report",
    "answers",
    "calibrate",
    "calibrate_mask",
    "calibrate_on",
    "collect",
    "cross_validate",
    "evaluate",
    "fit_platt",
    "fit_temperature",
    "score",
]
