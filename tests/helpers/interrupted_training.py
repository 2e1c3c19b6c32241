"""Training that a separate process runs and kills."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch

import geovision
from geovision.spec import Augment, Recipe, Stage
from geovision.training import trainer
from geovision.training.lightning_module import StageModule
from helpers.blobs import Blobs
from helpers.training import tiny

__all__ = ["RECIPE", "STEPS", "die_at_step", "die_while_writing", "run"]

# All components with a state: two stages, random numbers, averages, best weights, momentum.
RECIPE = Recipe(
    stages=(
        Stage(epochs=2, train="head", batch_size=16, lr=1e-2),
        Stage(epochs=2, batch_size=8, lr=3e-3, warmup=0.5),
    ),
    augment=Augment(crop_area=(0.5, 1.0), flip_x=True, brightness=0.1, mixup=0.2),
    label_smoothing=0.1,
    ema=0.9,
    keep="best",
    precision="32-true",
)
STEPS = (4, 8)  # per epoch of each stage, for 64 samples


def run(folder: Path, *, resume: bool = False):
    return geovision.train(
        tiny(drop_rate=0.2),
        Blobs(64),
        validation=Blobs(24, seed=1),
        recipe=RECIPE,
        out=folder,
        resume=resume,
        progress=False,
    )


def die_at_step(step: int) -> None:
    """Kill this process at the beginning of its `step`-th step from now."""
    ordinary, seen = StageModule.training_step, []

    def training_step(self, batch, batch_idx):
        seen.append(batch_idx)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return ordinary(self, batch, batch_idx)

    StageModule.training_step = training_step  # type: ignore[method-assign]


def die_while_writing(number: int) -> None:
    """Kill this process half-way through its `number`-th checkpoint from now."""
    ordinary, seen = torch.save, []

    def save(value, stream):
        ordinary(value, stream)
        seen.append(stream)
        if len(seen) == number:
            stream.truncate(stream.tell() // 2)
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.torch.save = save  # type: ignore[assignment]
