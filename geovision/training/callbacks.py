"""Training callbacks: weight averaging, best weights, learning rate, checkpoints and logs."""

from __future__ import annotations

import csv
import functools
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from geovision import _atomic_io
from geovision.training.lightning_module import StageModule

__all__ = ["CHECKPOINT_SECONDS", "Best", "CheckpointWriter", "EMAWeights", "EpochLog", "Plateau"]

CHECKPOINT_SECONDS = 60.0
"""Interval of checkpoints within an epoch, in s; an interrupted training loses at most this much work."""


class EMAWeights(WeightAveraging):
    """Exponential moving average of the weights and buffers.

    The decay after n steps is ``min(decay, (1 + n) / (10 + n))``, as in tf.train.ExponentialMovingAverage. A
    training of a few hundred steps therefore forgets the initial weights.

    Args:
        decay: Largest decay per step, 0-1.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=functools.partial(_ema_update, decay))


@torch.no_grad()
def _ema_update(decay: float, average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
    rate = min(decay, (1 + int(count)) / (10 + int(count)))
    if average[0].is_floating_point():
        # Unlike lerp, this keeps a buffer that is infinite in both.
        torch._foreach_mul_(average, rate)
        torch._foreach_add_(average, current, alpha=1 - rate)
    else:  # the number of batches of batch normalization
        torch._foreach_copy_(average, current)


class Best(Callback):
    """Callback that restores the weights with the lowest validation loss.

    It must precede `EMAWeights` in the list of callbacks: at the end of validation, the model still contains
    the averaged weights.
    """

    def __init__(self) -> None:
        self.loss = float("inf")
        self.weights: dict[str, Tensor] = {}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Copy the weights if the validation loss is the lowest so far."""
        loss = pl_module.validation_loss
        if loss < self.loss:
            self.loss = loss
            self.weights = {k: v.detach().cpu().clone() for k, v in pl_module.model.state_dict().items()}

    def on_fit_end(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Load the best weights into the model."""
        if self.weights:
            pl_module.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest loss and its weights."""
        return {"loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the lowest loss and its weights."""
        self.loss, self.weights = state_dict["loss"], state_dict["weights"]


class Plateau(Callback):
    """Callback that halves the learning rate when the loss stagnates.

    The changed rates belong to the state of the optimizer and the scheduler, and are saved with them.

    Args:
        epochs: Number of epochs without a loss below the lowest so far.
        monitor: Monitored loss, ``"val_loss"`` or ``"train_loss"``.
    """

    def __init__(self, epochs: int, monitor: str) -> None:
        self.epochs, self.monitor = epochs, monitor
        self.loss, self.waited = float("inf"), 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Halve the learning rate if the loss stagnates."""
        # Lightning runs validation before this hook.
        loss = pl_module.training_loss if self.monitor == "train_loss" else pl_module.validation_loss
        if trainer.world_size > 1:
            loss = float(trainer.strategy.reduce(torch.tensor(loss, device=pl_module.device)))
        if loss < self.loss:
            self.loss, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= self.epochs:
            self.waited = 0
            self._halve_lr(trainer)

    @staticmethod
    def _halve_lr(trainer: Trainer) -> None:
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] / 2
        for config in trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest loss and the number of epochs since then."""
        return {"loss": self.loss, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the lowest loss and the number of epochs since then."""
        self.loss, self.waited = state_dict["loss"], state_dict["waited"]


class CheckpointWriter(Checkpoint):
    """Callback that saves a checkpoint after every epoch and every `CHECKPOINT_SECONDS` within.

    There is one file, which is replaced atomically. Lightning runs checkpoint callbacks after all others.

    Args:
        path: Path of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: StageModule,  # type: ignore[override]
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save a checkpoint if the last one is older than `CHECKPOINT_SECONDS`."""
        # After the last batch follow validation and the checkpoint of the whole epoch.
        if batch_idx + 1 >= trainer.num_training_batches:
            return
        due = time.monotonic() - self._written >= CHECKPOINT_SECONDS
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)
        if due:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Save a checkpoint."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._written = time.monotonic()


# Lightning's CSVLogger starts a new file for each run; this log continues the rows of an interrupted one.
class EpochLog(Callback):
    """Callback that logs one row per epoch to ``log.csv`` and TensorBoard.

    Args:
        folder: Folder of the files; None writes no files.
        rows: Rows of previous epochs and stages; new rows are appended.
        on_row: Function that is called with each new row.
    """

    def __init__(
        self, folder: Path | None, rows: list[dict[str, Any]], on_row: Callable[[dict[str, Any]], None]
    ) -> None:
        self.folder, self.rows, self._on_row = folder, rows, on_row
        self._events: SummaryWriter | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Append the row of the epoch and write it to the files."""
        # All processes compute the row, because metrics are summed over them.
        row = self._row(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        self.rows.append(row)
        self._on_row(row)
        if self.folder is None:
            return
        _atomic_io.write_text(self.folder / "log.csv", _to_csv(self.rows))
        if self._events is None:
            # Hide events that an interrupted run logged after its last checkpoint.
            self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=row["step"])
        for name, value in row.items():
            if name not in ("stage", "epoch", "step"):
                self._events.add_scalar(name, value, row["step"])
        self._events.flush()

    def _row(self, trainer: Trainer, module: StageModule) -> dict[str, Any]:
        row: dict[str, Any] = {
            "stage": module.stage_index + 1,
            "epoch": len(self.rows) + 1,
            "step": (self.rows[-1]["step"] if self.rows else 0) + module.steps_per_epoch,
            "lr": trainer.optimizers[0].param_groups[-1]["lr"],
            "train_loss": module.training_loss,
        }
        if trainer.enable_validation:
            row |= {"val_loss": module.validation_loss} | module.metric_values()
        return row | {"seconds": round(module.seconds, 2)}

    def on_fit_end(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Close the event file."""
        if self._events is not None:
            self._events.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows of all epochs."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of all epochs."""
        self.rows[:] = state_dict["rows"]


def _to_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
