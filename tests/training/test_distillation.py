"""Distillation: loss of target and teacher, benefit of both, and invalid arguments."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from helpers import maps

import geovision
from geovision import registry
from geovision.cli import main
from geovision.datasets.iberia import IberiaWinters
from geovision.datasets.rain_grids import CoarseRain
from geovision.errors import OptionError
from geovision.evaluation.dense_predictions import predict_batches
from geovision.metrics.functional import regression
from geovision.models.geomodel import GeoModel
from geovision.training.teacher_targets import TeacherTargets, attention


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tasks = {task.name: task for task in maps.TASKS.values()} | dict(registry.tasks())
        models = {spec.name: spec for spec in maps.MODELS.values()} | dict(registry.models())
        patch.setattr(registry, "tasks", lambda: MappingProxyType(tasks))
        patch.setattr(registry, "models", lambda: MappingProxyType(models))
        yield


def fresh() -> GeoModel:
    torch.manual_seed(1)
    return geovision.create("afield-tiny", **maps.Fields(8).model_kwargs())


def predict(model: GeoModel, data: maps.Fields) -> torch.Tensor:
    return torch.cat([each.prediction for each in predict_batches(model, data)])


def test_the_loss_combines_target_and_teacher() -> None:
    model, data = fresh(), maps.Fields(8)
    model.head.fit_statistics(torch.stack([data[n]["target"] for n in range(8)]))
    values, truth = torch.randn(2, 1, 12, 12), torch.rand(2, 1, 12, 12)
    teacher = torch.rand(8, 1, 12, 12)
    teacher[:, :, 0] = torch.nan
    found = TeacherTargets("t", teacher, 0.25).loss(
        model, model.loss(values, truth), values, torch.tensor([5, 2])
    )
    valid = torch.isfinite(teacher[[5, 2]])
    expected = 0.75 * model.loss(values, truth) + 0.25 * model.loss(values, teacher[[5, 2]], valid)
    assert float(found) == pytest.approx(float(expected))


def test_a_better_teacher_reduces_the_error_of_the_student() -> None:
    """The targets are noisy, the teacher is not: distillation gives a lower error to noise-free targets."""
    clean = maps.Fields(60)
    noisy = maps.Fields(60)
    noise = torch.randn(noisy.truth.shape, generator=torch.Generator().manual_seed(0)).exp()
    teacher = geovision.train(fresh(), clean, progress=False)

    class Noisy(maps.Fields):
        def read_sample(self, index: int):
            sample = super().read_sample(index)
            return sample | {"target": sample["target"] * noise[self.numbers[index]]}

    alone = geovision.train(fresh(), Noisy(60), progress=False)
    taught = geovision.distill(teacher, fresh(), Noisy(60), alpha=0.8, progress=False)
    truth = torch.stack([clean[n]["target"] for n in range(60)])
    assert regression.rmse(predict(taught, clean), truth) < 0.95 * regression.rmse(
        predict(alone, clean), truth
    )


def test_attention_is_proportional_to_squared_features() -> None:
    features = torch.zeros(2, 3, 4, 5)
    features[0, :, 1, 2] = torch.tensor([1.0, -2.0, 2.0])
    features[1] = -4.0
    found = attention(features)
    assert float(found[0, 1, 2]) == pytest.approx(1)
    assert float(found[0].sum()) == pytest.approx(1)
    torch.testing.assert_close(found[1], torch.full((4, 5), 20**-0.5))
    assert attention(features, (8, 10)).shape == (2, 8, 10)
    torch.testing.assert_close(found, attention(torch.cat([features, 3 * features], 1)))


def test_the_feature_term_aligns_attention_with_the_teacher() -> None:
    data = maps.Fields(24)
    teacher = geovision.train(fresh(), maps.Fields(60), progress=False).eval()
    inputs = {"coarse": torch.stack([data[n]["inputs"]["coarse"] for n in range(24)])}

    def apart(model: GeoModel) -> float:
        with torch.no_grad():
            own, its = (attention(each.eval().features(inputs)) for each in (model, teacher))
        return float((own - its).square().sum((1, 2)).mean())

    torch.manual_seed(7)
    student = geovision.create("afield-tiny", **data.model_kwargs())
    alone, taught = copy.deepcopy(student), copy.deepcopy(student)
    geovision.distill(teacher, alone, data, progress=False)
    geovision.distill(teacher, taught, data, feature_weight=3.0, progress=False)
    assert apart(taught) < 0.8 * apart(alone)


def test_invalid_students_and_options_are_refused() -> None:
    data = maps.Fields(8)
    with pytest.raises(OptionError, match="feature_weight=-1"):
        geovision.distill(fresh(), fresh(), data, feature_weight=-1.0)
    with pytest.raises(OptionError, match="alpha=1"):
        geovision.distill(fresh(), fresh(), data, alpha=1.0)
    nearest = geovision.create("afield-nearest", **data.model_kwargs())
    with pytest.raises(OptionError, match="has no feature maps to compare"):
        geovision.distill(nearest, fresh(), data, feature_weight=1.0)
    with pytest.raises(OptionError, match="not trained by gradient descent"):
        geovision.distill(fresh(), nearest, data)
    with pytest.raises(OptionError, match="same field"):
        geovision.distill(fresh(), geovision.create("amask-tiny"), data)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.mark.parametrize("kind", [IberiaWinters, CoarseRain])
def test_the_command_gives_the_student_the_inputs_of_the_teacher(
    kind: type[CoarseRain], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = kind.synthetic(tmp_path / "data", 24, seed=1)
    where = ["--data", data, *(["--dataset", "iberia"] if kind is IberiaWinters else [])]
    chosen = ["--predictor", "specific_humidity_850"] if kind is IberiaWinters else []
    given = (*where, "--epochs", 1, "--factor", 2)
    assert run("train", "downscale-tiny", *given, *chosen, "--out", tmp_path / "teacher") == 0
    teacher = geovision.load(tmp_path / "teacher" / "model")
    assert teacher.config.predictors == tuple(chosen[1:])
    options = "--alpha", 0.3, "--feature-weight", 1, "--out", tmp_path / "student"
    assert run("distill", tmp_path / "teacher" / "model", "downscale-tiny", *given, *options) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[-1] == str(tmp_path / "student" / "model")
    assert "distilling downscale-tiny into downscale-tiny: 21 samples" in output.err
    student = geovision.load(tmp_path / "student" / "model")
    assert student.config.predictors == teacher.config.predictors
    assert student.network.factor == 2
    assert not torch.equal(*(next(each.parameters()) for each in (student, teacher)))
    assert run("evaluate", tmp_path / "student" / "model", *where, "--n-bootstrap", 0) == 0
