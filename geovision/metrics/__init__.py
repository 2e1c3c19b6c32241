"""What each field calls good: the table of metrics by name, and the factory that builds one.

Every metric is a `torchmetrics.Metric` with `higher_is_better`, called as
``metric(prediction, target)``. What it takes follows the task's target: for classes, probabilities
``(sample, class)`` and labels ``(sample,)``; for fields
and masks, see `geovision.metrics.field_metrics`. A metric adds up states that can be merged, so one
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
    "rmse": "geovision.metrics.regression:rmse",
    "mae": "geovision.metrics.regression:mae",
    "bias": "geovision.metrics.regression:bias",
    "correlation": "geovision.metrics.regression:correlation",
    "csi_1": "geovision.metrics.field_metrics:csi_1",
    "csi_10": "geovision.metrics.field_metrics:csi_10",
    "ets_10": "geovision.metrics.field_metrics:ets_10",
    "pod_10": "geovision.metrics.field_metrics:pod_10",
    "far_10": "geovision.metrics.field_metrics:far_10",
    "fss_10_5": "geovision.metrics.field_metrics:fss_10_5",
    "p95_bias": "geovision.metrics.field_metrics:p95_bias",
    "p99_bias": "geovision.metrics.field_metrics:p99_bias",
    "p999_bias": "geovision.metrics.field_metrics:p999_bias",
    "r01_bias": "geovision.metrics.field_metrics:r01_bias",
    "sdii_bias": "geovision.metrics.field_metrics:sdii_bias",
    "rx1day_bias": "geovision.metrics.field_metrics:rx1day_bias",
    "cdd_bias": "geovision.metrics.spells:cdd_bias",
    "cwd_bias": "geovision.metrics.spells:cwd_bias",
    "crps": "geovision.metrics.ensemble:crps",
    "spread": "geovision.metrics.ensemble:spread",
    "spread_error_ratio": "geovision.metrics.ensemble:spread_error_ratio",
    "time_correlation": "geovision.metrics.field_metrics:time_correlation",
    "ralsd": "geovision.metrics.field_metrics:ralsd",
    "wasserstein": "geovision.metrics.field_metrics:wasserstein",
    "psnr": "geovision.metrics.field_metrics:psnr",
    "ssim": "geovision.metrics.field_metrics:ssim",
    "ms_ssim": "geovision.metrics.field_metrics:ms_ssim",
    "csi": "geovision.metrics.field_metrics:csi",
    "pod": "geovision.metrics.field_metrics:pod",
    "far": "geovision.metrics.field_metrics:far",
    "hss": "geovision.metrics.field_metrics:hss",
    "ets": "geovision.metrics.field_metrics:ets",
    "frequency_bias": "geovision.metrics.field_metrics:frequency_bias",
    "mask_brier": "geovision.metrics.field_metrics:mask_brier",
    "pofd": "geovision.metrics.mask_metrics:pofd",
    "sedi": "geovision.metrics.mask_metrics:sedi",
    "mask_fss_1": "geovision.metrics.mask_metrics:mask_fss_1",
    "mask_fss_11": "geovision.metrics.mask_metrics:mask_fss_11",
    "mask_fss_21": "geovision.metrics.mask_metrics:mask_fss_21",
    "mask_fss_41": "geovision.metrics.mask_metrics:mask_fss_41",
    "mask_brier_skill": "geovision.metrics.mask_metrics:mask_brier_skill",
    "mask_calibration_error": "geovision.metrics.mask_metrics:mask_calibration_error",
    "object_pod": "geovision.metrics.mask_metrics:object_pod",
    "object_far": "geovision.metrics.mask_metrics:object_far",
    "object_distance": "geovision.metrics.mask_metrics:object_distance",
    "csi_per_sample": "geovision.metrics.mask_metrics:csi_per_sample",
    "mask_f1_per_sample": "geovision.metrics.mask_metrics:mask_f1_per_sample",
    "pod_per_sample": "geovision.metrics.mask_metrics:pod_per_sample",
    "far_per_sample": "geovision.metrics.mask_metrics:far_per_sample",
    "mask_contingency": "geovision.metrics.mask_metrics:mask_contingency",
    "mask_reliability": "geovision.metrics.mask_metrics:mask_reliability",
    "mask_pr_auc": "geovision.metrics.field_metrics:mask_pr_auc",
    "mask_fss": "geovision.metrics.field_metrics:mask_fss",
    "mask_table": "geovision.metrics.field_metrics:mask_table",
    "mask_f1": "geovision.metrics.field_metrics:mask_f1",
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
