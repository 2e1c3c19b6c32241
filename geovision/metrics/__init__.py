"""What each field calls good: the table of metrics by name, and the factory that builds one.

Every metric is a `torchmetrics.Metric` with `higher_is_better`, called as
``metric(prediction, target)``. What it takes follows the task's target: for classes, probabilities
``(sample, class)`` and labels ``(sample,)``. A metric adds up states that can be merged, so one
value over a data set, over several processes and over a bootstrap resample come from the same code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from geovision.errors import MissingExtraError, OptionError, nearest
from geovision.spec import Target, resolve

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["METRICS", "NotApplicable", "applicable", "create"]

METRICS: dict[str, str] = {
    "macro_f1": "geovision.metrics.classification:macro_f1",
    "macro_precision": "geovision.metrics.classification:macro_precision",
    "macro_recall": "geovision.metrics.classification:macro_recall",
    "balanced_accuracy": "geovision.metrics.classification:balanced_accuracy",
    "top1": "geovision.metrics.classification:top1",
    "top2": "geovision.metrics.classification:top2",
    "top3": "geovision.metrics.classification:top3",
    "level_accuracy": "geovision.metrics.classification:level_accuracy",
    "precision": "geovision.metrics.classification:precision",
    "recall": "geovision.metrics.classification:recall",
    "f1": "geovision.metrics.classification:f1",
    "confusion": "geovision.metrics.classification:confusion",
    "positive_f1": "geovision.metrics.detection:positive_f1",
    "positive_precision": "geovision.metrics.detection:positive_precision",
    "positive_recall": "geovision.metrics.detection:positive_recall",
    "pr_auc": "geovision.metrics.detection:pr_auc",
    "roc_auc": "geovision.metrics.detection:roc_auc",
    "missed": "geovision.metrics.detection:missed",
    "false_alarms": "geovision.metrics.detection:false_alarms",
    "errors": "geovision.metrics.detection:errors",
    "calibration_error": "geovision.metrics.calibration:calibration_error",
    "brier": "geovision.metrics.calibration:brier",
    "nll": "geovision.metrics.calibration:nll",
}
"""Metric name to ``"module:function"``, a function of the target that gives the metric."""


class NotApplicable(OptionError):
    """The metric exists but says nothing about this target: levels where classes have none."""


def create(name: str, target: Target) -> Metric:
    """A metric by name, empty.

    Args:
        name: One of `METRICS`.
        target: What the predictions are; its classes, or its unit and range, shape the metric.

    Raises:
        OptionError: No metric has this name; the nearest ones are named.
        NotApplicable: The metric does not fit the target.
        MissingExtraError: torchmetrics is not installed.

    >>> from geovision.spec import ClassTarget
    >>> create("calibration_error", ClassTarget(("clear", "cloudy"))).higher_is_better
    False
    """
    if name not in METRICS:
        near = nearest(name, METRICS)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Metrics: {', '.join(METRICS)}."
        raise OptionError(f"{name!r} is not a geovision metric. {hint}")
    try:
        import torchmetrics  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "train") from error
    return resolve(METRICS[name])(target)


def applicable(names: Iterable[str], target: Target) -> dict[str, Metric]:
    """The metrics of these names that fit the target, by name, in their order; the others, such as
    the level accuracy of classes without levels, are left out.

    Raises:
        OptionError: No metric has one of the names.
    """
    found = {}
    for name in names:
        try:
            found[name] = create(name, target)
        except NotApplicable:
            continue
    return found
