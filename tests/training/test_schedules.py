"""Plateau schedules, decoupled weight decay, early stopping, and balanced batches."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.blobs import Blobs
from helpers.training import PLAIN, assert_same, column, state, tiny, train, with_stage

from geovision.errors import OptionError
from geovision.spec import Recipe, Stage
from geovision.training import optim
from geovision.training.callbacks import Plateau
from geovision.training.lightning_module import StageModule

# --- decay --------------------------------------------------------------------------------------


def test_decay_by_step_is_independent_of_the_rate():
    """With a gradient of zero, only the decay changes the weights."""
    model = tiny()
    stage = Stage(epochs=4, lr=1e-3, weight_decay=1e-2, decay_by="step", schedule="constant")
    optimizer, _ = optim.build_optimizer(model, stage, 10)
    weight, bias = model.head.linear.weight, model.head.linear.bias
    with torch.no_grad():
        bias.fill_(1.0)
    first = weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for number in range(1, 7):
        if number == 4:  # as on a plateau
            for group in optimizer.param_groups:
                group["lr"] /= 2
        optimizer.step()
        torch.testing.assert_close(weight, first * (1 - 1e-2) ** number, rtol=1e-5, atol=0)
    assert bias.eq(1.0).all()  # excluded from decay, as usual


def test_decay_by_rate_matches_torch():
    model = tiny()
    optimizer, _ = optim.build_optimizer(model, Stage(epochs=1, lr=1e-3, weight_decay=0.1), 10)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}
    first = model.head.linear.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.head.linear.weight, first * (1 - 1e-4), rtol=1e-6, atol=0)


def test_decay_by_rate_and_by_step_agree_at_a_rate_of_a_thousandth():
    data = Blobs(48)
    constant = with_stage(PLAIN, schedule="constant", lr=1e-3)
    by_rate = train(tiny(), data, with_stage(constant, weight_decay=0.1))
    by_step = train(tiny(), data, with_stage(constant, weight_decay=1e-4, decay_by="step"))
    assert_same(state(by_rate), state(by_step), tolerance=1e-6)


def test_a_rate_of_zero_is_no_division_by_zero():
    model = tiny()
    optimizer, schedule = optim.build_optimizer(model, Stage(epochs=1, decay_by="step"), 1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    before = state(model)
    optimizer.step()
    assert_same(state(model), before)


def test_decay_by_step_is_for_adamw():
    with pytest.raises(OptionError, match="decay_by='step' is for optimizer='adamw'"):
        train(tiny(), Blobs(32), with_stage(PLAIN, optimizer="sgd", decay_by="step"))


# --- plateau and stopping -----------------------------------------------------------------------


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch):
    """Set the training losses by epoch; the training itself runs."""

    def choose(values: Sequence[float]) -> None:
        given = iter(values)
        begin = StageModule.on_train_epoch_start

        def on_train_epoch_start(self):
            begin(self)
            self.chosen = next(given)

        monkeypatch.setattr(StageModule, "on_train_epoch_start", on_train_epoch_start)
        monkeypatch.setattr(StageModule, "training_loss", property(lambda self: self.chosen))

    return choose


ON_A_PLATEAU = Recipe(
    stages=(Stage(epochs=9, batch_size=16, lr=8e-3, schedule="plateau", plateau=2),),
    monitor="train_loss",
    precision="32-true",
)


def test_the_rate_halves_after_the_patience_of_the_plateau(tmp_path: Path, losses):
    losses([5, 4, 4, 4.5, 3, 3, 3, 3, 3])
    train(tiny(), Blobs(32), ON_A_PLATEAU, out=tmp_path / "run")
    # The rate is logged after the end of the epoch, so it includes the effect of its loss.
    expected = [8e-3, 8e-3, 8e-3, 4e-3, 4e-3, 4e-3, 2e-3, 2e-3, 1e-3]
    assert column(tmp_path / "run", "lr") == pytest.approx(expected)


def test_warmup_can_be_combined_with_a_plateau():
    model = tiny()
    stage = Stage(epochs=4, lr=1.0, warmup=1, schedule="plateau")
    optimizer, schedule = optim.build_optimizer(model, stage, 4)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_the_training_loss_can_stop_training_without_validation(tmp_path: Path, losses):
    losses([5, 4, 3, 3, 3, 2, 1, 1, 1])
    recipe = dataclasses.replace(ON_A_PLATEAU, patience=2)
    model = train(tiny(), Blobs(32), recipe, out=tmp_path / "run")
    assert model.training_record["epochs"] == 5


def test_the_named_loss_is_monitored(tmp_path: Path):
    """With random labels, the training loss keeps falling, and the validation loss does not."""
    recipe = dataclasses.replace(ON_A_PLATEAU, patience=2, monitor="val_loss")
    recipe = with_stage(recipe, lr=1e-2, epochs=12)
    train(tiny(), Blobs(48, wrong=0.4), recipe, validation=Blobs(48, seed=1, wrong=0.4), out=tmp_path / "v")
    watched = column(tmp_path / "v", "val_loss")
    assert len(watched) < 12
    assert min(watched) == watched[-3]


@pytest.mark.parametrize("changes", [{"patience": 3}, {}])
def test_monitoring_the_validation_loss_requires_validation(changes):
    recipe = dataclasses.replace(ON_A_PLATEAU, monitor="val_loss", **changes)
    with pytest.raises(OptionError, match="monitor='train_loss'"):
        train(tiny(), Blobs(32), recipe)


def test_an_interrupted_training_on_a_plateau_resumes_identically(tmp_path: Path, monkeypatch):
    """Interrupt at every state of the schedule, with real losses."""
    recipe = dataclasses.replace(with_stage(ON_A_PLATEAU, plateau=1, epochs=5, decay_by="step"), patience=4)
    whole = train(tiny(), Blobs(48, wrong=0.5), recipe, out=tmp_path / "whole")
    rates = column(tmp_path / "whole", "lr")
    ordinary, left = Plateau.on_train_epoch_end, [3]

    def interrupted(self, trainer, pl_module):
        ordinary(self, trainer, pl_module)
        left[0] -= 1

    def stop(self, *_):
        if left[0] == 0:
            left[0] = -1
            raise KeyboardInterrupt

    monkeypatch.setattr(Plateau, "on_train_epoch_end", interrupted)
    monkeypatch.setattr(Plateau, "on_train_epoch_start", stop, raising=False)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tiny(), Blobs(48, wrong=0.5), recipe, out=tmp_path / "run")
    resumed = train(tiny(), Blobs(48, wrong=0.5), recipe, out=tmp_path / "run", resume=True)
    assert column(tmp_path / "run", "lr") == rates
    assert_same(state(resumed), state(whole))


# --- balanced batches ---------------------------------------------------------------------------


class Lopsided(Blobs):
    """Blobs with few red ones."""

    def __init__(self, n: int, **options) -> None:
        super().__init__(n, **options)
        red = torch.nonzero(self.labels == 0)[:, 0]
        keep = torch.ones(n, dtype=torch.bool)
        keep[red[3:]] = False
        self.pictures, self.labels, self.known = self.pictures[keep], self.labels[keep], self.known[keep]


def test_every_balanced_step_has_equal_class_counts(tmp_path: Path):
    data, model, seen = Lopsided(60), tiny(), []
    step = StageModule.training_step

    def training_step(self, batch, batch_idx):
        seen.append(np.bincount(batch.target.numpy(), minlength=3).tolist())
        return step(self, batch, batch_idx)

    recipe = with_stage(PLAIN, epochs=2, batch_size=12, sampling="balanced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageModule, "training_step", training_step)
        train(model, data, recipe, out=tmp_path / "run")
    largest = int(data.labels.bincount().max())
    assert seen == [[4, 4, 4]] * (2 * -(-largest // 4))
    with (tmp_path / "run" / "log.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [len(seen) // 2, len(seen)]
    assert model.training_record["steps"] == len(seen)


def test_a_dataset_without_labels_cannot_be_balanced():
    data = Blobs(32)
    del data.labels
    data.__class__ = type("Silent", (Blobs,), {"__len__": lambda self: 32})
    with pytest.raises(OptionError, match="blobs has no list of labels"):
        train(tiny(), data, with_stage(PLAIN, sampling="balanced"))


def test_logit_adjustment_is_refused_for_balanced_batches():
    recipe = dataclasses.replace(with_stage(PLAIN, batch_size=12, sampling="balanced"), logit_adjustment=0.5)
    with pytest.raises(OptionError, match="logit_adjustment cannot be used with sampling='balanced'"):
        train(tiny(), Blobs(36), recipe)


def test_a_shorter_training_has_a_shorter_warmup():
    recipe = Recipe((Stage(epochs=6), Stage(epochs=12, warmup=4)))
    assert [(stage.epochs, stage.warmup) for stage in recipe.with_epochs(9).stages] == [(3, 0), (6, 2)]
    assert [(stage.epochs, stage.warmup) for stage in recipe.with_epochs(36).stages] == [(12, 0), (24, 4)]
