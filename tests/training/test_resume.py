"""A killed training loses little and resumes to the same result."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.blobs import Blobs
from helpers.interrupted_training import RECIPE, run
from helpers.paths import TESTS
from helpers.training import assert_same, column, state, tiny

import geovision
from geovision.spec import Recipe, Stage
from geovision.training import callbacks


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return run(folder), folder


def in_a_process(folder: Path, *calls: str) -> int:
    """Train in a separate process after `calls`, and return its exit status."""
    code = (
        "import sys; from pathlib import Path; import torch; "
        f"torch.set_num_threads({torch.get_num_threads()}); "
        "import helpers.interrupted_training as t; from geovision.training import callbacks; "
        f"{'; '.join(calls)}; t.run(Path(sys.argv[1]), resume=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=TESTS, capture_output=True, text=True, timeout=280
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


EVERY_STEP = "callbacks.CHECKPOINT_SECONDS = 0"


def test_a_training_killed_twice_gives_the_same_result(tmp_path: Path, undisturbed):
    folder = tmp_path / "run"
    # Killed in the second epoch of the first stage; two of its four steps are saved.
    assert in_a_process(folder, EVERY_STEP, "t.die_at_step(7)") == -signal.SIGKILL
    assert position(folder) == (0, 1, 2)
    # Killed in the first epoch of the second stage while the third step is saved; the checkpoint of the
    # second step is used.
    assert in_a_process(folder, EVERY_STEP, "t.die_while_writing(5)") == -signal.SIGKILL
    assert position(folder) == (1, 0, 2)
    assert list(folder.glob(".*.part"))
    model = run(folder, resume=True)
    assert not list(folder.glob(".*.part"))
    same_as(undisturbed, model, folder)


def test_a_training_killed_between_checkpoints_gives_the_same_result(tmp_path: Path, undisturbed):
    """Steps after the last checkpoint are repeated identically."""
    folder = tmp_path / "run"
    assert in_a_process(folder, "t.die_at_step(14)") == -signal.SIGKILL
    assert position(folder) == (0, 2, 0)  # the end of the first stage; checkpoints are a minute apart
    same_as(undisturbed, run(folder, resume=True), folder)


def position(folder: Path) -> tuple[int, int, int]:
    header = torch.load(folder / "last.ckpt", weights_only=True)["geovision"]
    return header["stage"], header["epoch"], header["batch"]


def same_as(undisturbed, model, folder: Path) -> None:
    expected, other = undisturbed
    assert_same(state(model), state(expected))
    assert_same(state(geovision.load(folder / "model")), state(expected))
    for name in ("stage", "epoch", "step", "lr", "train_loss", "val_loss", "macro_f1"):
        assert column(folder, name) == pytest.approx(column(other, name), abs=1e-6), name
    assert column(folder, "step") == [4, 8, 16, 24]
    for key in ("epochs", "steps"):
        assert model.training_record[key] == expected.training_record[key]


@pytest.mark.parametrize("epochs_done", [1, 2, 3, 4])
def test_a_training_resumes_after_any_epoch(
    tmp_path: Path, undisturbed, monkeypatch: pytest.MonkeyPatch, epochs_done
):
    """The cases include the ends of stages, and the time between the last epoch and saving."""
    folder, written = tmp_path / "run", []
    ordinary = callbacks.CheckpointWriter._write

    def stop_after(self, trainer):
        ordinary(self, trainer)
        written.append(1)
        if len(written) == epochs_done:
            raise RuntimeError("the machine went down")

    monkeypatch.setattr(callbacks.CheckpointWriter, "_write", stop_after)
    with pytest.raises(RuntimeError, match="went down"):
        run(folder)
    monkeypatch.undo()
    same_as(undisturbed, run(folder, resume=True), folder)


def test_early_stopping_is_kept_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The checkpoint contains the state of early stopping: no further epoch is trained."""
    recipe = Recipe(stages=(Stage(epochs=9, lr=0.5, optimizer="sgd"),), patience=1, precision="32-true")

    def attempt(folder: Path, *, resume: bool = False):
        return geovision.train(
            tiny(),
            Blobs(48, wrong=0.4),
            validation=Blobs(24, seed=1, wrong=0.4),
            recipe=recipe,
            out=folder,
            resume=resume,
            progress=False,
        )

    whole = attempt(tmp_path / "whole")
    epochs = whole.training_record["epochs"]
    assert 1 < epochs < 9
    monkeypatch.setattr("geovision.training._train.build_training_record", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attempt(tmp_path / "run")
    monkeypatch.undo()
    resumed = attempt(tmp_path / "run", resume=True)
    assert resumed.training_record["epochs"] == epochs
    assert_same(state(resumed), state(whole))


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, undisturbed):
    """If the file system refuses the second checkpoint, training resumes from the first."""
    resource = pytest.importorskip("resource")
    folder, ordinary = tmp_path / "run", callbacks.CheckpointWriter._write
    count = []

    def write(self, trainer):
        count.append(1)
        if len(count) == 2:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
            try:
                ordinary(self, trainer)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        else:
            ordinary(self, trainer)

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    callbacks.CheckpointWriter._write = write  # type: ignore[method-assign]
    try:
        with pytest.raises(geovision.errors.StorageError, match="could not be written") as error:
            run(folder)
    finally:
        callbacks.CheckpointWriter._write = ordinary  # type: ignore[method-assign]
        signal.signal(signal.SIGXFSZ, before)
    assert "\n" not in str(error.value)
    assert not list(folder.glob(".*.part"))
    assert position(folder) == (0, 1, 0)
    same_as(undisturbed, run(folder, resume=True), folder)


def test_two_devices_train_one_model(tmp_path: Path):
    """Two processes share each batch and write one model, one log and one checkpoint."""
    recipe = dataclasses.replace(RECIPE, stages=RECIPE.stages[:1])
    model = geovision.train(
        tiny(),
        Blobs(64),
        validation=Blobs(24, seed=1),
        recipe=recipe,
        out=tmp_path / "run",
        devices=2,
        progress=False,
    )
    assert column(tmp_path / "run", "step") == [4, 8]
    assert model.training_record["steps"] == 8
    assert_same(state(model), state(geovision.load(tmp_path / "run" / "model")))
