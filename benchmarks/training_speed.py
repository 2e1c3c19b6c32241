"""Overhead of the trainer: images per second of `geovision.train` and of a bare PyTorch loop.

Before each step of a real `geovision.train`, two bare steps run on the same samples: batch lookup, forward
pass, gradient, AdamW, learning rate. One uses the convolutions of PyTorch, the other one the strided
depthwise convolutions of the trainer (`geovision.training.depthwise`). Other work on the machine therefore
affects all equally. The value of the trainer includes Lightning, the log, the checkpoint and the end of the
epoch. Processor time is the meaningful value on a machine with other work.

    python benchmarks/training_speed.py --data CCSN

The script prints a table and writes it to ``benchmarks/training_speed.csv``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import geovision
from geovision.accelerate._cpu_features import has_fast_bfloat16
from geovision.datasets.base import GeoDataset
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit
from geovision.spec import Recipe, Stage
from geovision.training.data_loading import InMemoryDataset, load_into_memory
from geovision.training.depthwise import unstrided_depthwise

MODEL, SIZE, BATCH, EPOCHS = "cloud-mobilenetv2_100", (128, 128), 32, 3
TRAINER, PLAIN, SAME = "trainer", "bare loop", "bare loop, the trainer's convolutions"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CCSN; default: generated photos of the sky")
    parser.add_argument("--samples", type=int, default=512, help="number of photos")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = samples(options.data, options.samples, Path(folder))
        clock = compare(data, Path(folder) / "run")
    table = clock.table()
    for row in table:
        print(row)
    with Path(__file__).with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)


def samples(root: Path | None, count: int, folder: Path) -> GeoDataset:
    """Return photos of CCSN, or generated ones."""
    if root is None:
        root = geovision.load_dataset("ccsn", folder).synthetic(folder / "sky", count)
    data = geovision.load_dataset("ccsn", root, size=SIZE)
    return data.subset(range(0, len(data), max(len(data) // count, 1))[:count])


class Clock:
    """Wall time and processor time of each kind of step, without the first epoch.

    Args:
        warm_up: Number of steps that are not counted.
    """

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.steps = dict.fromkeys((PLAIN, SAME, TRAINER), 0)
        self.spent = {name: [0.0, 0.0] for name in self.steps}
        self._since = (0.0, 0.0)

    def start(self) -> None:
        """Start the measurement of a step."""
        self._since = (time.perf_counter(), time.process_time())

    def stop(self, name: str) -> None:
        """Add the time since `start` to a kind of step."""
        self.steps[name] += 1
        if self.steps[name] > self.warm_up:
            self.spent[name][0] += time.perf_counter() - self._since[0]
            self.spent[name][1] += time.process_time() - self._since[1]

    def table(self) -> list[dict[str, Any]]:
        """Return one row per kind of step."""
        rows = []
        for name, (wall, processor) in self.spent.items():
            images = BATCH * (self.steps[name] - self.warm_up)
            rows.append(
                {
                    "way": name,
                    "model": MODEL,
                    "pixels": SIZE[0],
                    "threads": torch.get_num_threads(),
                    "images": images,
                    "images_per_second": round(images / wall, 1),
                    "images_per_processor_second": round(images / processor, 1),
                    "of_bare_loop": round(self.spent[SAME][1] / processor * images / self._images(SAME), 3),
                    "commit": git_commit(),
                }
            )
        return rows

    def _images(self, name: str) -> int:
        return BATCH * (self.steps[name] - self.warm_up)


def compare(data: GeoDataset, out: Path) -> Clock:
    """Run one training, with bare steps between its steps."""
    torch.manual_seed(0)
    model = geovision.create(MODEL, size=SIZE)
    rows = load_into_memory(data)
    assert rows is not None
    plain, same = bare_step(copy.deepcopy(model), rows), bare_step(copy.deepcopy(model), rows, unstrided=True)
    clock = Clock(warm_up=len(data) // BATCH)
    begun = []

    def between(*_: Any) -> None:
        if begun:
            clock.stop(TRAINER)
        begun.append(True)
        for name, step in ((PLAIN, plain), (SAME, same)):
            clock.start()
            step()
            clock.stop(name)
        clock.start()

    model.register_forward_pre_hook(between)
    recipe = Recipe(stages=(Stage(epochs=EPOCHS, batch_size=BATCH, lr=1e-3),))
    geovision.train(model, data, recipe=recipe, out=out, progress=False)
    clock.stop(TRAINER)
    return clock


def bare_step(model: GeoModel, rows: InMemoryDataset, *, unstrided: bool = False) -> Callable[[], None]:
    """Return a function that runs one step of a bare loop."""
    model = model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if unstrided:
        unstrided_depthwise(model).__enter__()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10_000)
    loss_of, batches = nn.CrossEntropyLoss(), torch.randperm(len(rows)).split(BATCH)
    number = 0

    def step() -> None:
        nonlocal number
        # The step runs inside the trainer's autocast, whose cached weights belong to the trainer.
        torch.clear_autocast_cache()
        with torch.enable_grad():
            index = batches[number % (len(rows) // BATCH)]
            number += 1
            images = rows.inputs["image"][index].float() / 255
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
                loss = loss_of(model(images), rows.target[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        torch.clear_autocast_cache()

    return step


if __name__ == "__main__":
    main()
