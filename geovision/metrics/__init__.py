"""Metrics by name, with thresholds and scales as parameters.

Every metric is a `torchmetrics.Metric` with `higher_is_better`, called as ``metric(prediction, target)``.
For classes, predictions are probabilities, shape (sample, class), and targets are labels, shape (sample,).
For fields and masks, both have shape (sample, 1, y, x) and are NaN where missing; see
`geovision.metrics.field_metrics` and `geovision.metrics.mask_metrics`.

The states of a metric can be merged. The same code therefore computes a value over a dataset, over several
processes and over a bootstrap resample. The formulas are functions in `geovision.metrics.functional`.

To add a metric, write one function ``name(target, **parameters) -> Metric`` and add one line to `METRICS`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from geovision.errors import MissingExtraError, OptionError, nearest
from geovision.spec import Target, resolve

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["METRICS", "NotApplicable", "applicable", "create", "function_of", "label", "parse"]

_CLASS = "geovision.metrics.classification:"
_DETECTION = "geovision.metrics.detection:"
_CALIBRATION = "geovision.metrics.calibration:"
_REGRESSION = "geovision.metrics.regression:"
_FIELD = "geovision.metrics.field_metrics:"
_MASK = "geovision.metrics.mask_metrics:"
_ENSEMBLE = "geovision.metrics.ensemble:"
_SPELLS = "geovision.metrics.spells:"

METRICS: dict[str, dict[str, str]] = {
    # classes
    "accuracy": {"class": _CLASS + "accuracy"},
    "macro_f1": {"class": _CLASS + "macro_f1"},
    "macro_precision": {"class": _CLASS + "macro_precision"},
    "macro_recall": {"class": _CLASS + "macro_recall"},
    "balanced_accuracy": {"class": _CLASS + "balanced_accuracy"},
    "level_accuracy": {"class": _CLASS + "level_accuracy"},
    "precision": {"class": _CLASS + "precision"},
    "recall": {"class": _CLASS + "recall"},
    "confusion": {"class": _CLASS + "confusion"},
    "positive_f1": {"class": _DETECTION + "positive_f1"},
    "positive_precision": {"class": _DETECTION + "positive_precision"},
    "positive_recall": {"class": _DETECTION + "positive_recall"},
    "roc_auc": {"class": _DETECTION + "roc_auc"},
    "missed": {"class": _DETECTION + "missed"},
    "false_alarms": {"class": _DETECTION + "false_alarms"},
    "errors": {"class": _DETECTION + "errors"},
    "nll": {"class": _CALIBRATION + "nll"},
    # classes and masks
    "f1": {"class": _CLASS + "f1", "mask": _MASK + "f1"},
    "pr_auc": {"class": _DETECTION + "pr_auc", "mask": _MASK + "pr_auc"},
    "brier": {"class": _CALIBRATION + "brier", "mask": _MASK + "brier"},
    "calibration_error": {"class": _CALIBRATION + "calibration_error", "mask": _MASK + "calibration_error"},
    # fields and masks: events
    "csi": {"field": _FIELD + "csi", "mask": _MASK + "csi"},
    "pod": {"field": _FIELD + "pod", "mask": _MASK + "pod"},
    "far": {"field": _FIELD + "far", "mask": _MASK + "far"},
    "pofd": {"field": _FIELD + "pofd", "mask": _MASK + "pofd"},
    "hss": {"field": _FIELD + "hss", "mask": _MASK + "hss"},
    "ets": {"field": _FIELD + "ets", "mask": _MASK + "ets"},
    "sedi": {"field": _FIELD + "sedi", "mask": _MASK + "sedi"},
    "frequency_bias": {"field": _FIELD + "frequency_bias", "mask": _MASK + "frequency_bias"},
    "fss": {"field": _REGRESSION + "fss", "mask": _MASK + "fss"},
    # masks
    "brier_skill": {"mask": _MASK + "brier_skill"},
    "contingency": {"mask": _MASK + "contingency"},
    "probability_histogram": {"mask": _MASK + "probability_histogram"},
    "reliability": {"mask": _MASK + "reliability"},
    "object_pod": {"mask": _MASK + "object_pod"},
    "object_far": {"mask": _MASK + "object_far"},
    "object_distance": {"mask": _MASK + "object_distance"},
    # fields
    "rmse": {"field": _REGRESSION + "rmse"},
    "mae": {"field": _REGRESSION + "mae"},
    "bias": {"field": _REGRESSION + "bias"},
    "correlation": {"field": _REGRESSION + "correlation"},
    "time_correlation": {"field": _FIELD + "time_correlation"},
    "quantile_bias": {"field": _FIELD + "quantile_bias"},
    "wet_day_frequency_bias": {"field": _FIELD + "wet_day_frequency_bias"},
    "sdii_bias": {"field": _FIELD + "sdii_bias"},
    "rx1day_bias": {"field": _FIELD + "rx1day_bias"},
    "cdd_bias": {"field": _SPELLS + "cdd_bias"},
    "cwd_bias": {"field": _SPELLS + "cwd_bias"},
    "ralsd": {"field": _FIELD + "ralsd"},
    "wasserstein": {"field": _FIELD + "wasserstein"},
    "psnr": {"field": _FIELD + "psnr"},
    "ssim": {"field": _FIELD + "ssim"},
    "ms_ssim": {"field": _FIELD + "ms_ssim"},
    "crps": {"field": _ENSEMBLE + "crps"},
    "spread": {"field": _ENSEMBLE + "spread"},
    "spread_error_ratio": {"field": _ENSEMBLE + "spread_error_ratio"},
}
"""``"module:function"`` that creates each metric, by metric name and kind of target."""


class NotApplicable(OptionError):
    """Raised if a metric exists but is not defined for a target."""


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``"name(parameter=value, ...)"`` into name and parameters.

    Args:
        text: Name of a metric, optionally with keyword parameters that are Python literals.

    Returns:
        Name, and parameters by their names.

    Raises:
        OptionError: The text has another form.

    >>> parse("fss(threshold=10, scale=5)")
    ('fss', {'threshold': 10, 'scale': 5})
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)) or tree.args:
            raise ValueError("not a call with keyword arguments")
        return tree.func.id, {str(each.arg): ast.literal_eval(each.value) for each in tree.keywords}
    except (SyntaxError, ValueError) as error:
        raise OptionError(
            f"{text!r} is not a metric; expected a name or name(parameter=value), as in 'csi(threshold=10)'"
        ) from error


def label(name: str, **parameters: Any) -> str:
    """Return the name of a metric with its parameters, as `parse` reads it.

    Args:
        name: Name of the metric.
        **parameters: Parameters of the metric.

    >>> label("csi", threshold=10)
    'csi(threshold=10)'
    """
    inner = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    return f"{name}({inner})" if inner else name


def create(name: str, target: Target, **parameters: Any) -> Metric:
    """Create an empty metric by name.

    Args:
        name: One of `METRICS`, optionally with parameters: ``"csi(threshold=10)"``.
        target: Target of the predictions. Its classes, or its unit and range, configure the metric.
        **parameters: Thresholds, scales and ranges of the metric, in the unit of the target. They override
            parameters in `name`.

    Raises:
        OptionError: No metric has this name or these parameters; the message suggests similar names.
        NotApplicable: The metric is not defined for the target.
        MissingExtraError: torchmetrics is not installed.

    >>> from geovision.spec import ClassTarget
    >>> create("calibration_error", ClassTarget(("clear", "cloudy"))).higher_is_better
    False
    """
    base, given = parse(name)
    given |= parameters
    if base not in METRICS:
        raise OptionError(f"{base!r} is not a geovision metric. {_hint(base, target)}")
    try:
        import torchmetrics  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "train") from error
    if target.kind not in METRICS[base]:
        kinds = " or ".join(METRICS[base])
        raise NotApplicable(f"metric {base!r} is defined for a {kinds}, not for a {target.kind}")
    function = resolve(METRICS[base][target.kind])
    try:
        inspect.signature(function).bind(target, **given)
    except TypeError as error:
        known = list(inspect.signature(function).parameters)[1:]
        raise OptionError(f"metric {base!r}: {error}; parameters: {', '.join(known) or 'none'}") from error
    metric: Metric = function(target, **given)
    return metric


def _hint(name: str, target: Target) -> str:
    """Return the remedy for an unknown name: parameters, or similar names."""
    stem, *numbers = name.split("_")
    if stem in METRICS and numbers and all(re.fullmatch(r"[\d.]+", number) for number in numbers):
        function = resolve(METRICS[stem].get(target.kind) or next(iter(METRICS[stem].values())))
        parameters = list(inspect.signature(function).parameters)[1:]
        example = label(
            stem, **{key: float(number) for key, number in zip(parameters, numbers, strict=False)}
        )
        return f"Thresholds and scales are parameters, as in {example!r}."
    if near := nearest(name, METRICS):
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"Metrics: {', '.join(METRICS)}."


def function_of(name: str, kind: str | None = None) -> Any:
    """Return the function that creates a metric, for its documentation.

    Args:
        name: Name with or without parameters.
        kind: Kind of the target. Default: the first kind that the metric is defined for.
    """
    kinds = METRICS[parse(name)[0]]
    return resolve(kinds[kind] if kind in kinds else next(iter(kinds.values())))


def applicable(names: Iterable[str], target: Target) -> dict[str, Metric]:
    """Return the metrics that are defined for a target, by label, in their order.

    Other metrics, such as the level accuracy of classes without levels, are omitted.

    Args:
        names: Names with or without parameters.
        target: Target of the predictions.

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
