"""Metrics of classes: compared with independent implementations, and their common properties."""

from __future__ import annotations

import contextlib
import inspect
import math

import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geovision import metrics
from geovision.errors import OptionError
from geovision.registry import find_task, list_tasks
from geovision.spec import Channel, ClassCard, ClassTarget, FieldTarget, MaskTarget, Text

NAMES = ("a", "b", "c", "d")
LEVELS = ("low", "low", "middle", "high")
TARGET = ClassTarget(
    NAMES,
    tuple(ClassCard(n, Text(n, n), level) for n, level in zip(NAMES, LEVELS, strict=True)),
    positive="d",
)
PER_CLASS = ("precision", "recall", "f1")
# Scores of one class and counts are tested in test_detection.py.
NUMBERS = [
    name
    for name in metrics.applicable((*metrics.METRICS, "accuracy(top_k=2)", "accuracy(top_k=3)"), TARGET)
    if name not in (*PER_CLASS, "confusion")
    and "detection" not in metrics.METRICS[metrics.parse(name)[0]]["class"]
]


def sample(n: int = 200, seed: int = 0, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Return probabilities and labels that agree more often than by chance."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = (torch.randn(n, classes, generator=generator) * 1.5).softmax(dim=1)
    return probabilities, torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def value(name: str, probabilities: Tensor, labels: Tensor, target: ClassTarget = TARGET) -> float:
    return float(metrics.create(name, target)(probabilities, labels))


ORACLES = {
    "macro_f1": lambda p, y: oracle.f1_score(y, p.argmax(1), average="macro"),
    "macro_precision": lambda p, y: oracle.precision_score(y, p.argmax(1), average="macro", zero_division=0),
    "macro_recall": lambda p, y: oracle.recall_score(y, p.argmax(1), average="macro", zero_division=0),
    "balanced_accuracy": lambda p, y: oracle.recall_score(
        y, p.argmax(1), average="macro", labels=np.unique(y)
    ),
    "accuracy": lambda p, y: oracle.accuracy_score(y, p.argmax(1)),
    "accuracy(top_k=2)": lambda p, y: oracle.top_k_accuracy_score(y, p, k=2, labels=range(4)),
    "accuracy(top_k=3)": lambda p, y: oracle.top_k_accuracy_score(y, p, k=3, labels=range(4)),
    "level_accuracy": lambda p, y: np.mean(np.array(LEVELS)[p.argmax(1)] == np.array(LEVELS)[y]),
    "brier": lambda p, y: np.mean(((p - np.eye(4)[y]) ** 2).sum(1)),
    "nll": lambda p, y: oracle.log_loss(y, p.astype(np.float32), labels=range(4)),
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("absent", [False, True], ids=["all classes", "a class absent"])
def test_agrees_with_another_implementation(name: str, absent: bool) -> None:
    probabilities, labels = sample()
    if absent:  # predicted, but never a target
        keep = labels != 3
        probabilities, labels = probabilities[keep], labels[keep]
        assert (probabilities.argmax(1) == 3).any()
    expected = ORACLES[name](probabilities.double().numpy(), labels.numpy())
    assert value(name, probabilities, labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_per_class_scores_agree_with_scikit_learn(name: str) -> None:
    probabilities, labels = sample()
    score = getattr(oracle, f"{name}_score")
    expected = score(labels.numpy(), probabilities.argmax(1).numpy(), average=None)
    assert metrics.create(name, TARGET)(probabilities, labels).numpy() == pytest.approx(expected, abs=1e-6)


def test_confusion_has_the_true_class_in_rows() -> None:
    probabilities, labels = sample()
    table = metrics.create("confusion", TARGET)(probabilities, labels).numpy()
    expected = oracle.confusion_matrix(labels.numpy(), probabilities.argmax(1).numpy())
    assert (table == expected).all()


def test_macro_f1_counts_the_classes_that_occur() -> None:
    # Targets a a b, predictions a b b. Two of four classes occur: F1(a) = F1(b) = 2/3. If c and d counted
    # with 0, the mean would be 1/3.
    probabilities, labels = torch.eye(4)[[0, 1, 1]], torch.tensor([0, 0, 1])
    assert value("macro_f1", probabilities, labels) == pytest.approx(2 / 3)
    # Class c is now predicted once and never a target: it counts with 0.
    probabilities, labels = torch.eye(4)[[0, 1, 1, 2]], torch.tensor([0, 0, 1, 1])
    assert value("macro_f1", probabilities, labels) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_per_class_scores_of_a_class_that_does_not_occur_are_undefined() -> None:
    probabilities, labels = torch.eye(4)[[0, 1, 1]], torch.tensor([0, 0, 2])
    precision, recall, f1 = (
        metrics.create(name, TARGET)(probabilities, labels).tolist() for name in PER_CLASS
    )
    assert precision[:2] == [1.0, 0.0]
    assert math.isnan(precision[2])  # c is a target and never predicted
    assert math.isnan(recall[1])  # b is predicted and never a target
    assert f1[:3] == [pytest.approx(2 / 3), 0.0, 0.0]
    assert math.isnan(f1[3])


def test_calibration_error_by_hand() -> None:
    # Two bins of 15: (0.6, 0.6667] holds three predictions of confidence 0.65, two right; (0.8667,
    # 0.9333] one of 0.9, wrong. 3/4 |2/3 - 0.65| + 1/4 |0 - 0.9|.
    top = torch.tensor([0.65, 0.65, 0.65, 0.9])
    probabilities = torch.stack([top, *[(1 - top) / 3] * 3], dim=1)
    expected = 0.75 * abs(2 / 3 - 0.65) + 0.25 * 0.9
    assert value("calibration_error", probabilities, torch.tensor([0, 0, 1, 1])) == pytest.approx(expected)


def test_calibration_error_accepts_a_sum_slightly_above_one() -> None:
    # Summed probabilities of merged classes can round to above 1; they are not logits.
    probabilities = torch.tensor([[1.0000001, 0.0, 0.0, 0.0]]).repeat(8, 1)
    assert value("calibration_error", probabilities, torch.zeros(8, dtype=torch.int64)) == 0


# --- properties ---------------------------------------------------------------------------------

_seeds = st.integers(0, 2**31)
_few = settings(max_examples=8, deadline=None)


@pytest.mark.parametrize("name", NUMBERS)
@_few
@given(seed=_seeds, n=st.integers(2, 40))
def test_the_order_of_samples_does_not_matter(name: str, seed: int, n: int) -> None:
    probabilities, labels = sample(n, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    shuffled = value(name, probabilities[order], labels[order])
    assert shuffled == pytest.approx(value(name, probabilities, labels), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "level_accuracy"])
@_few
@given(seed=_seeds, n=st.integers(2, 40))
def test_the_order_of_classes_does_not_matter(name: str, seed: int, n: int) -> None:
    probabilities, labels = sample(n, seed)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    renamed = value(name, probabilities[:, order], order.argsort()[labels])
    assert renamed == pytest.approx(value(name, probabilities, labels), abs=1e-5)


@pytest.mark.parametrize("name", NUMBERS)
@_few
@given(seed=_seeds, n=st.integers(1, 40))
def test_certain_and_right_predictions_have_the_best_score(name: str, seed: int, n: int) -> None:
    probabilities, labels = sample(n, seed)
    metric = metrics.create(name, TARGET)
    best = 1.0 if metric.higher_is_better else 0.0
    perfect = float(metric(torch.eye(4)[labels], labels))
    assert perfect == pytest.approx(best, abs=1e-6)
    other = value(name, probabilities, labels)
    assert other <= best + 1e-6 if metric.higher_is_better else other >= best - 1e-6


@_few
@given(seed=_seeds, n=st.integers(1, 40))
def test_top_k_accuracy_grows_with_k(seed: int, n: int) -> None:
    probabilities, labels = sample(n, seed)
    top = [value(f"accuracy(top_k={k})", probabilities, labels) for k in (1, 2, 3)]
    assert top == sorted(top)
    assert top[0] <= value("level_accuracy", probabilities, labels) + 1e-6


@pytest.mark.parametrize("name", NUMBERS)
def test_updates_by_batch_give_the_score_of_all_samples(name: str) -> None:
    probabilities, labels = sample(50)
    metric = metrics.create(name, TARGET)
    for batch in torch.arange(50).split(7):
        metric.update(probabilities[batch], labels[batch])
    assert float(metric.compute()) == pytest.approx(value(name, probabilities, labels), abs=1e-6)


# --- the factory --------------------------------------------------------------------------------


def test_an_unknown_metric_suggests_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"'macro_f2' is not a geovision metric. Did you mean 'macro_f1'"):
        metrics.create("macro_f2", TARGET)
    with pytest.raises(OptionError, match=r"Metrics: accuracy, macro_f1, "):
        metrics.create("zzz", TARGET)


def test_metrics_of_classes_do_not_fit_a_mask() -> None:
    alone = [name for name, kinds in metrics.METRICS.items() if list(kinds) == ["class"]]
    assert "macro_f1" in alone
    for name in alone:
        with pytest.raises(metrics.NotApplicable, match=r"is defined for a class, not for a mask"):
            metrics.create(name, MaskTarget("polar_low"))


def test_inapplicable_metrics_are_omitted_and_unknown_ones_are_an_error() -> None:
    plain = ClassTarget(("clear", "cloudy"))
    assert list(
        metrics.applicable(("accuracy", "accuracy(top_k=2)", "accuracy(top_k=3)", "level_accuracy"), plain)
    ) == ["accuracy"]
    with pytest.raises(OptionError, match="not a geovision metric"):
        metrics.applicable(("accuracy", "levl_accuracy"), plain)


@pytest.mark.parametrize("task", list_tasks())
def test_every_metric_of_a_task_exists_and_has_a_direction(task: str) -> None:
    names = find_task(task).metrics
    built = metrics.applicable(names, find_task(task).target)
    assert list(built) == list(names)
    assert all(isinstance(m.higher_is_better, bool) or directionless(name) for name, m in built.items())


def directionless(name: str) -> bool:
    """Return whether a metric has no better direction.

    Examples are tables, a bias (best at 0), a ratio (best at 1) and a spread (best at the size of the error).
    """
    tables = ("confusion", "probability_histogram", "contingency", "reliability")
    base = metrics.parse(name)[0]
    return base in (*tables, "spread") or base.endswith(("bias", "ratio"))


RAIN = FieldTarget(Channel("precipitation", "mm day-1", (0.0, 1500.0)))


PARAMETERS = {"threshold": 1.0, "scale": 3, "q": 0.9, "data_range": 100.0}
"""A value of each parameter that a metric may require."""


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in metrics.METRICS.items() for kind in kinds]
)
def test_every_metric_is_built_for_each_kind_of_target(name: str, kind: str) -> None:
    assert metrics.METRICS[name][kind].rpartition(":")[2] == name
    positive = ClassTarget(("no", "yes"), positive="yes")
    targets = {"class": [TARGET, positive], "field": [RAIN], "mask": [MaskTarget("hail")]}[kind]
    signature = inspect.signature(metrics.function_of(name, kind))
    required = {
        each.name: PARAMETERS[each.name]
        for each in list(signature.parameters.values())[1:]
        if each.default is each.empty
    }
    built = []
    for target in targets:
        with contextlib.suppress(metrics.NotApplicable):
            built.append(metrics.create(name, target, **required))
    assert built
    assert all(metric.higher_is_better is not None or directionless(name) for metric in built)


