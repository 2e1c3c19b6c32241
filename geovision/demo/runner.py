"""Demonstration of all tasks, from generated files to a page.

Each task uses its real dataset adapter and a short training. The module contains no code for particular
tasks. The content of a section depends on the registry entry of the task: `Task.demo`, its adapter, its
metrics and their figures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import geovision
from geovision import registry
from geovision._atomic_io import make_dir, write_files
from geovision.demo import page
from geovision.demo.photos import PhotoPredictions, predict_photos
from geovision.errors import GeovisionError, InputError
from geovision.spec import Task, resolve

if TYPE_CHECKING:
    from geovision.datasets.base import GeoDataset, Sample
    from geovision.models.geomodel import GeoModel

__all__ = ["run_demo"]

_VALIDATION_FRACTION = 0.2
_NUM_PREDICTIONS = 6  # number of samples that are shown with predictions


def run_demo(
    out: Path, *, tasks: Sequence[str] | None = None, photos: Path | None = None, progress: bool = True
) -> Path:
    """Run the demonstration and write its page.

    If a task fails, the page contains the error, and the other tasks continue.

    Args:
        out: Folder of the page. Data, models and figures are written to one subfolder per task.
        tasks: Names of the tasks. Default: every task in the registry.
        photos: Folder of your photos, which are predicted with pretrained weights. Default: none.
        progress: Whether to show the progress on stderr. Default: True.

    Returns:
        Path of the page, ``out/index.html``.

    Raises:
        UnknownTaskError: If a task does not exist; the message contains similar names.
        InputError: If `photos` does not exist.
        StorageError: If `out` cannot be created.
        GeovisionError: If a task failed; the page contains the same message.
    """
    chosen = [registry.find_task(name) for name in tasks] if tasks else list(registry.tasks().values())
    if photos is not None and not photos.exists():
        raise InputError(f"{photos}: no such folder of photos; check the path")
    out = Path(out)
    make_dir(out)
    console = _ConsoleProgress(show=progress)
    with _single_thread():
        sections = [_section(task, out / task.name, console) for task in chosen]
        predicted = _predict_photos(chosen, photos, out, console) if photos is not None else ()
    index = page.write_page(out, sections, predicted)
    failed = [f"{section.task.name} ({section.error})" for section in sections if section.error]
    if failed:
        raise GeovisionError(
            f"a part of the demonstration failed: {'; '.join(failed)}. The other results are in {index}"
        )
    return index


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    """Limit torch to one thread.

    The networks of the demonstration are too small to gain from a second thread, and synchronization is slow
    if other programs use the cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- one task -----------------------------------------------------------------------------------


def _section(task: Task, folder: Path, progress: _ConsoleProgress) -> page.Section:
    """Return the section of one task, or its error."""
    progress.heading(task)
    try:
        return _run_task(task, folder, progress)
    except GeovisionError as error:
        progress.report_failure(error)
        return page.Section(task, error=str(error))


def _run_task(task: Task, folder: Path, progress: _ConsoleProgress) -> page.Section:
    demo, start = task.demo, time.perf_counter()
    adapter: type[GeoDataset] = resolve(task.datasets[task.dataset])
    # The name of the folder contains the settings, so files of different demonstrations do not mix.
    root = folder / f"{task.dataset}-{demo.samples}-seed-{demo.seed}"
    with progress.step(f"generate {demo.samples} samples as {task.dataset} files"):
        adapter.synthetic(root, demo.samples, seed=demo.seed)
    with progress.step(f"read them with {adapter.__name__}, split by {adapter.card.split_group}"):
        data = geovision.load_dataset(task.dataset, root, size=demo.size)
        model = _create_model(task, data)
        training, validation = data.adapt_to(model).group_split(_VALIDATION_FRACTION, seed=demo.seed)
    progress.print_line(f"train {model.spec.name} on {len(training)} samples")
    geovision.train(model, training, recipe=demo.recipe, progress=progress.show)
    with progress.step(f"evaluate on {len(validation)} validation samples"):
        report = geovision.evaluate(model, validation, seed=demo.seed)
    with progress.step("predict and plot"):
        model.save(folder / "model")
        figures = _report_figures(report, folder / "report")
        prediction_figures = _prediction_figures(model, validation, folder / "answers")
    return page.Section(
        task,
        card=adapter.card,
        model=model.spec.name,
        report=report,
        samples=(len(training), len(validation)),
        steps=model.training_record.get("steps"),
        prediction_figures=prediction_figures,
        figures=figures,
        seconds=time.perf_counter() - start,
    )


