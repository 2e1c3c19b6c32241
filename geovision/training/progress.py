"""Progress of a training, as a bar or one line per epoch."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from geovision.training.lightning_module import StageModule

__all__ = ["ProgressBar", "format_row"]


class ProgressBar(Callback):
    """Progress bar over all stages on stderr.

    Args:
        steps: Number of steps of the whole training.
        epochs: Number of epochs of the whole training.
        enabled: Whether to show progress.
    """

    def __init__(self, *, steps: int, epochs: int, enabled: bool) -> None:
        self.steps, self.epochs, self.enabled = steps, epochs, enabled
        self.step, self.message = 0, ""
        self._bar: Progress | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Start the bar if stderr is a terminal."""
        console = Console(stderr=True)
        if not (self.enabled and trainer.is_global_zero and console.is_terminal):
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}"),
            console=console,
        )
        task = self._bar.add_task(
            f"training {pl_module.model.spec.name}", total=self.steps, message=self.message
        )
        self._bar.update(task, completed=self.step)
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: StageModule,  # type: ignore[override]
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar by one step."""
        self.step += 1
        self._refresh()

    def show_row(self, row: dict[str, Any]) -> None:
        """Show the log row of an epoch.

        Args:
            row: Row of the log.
        """
        self.step, self.message = row["step"], f"epoch {row['epoch']}/{self.epochs}  {format_row(row)}"
        if self._bar is None and self.enabled:
            Console(stderr=True).print(self.message, highlight=False)
        self._refresh()

    def _refresh(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.step, message=self.message)

    def on_fit_end(self, trainer: Trainer, pl_module: StageModule) -> None:  # type: ignore[override]
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: StageModule, exception: BaseException) -> None:  # type: ignore[override]
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def format_row(row: dict[str, Any]) -> str:
    """Format the losses and the main metric of a log row.

    Args:
        row: Row of the log.
    """
    names = [name for name in row if name not in ("stage", "epoch", "step", "lr", "seconds")]
    shown = [name for name in names if name in ("train_loss", "val_loss")]
    shown += [name for name in names if name not in shown][:1]
    return "  ".join(f"{name} {row[name]:.3f}" for name in shown)