def test_parameters_are_part_of_the_name() -> None:
    assert metrics.label("fss", threshold=10, scale=5) == "fss(threshold=10, scale=5)"
    assert metrics.parse("fss(threshold=10, scale=5)") == ("fss", {"threshold": 10, "scale": 5})
    named = metrics.create("csi(threshold=10)", RAIN)
    given = metrics.create("csi", RAIN, threshold=10)
    assert (named.name, named.threshold) == (given.name, given.threshold) == ("critical_success_index", 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("csi", r"metric 'csi': missing a required argument: 'threshold'; parameters: threshold$"),
        ("csi(threshold=1, limit=3)", r"metric 'csi': .*'limit'.*; parameters: threshold"),
        ("csi(10)", r"'csi\(10\)' is not a metric; expected a name or name\(parameter=value\)"),
        ("csi(threshold=open('x'))", r"is not a metric; expected"),
        ("quantile_bias(q=99)", r"q=99 is not a probability; expected 0 to 1"),
    ],
)
def test_wrong_parameters_are_refused_with_the_valid_ones(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        metrics.create(name, RAIN)


def test_the_threshold_of_a_mask_defaults_to_that_of_the_target() -> None:
    target = MaskTarget("hail", threshold=0.3)
    assert metrics.create("csi", target).threshold == 0.3
    assert metrics.create("csi", target, threshold=0.7).threshold == 0.7