def _create_model(task: Task, data: GeoDataset) -> GeoModel:
    """Create the task's small model for a dataset, with reproducible initial weights."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(task.demo.seed)
        return geovision.create(task.demo.model, **{"size": task.demo.size, **data.model_kwargs()})


def _report_figures(report: Any, folder: Path) -> list[Path]:
    """Write a report and return the paths of its figures."""
    for stale in folder.glob("*.png"):  # an earlier run may have drawn more figures
        stale.unlink()
    report.save(folder)
    return sorted(folder.glob("*.png"), key=page.figure_position)


def _prediction_figures(model: GeoModel, data: GeoDataset, folder: Path) -> list[Path]:
    """Plot samples spread evenly over the dataset, with their predictions."""
    count = min(_NUM_PREDICTIONS, len(data))
    samples = [data[round((number + 0.5) * len(data) / count - 0.5)] for number in range(count)]
    predictions = model.predict([_model_inputs(sample, model) for sample in samples])
    writers = {}
    for number, (sample, prediction) in enumerate(zip(samples, predictions, strict=True), 1):
        figure = data.plot(sample, prediction)
        writers[f"{number}.png"] = lambda path, figure=figure: figure.savefig(path, format="png", dpi=110)
    write_files(folder, writers)
    return [folder / name for name in writers]


def _model_inputs(sample: Sample, model: GeoModel) -> dict[str, Any]:
    """Return the model's inputs of a sample, with missing values masked."""
    import numpy as np

    known = [spec.name for spec in model.inputs if spec.name in sample["inputs"]]
    inputs: dict[str, Any] = {name: sample["inputs"][name] for name in known}
    for name in set(known) & set(sample["valid"]):
        inputs[name] = np.ma.masked_array(inputs[name].numpy(), ~sample["valid"][name].numpy())
    return inputs


# --- photos of the user -------------------------------------------------------------------------


def _predict_photos(
    tasks: Sequence[Task], folder: Path, out: Path, progress: _ConsoleProgress
) -> list[PhotoPredictions]:
    """Predict the photos with each task that accepts photos."""
    found = []
    for task in tasks:
        if not task.demo.photos:
            continue
        names = registry.list_models(task=task.name, pretrained=True)
        if not names:
            found.append(PhotoPredictions(task))
            continue
        model = geovision.create(names[0], pretrained=True)
        with progress.step(f"predict the photos in {folder} with {names[0]}"):
            found.append(predict_photos(model, folder, out / "photos" / task.name))
    return found


# --- console output -------------------------------------------------------------------------------


@dataclass
class _ConsoleProgress:
    """Progress output on stderr.

    A terminal shows a bar for each step; otherwise each step is one line.
    """

    show: bool
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def heading(self, task: Task) -> None:
        self.print_line(f"[bold]{task.title}[/]: {task.question}")

    def print_line(self, line: str) -> None:
        if self.show:
            self.console.print(line)

    def report_failure(self, error: GeovisionError) -> None:
        self.console.print(f"  failed: {error}", style="red", markup=False)

    @contextlib.contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Show a step while it runs, then its duration."""
        start = time.perf_counter()
        columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn()
        show_bar = self.show and self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not show_bar) as bar:
            bar.add_task(description, total=None)
            yield
        self.print_line(f"{description} [dim]{time.perf_counter() - start:.1f} s[/]")
