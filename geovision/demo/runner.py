"""Every task at work: generated files, the real adapter, a short training, scores, answers, a page.

Nothing here knows a task by name. What a task shows is its entry in the registry: `Task.demo`, its
adapter, its metrics and what these draw.
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
_NUM_PREDICTIONS = 6  # samples shown with what the model says


def run_demo(
    out: Path, *, tasks: Sequence[str] | None = None, photos: Path | None = None, progress: bool = True
) -> Path:
    """Run the demonstration and write its page.

    A task that fails is named on the page and does not keep the others from it.

    Args:
        out: Folder of the page; data, models and figures lie below it, a folder a task.
        tasks: Names; None: every task of the registry.
        photos: A folder of the reader's own photos, answered by the shipped weights.
        progress: Show what is going on, on stderr.

    Returns:
        ``out/index.html``.

    Raises:
        UnknownTaskError: With the nearest names.
        InputError: `photos` is not there.
        StorageError: `out` cannot be made.
        GeovisionError: A task failed; the page tells the same.
    """
    chosen = [registry.find_task(name) for name in tasks] if tasks else list(registry.tasks().values())
    if photos is not None and not photos.exists():
        raise InputError(f"{photos}: no such folder of photos; check the path")
    out = Path(out)
    make_dir(out)
    told = _ConsoleProgress(show=progress)
    with _single_thread():
        sections = [_section(task, out / task.name, told) for task in chosen]
        answered = _predict_photos(chosen, photos, out, told) if photos is not None else ()
    index = page.write_page(out, sections, answered)
    failed = [f"{section.task.name} ({section.error})" for section in sections if section.error]
    if failed:
        raise GeovisionError(
            f"a part of the demonstration failed: {'; '.join(failed)}. The rest is on {index}"
        )
    return index


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    """A network this small gains nothing from a second thread, and waits long for it where other
    programs hold the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- one task -----------------------------------------------------------------------------------


def _section(task: Task, folder: Path, progress: _ConsoleProgress) -> page.Section:
    """Everything that the page shows of one task; where something failed, why."""
    progress.heading(task)
    try:
        return _run_task(task, folder, progress)
    except GeovisionError as error:
        progress.report_failure(error)
        return page.Section(task, error=str(error))


def _run_task(task: Task, folder: Path, progress: _ConsoleProgress) -> page.Section:
    demo, began = task.demo, time.perf_counter()
    adapter: type[GeoDataset] = resolve(task.datasets[task.dataset])
    # Files of another demonstration never mix with these.
    root = folder / f"{task.dataset}-{demo.samples}-seed-{demo.seed}"
    with progress.step(f"write {demo.samples} generated samples as {task.dataset} files"):
        adapter.synthetic(root, demo.samples, seed=demo.seed)
    with progress.step(f"read them with {adapter.__name__}, split by {adapter.card.split_group}"):
        data = geovision.load_dataset(task.dataset, root, size=demo.size)
        model = _create_model(task, data)
        training, held_back = data.adapt_to(model).group_split(_VALIDATION_FRACTION, seed=demo.seed)
    progress.print_line(f"train {model.spec.name} on {len(training)} samples")
    geovision.train(model, training, recipe=demo.recipe, progress=progress.show)
    with progress.step(f"score it on {len(held_back)} samples held back"):
        report = geovision.evaluate(model, held_back, seed=demo.seed)
    with progress.step("predict and draw"):
        model.save(folder / "model")
        figures = _report_figures(report, folder / "report")
        answers = _prediction_figures(model, held_back, folder / "answers")
    return page.Section(
        task,
        card=adapter.card,
        model=model.spec.name,
        report=report,
        samples=(len(training), len(held_back)),
        steps=model.training_record.get("steps"),
        prediction_figures=answers,
        figures=figures,
        seconds=time.perf_counter() - began,
    )


def _create_model(task: Task, data: GeoDataset) -> GeoModel:
    """The task's small model for these data, initialised alike every time."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(task.demo.seed)
        return geovision.create(task.demo.model, **{"size": task.demo.size, **data.model_kwargs()})


def _report_figures(report: Any, folder: Path) -> list[Path]:
    """The files of the report's figures; `folder` also holds its tables."""
    for stale in folder.glob("*.png"):  # of a run in which there was more to draw
        stale.unlink()
    report.save(folder)
    return sorted(folder.glob("*.png"), key=page.figure_position)


def _prediction_figures(model: GeoModel, data: GeoDataset, folder: Path) -> list[Path]:
    """Figures of samples from all over the data set, each with what the model says."""
    count = min(_NUM_PREDICTIONS, len(data))
    samples = [data[round((number + 0.5) * len(data) / count - 0.5)] for number in range(count)]
    answers = model.predict([_model_inputs(sample, model) for sample in samples])
    writers = {}
    for number, (sample, answer) in enumerate(zip(samples, answers, strict=True), 1):
        figure = data.plot(sample, answer)
        writers[f"{number}.png"] = lambda path, figure=figure: figure.savefig(path, format="png", dpi=110)
    write_files(folder, writers)
    return [folder / name for name in writers]


def _model_inputs(sample: Sample, model: GeoModel) -> dict[str, Any]:
    """The inputs of a sample that the model takes, what is missing in them masked."""
    import numpy as np

    known = [spec.name for spec in model.inputs if spec.name in sample["inputs"]]
    asked: dict[str, Any] = {name: sample["inputs"][name] for name in known}
    for name in set(known) & set(sample["valid"]):
        asked[name] = np.ma.masked_array(asked[name].numpy(), ~sample["valid"][name].numpy())
    return asked


# --- the reader's photos ------------------------------------------------------------------------


def _predict_photos(
    models: Sequence[Task], folder: Path, out: Path, progress: _ConsoleProgress
) -> list[PhotoPredictions]:
    """Answers about the photos, from each task that takes them."""
    found = []
    for task in models:
        if not task.demo.photos:
            continue
        names = registry.list_models(task=task.name, pretrained=True)
        if not names:
            found.append(PhotoPredictions(task))
            continue
        model = geovision.create(names[0], pretrained=True)
        with progress.step(f"ask {names[0]} about the photos in {folder}"):
            found.append(predict_photos(model, folder, out / "photos" / task.name))
    return found


# --- what the person at the screen sees -----------------------------------------------------------


@dataclass
class _ConsoleProgress:
    """Steps with a moving bar and their time, on stderr; where that is no terminal, a line each."""

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
        """Show that this is under way, and for how long it was."""
        began = time.perf_counter()
        columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn()
        seen = self.show and self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not seen) as bar:
            bar.add_task(description, total=None)
            yield
        self.print_line(f"{description} [dim]{time.perf_counter() - began:.1f} s[/]")
