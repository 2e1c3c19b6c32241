"""Rates that fall on a plateau, decay that does not fall with them, stopping on the training loss, and
batches with as many of each class."""

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


def test_decay_by_step_shrinks_weights_alike_at_any_rate():
    """A gradient of zero leaves the decay alone at work."""
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
        if number == 4:  # what a plateau does
            for group in optimizer.param_groups:
                group["lr"] /= 2
        optimizer.step()
        torch.testing.assert_close(weight, first * (1 - 1e-2) ** number, rtol=1e-5, atol=0)
    assert bias.eq(1.0).all()  # spared, as ever


def test_decay_by_rate_is_torchs_own():
    model = tiny()
    optimizer, _ = optim.build_optimizer(model, Stage(epochs=1, lr=1e-3, weight_decay=0.1), 10)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}
    first = model.head.linear.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.head.linear.weight, first * (1 - 1e-4), rtol=1e-6, atol=0)


def test_a_tenth_by_rate_is_a_ten_thousandth_by_step_while_the_rate_is_a_thousandth():
    data = Blobs(48)
    constant = with_stage(PLAIN, schedule="constant", lr=1e-3)
    by_rate = train(tiny(), data, with_stage(constant, weight_decay=0.1))
    by_step = train(tiny(), data, with_stage(constant, weight_decay=1e-4, decay_by="step"))
    assert_same(state(by_rate), state(by_step), tolerance=1e-6)


def test_a_rate_of_zero_does_not_divide():
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
    """Training losses of our choice, epoch by epoch; the training itself runs."""

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


def test_the_rate_halves_after_so_many_epochs_without_a_better_loss(tmp_path: Path, losses):
    losses([5, 4, 4, 4.5, 3, 3, 3, 3, 3])
    train(tiny(), Blobs(32), ON_A_PLATEAU, out=tmp_path / "run")
    # Logged after the epoch's end, so with what its loss has changed.
    expected = [8e-3, 8e-3, 8e-3, 4e-3, 4e-3, 4e-3, 2e-3, 2e-3, 1e-3]
    assert column(tmp_path / "run", "lr") == pytest.approx(expected)


def test_warming_up_and_a_plateau_go_together():
    model = tiny()
    stage = Stage(epochs=4, lr=1.0, warmup=1, schedule="plateau")
    optimizer, schedule = optim.build_optimizer(model, stage, 4)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_training_stops_on_the_training_loss_without_samples_to_validate_with(tmp_path: Path, losses):
    losses([5, 4, 3, 3, 3, 2, 1, 1, 1])
    recipe = dataclasses.replace(ON_A_PLATEAU, patience=2)
    model = train(tiny(), Blobs(32), recipe, out=tmp_path / "run")
    assert model.training_record["epochs"] == 5


def test_the_loss_that_is_watched_is_the_one_that_is_named(tmp_path: Path):
    """Labels at random: the training loss falls on, that of other samples does not."""
    recipe = dataclasses.replace(ON_A_PLATEAU, patience=2, monitor="val_loss")
    recipe = with_stage(recipe, lr=1e-2, epochs=12)
    train(tiny(), Blobs(48, wrong=0.4), recipe, validation=Blobs(48, seed=1, wrong=0.4), out=tmp_path / "v")
    watched = column(tmp_path / "v", "val_loss")
    assert len(watched) < 12
    assert min(watched) == watched[-3]


@pytest.mark.parametrize("changes", [{"patience": 3}, {}])
def test_the_validation_loss_is_watched_only_where_there_is_one(changes):
    recipe = dataclasses.replace(ON_A_PLATEAU, monitor="val_loss", **changes)
    with pytest.raises(OptionError, match="monitor='train_loss'"):
        train(tiny(), Blobs(32), recipe)


def test_a_training_on_a_plateau_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path, monkeypatch):
    """Interrupted at every state that the halving has; real losses."""
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
    """Blobs of which few are red."""

    def __init__(self, n: int, **options) -> None:
        super().__init__(n, **options)
        red = torch.nonzero(self.labels == 0)[:, 0]
        keep = torch.ones(n, dtype=torch.bool)
        keep[red[3:]] = False
        self.pictures, self.labels, self.known = self.pictures[keep], self.labels[keep], self.known[keep]


def test_every_step_sees_as_many_of_each_class(tmp_path: Path):
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


def test_a_data_set_that_does_not_tell_its_labels_is_refused():
    data = Blobs(32)
    del data.labels
    data.__class__ = type("Silent", (Blobs,), {"__len__": lambda self: 32})
    with pytest.raises(OptionError, match="blobs has no list of labels"):
        train(tiny(), data, with_stage(PLAIN, sampling="balanced"))


def test_frequencies_are_not_taken_out_of_what_has_none():
    recipe = dataclasses.replace(with_stage(PLAIN, batch_size=12, sampling="balanced"), logit_adjustment=0.5)
    with pytest.raises(OptionError, match="logit_adjustment cannot be used with sampling='balanced'"):
        train(tiny(), Blobs(36), recipe)


def test_a_shorter_training_warms_up_for_a_shorter_time():
    recipe = Recipe((Stage(epochs=6), Stage(epochs=12, warmup=4)))
    assert [(stage.epochs, stage.warmup) for stage in recipe.with_epochs(9).stages] == [(3, 0), (6, 2)]
    assert [(stage.epochs, stage.warmup) for stage in recipe.with_epochs(36).stages] == [(12, 0), (24, 4)]
