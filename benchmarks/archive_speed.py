"""Frames per second of `geovision.archive` beside two usual ways, on the same files, and its memory.

(a) is the loop that one writes first: Pillow, timm's transform, batches of 32, float32, torch's default
threads. (b) is the image-classification pipeline of transformers with timm's network in it, batches of
32; it is left out where transformers is not installed. Neither writes a table; the archive does. All
take the same generated frames as PNG. The ways take turns, the best turn of each counts.

Beside frames per second of two processors stand milliseconds of processor time a frame, of all processes and
threads together: other work on the machine hardly changes these. Workers wait for nobody, so that two of them
need half their processor time; a loop needs at least half of its own. So the ratio of processor times is the
least that two processors of a machine that does nothing else give. What the start of processes takes is told
apart (``start``: an archive of one frame) and is not in these times, since it does not grow.

    pip install transformers                                 # for (b); no part of geovision's extras
    python benchmarks/archive_speed.py                       # speed, and one worker against two
    python benchmarks/archive_speed.py --memory              # resident memory, 1,000 and 20,000 frames

Appends rows to ``archive_speed.csv`` or ``archive_memory.csv`` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.util
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import timm
import torch
from PIL import Image
from rich.progress import track

import geovision
from geovision.datasets.kvammen import KvammenAurora
from geovision.inference import Reading, Workers
from geovision.inference.engine import cores
from geovision.models.geomodel import GeoModel
from geovision.models.prepared import prepare
from geovision.models.timm_bridge import TimmBackbone
from geovision.provenance import commit

MODELS = ("aurora-resnet18", "aurora-mobilenetv2")
SIZES = {"aurora-mobilenetv2": 224}
SIZE = 128
READING = Reading(pattern="%Y%m%d_%H%M%S_*.png")
BATCH = 32


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in options.models:
            torch.manual_seed(0)
            side = SIZES.get(name, SIZE)
            model = geovision.create(name, size=(side, side))
            if options.memory:
                for count in options.frames or (1000, 20000):
                    append(options.out / "archive_memory.csv", memory(model, frames(root, count), root))
            else:
                for count in options.frames or (4000,):
                    row = speed(model, frames(root, count), root, options.turns)
                    append(options.out / "archive_speed.csv", row)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--frames", type=int, nargs="+", help="sizes of the archive")
    parser.add_argument("--turns", type=int, default=3, help="of each way")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the CSV files")
    return parser.parse_args()


def frames(root: Path, count: int) -> Path:
    """So many files: a hundred different frames, each several times, seconds apart."""
    folder = root / f"frames-{count}"
    if folder.exists():
        return folder
    drawn = root / "drawn"
    if not drawn.exists():
        KvammenAurora.synthetic(drawn, 96, seed=0)
    contents = [path.read_bytes() for path in sorted(drawn.rglob("*.png"))]
    folder.mkdir()
    begin = datetime.datetime(2015, 1, 10, 16)
    for number in range(count):
        moment = begin + datetime.timedelta(seconds=6 * number)
        (folder / f"{moment:%Y%m%d_%H%M%S}_frame.png").write_bytes(contents[number % len(contents)])
    return folder


# --- speed --------------------------------------------------------------------------------------


def speed(model: GeoModel, source: Path, root: Path, turns: int) -> dict[str, object]:
    files = sorted(source.glob("*.png"))
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_loop(model, files),
        "transformers": lambda: pipeline(model, files),
        "one_worker": lambda: run(model, source, root, Workers(1)),
        "archive": lambda: run(model, source, root, Workers(2)),
    }
    if importlib.util.find_spec("transformers") is None:
        print("transformers is not installed: its pipeline is left out", flush=True)
        del ways["transformers"]
    names = ("plain", "transformers", "one_worker", "archive")
    rates: dict[str, float] = dict.fromkeys(names, 0.0)
    costs: dict[str, float] = dict.fromkeys(names, float("inf"))
    starts = {"one_worker": Workers(1), "archive": Workers(2)}
    starting = {name: timed(partial(run, model, files[0], root, own))[1] for name, own in starts.items()}
    for _ in range(turns):
        for name, way in ways.items():
            wall, processor = timed(way)
            rates[name] = max(rates[name], len(files) / wall)
            costs[name] = min(costs[name], 1000 * (processor - starting.get(name, 0.0)) / len(files))
            print(f"{model.spec.name}, {name}: {len(files) / wall:.0f} frames/s", flush=True)
    better = min(costs["plain"], costs["transformers"])
    return {
        "date": datetime.date.today().isoformat(), "commit": commit() or "", "model": model.spec.name,
        "size": model.inputs[0].size[0] if model.inputs[0].size else "", "frames": len(files), "turns": turns,
        **{f"{name}_frames_per_s": round(rate, 1) or "" for name, rate in rates.items()},
        **{f"{name}_ms": round(cost, 2) if cost < float("inf") else "" for name, cost in costs.items()},
        "better_over_archive_ms": round(better / costs["archive"], 2),
        "archive_over_one_worker": round(rates["archive"] / rates["one_worker"], 2),
        "start_ms": round(1000 * starting["archive"]),
        "precision": str(prepare(model, "auto").dtype).removeprefix("torch."),
        "processors": cores(), "threads": torch.get_num_threads(),
    }  # fmt: skip


def timed(way: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and processor seconds of this process and of those that it started and that have ended."""

    def processor() -> float:
        own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime

    begun, used = time.perf_counter(), processor()
    way()
    return time.perf_counter() - begun, processor() - used


def plain_loop(model: GeoModel, files: list[Path]) -> list[int]:
    spec = model.inputs[0]
    backbone = next(module for module in model.network.modules() if isinstance(module, TimmBackbone))
    config = timm.data.resolve_data_config({"input_size": (3, *(spec.size or ()))}, model=backbone.model)
    transform = timm.data.create_transform(**config, is_training=False)
    answers: list[int] = []
    for start in track(range(0, len(files), BATCH), "plain loop", transient=True):
        batch = torch.stack(
            [transform(Image.open(path).convert("RGB")) for path in files[start : start + BATCH]]
        )
        with torch.no_grad():
            answers += model.head(model.network({spec.name: batch})).argmax(1).tolist()
    return answers


def pipeline(model: GeoModel, files: list[Path]) -> list[str]:
    """transformers' own pipeline around the same architecture, at the same size."""
    import transformers

    spec = model.inputs[0]
    architecture = model.spec.arch["backbone"]
    settings = dict(timm.create_model(architecture, num_classes=7).pretrained_cfg)
    settings |= {"input_size": (3, *(spec.size or ())), "num_classes": 7, "crop_pct": 1.0}
    config = transformers.TimmWrapperConfig(architecture=architecture, pretrained_cfg=settings, num_labels=7)
    network = transformers.TimmWrapperForImageClassification(config).eval()
    processor = transformers.TimmWrapperImageProcessor(pretrained_cfg=settings, architecture=architecture)
    ask = transformers.pipeline(
        "image-classification", model=network, image_processor=processor, device="cpu"
    )

    def paths() -> Iterator[str]:
        yield from map(str, files)

    return [answer[0]["label"] for answer in ask(paths(), batch_size=BATCH)]


def run(model: GeoModel, source: Path, root: Path, workers: Workers, *, read: bool = True) -> None:
    out = root / "table"
    shutil.rmtree(out, ignore_errors=True)
    summary = geovision.archive(model, source, out, reading=READING, workers=workers)
    assert not summary.bad
    assert not summary.failed
    if read:
        assert geovision.read_table(out, columns=["frame"]).num_rows == summary.frames


# --- memory -------------------------------------------------------------------------------------


def memory(model: GeoModel, source: Path, root: Path) -> dict[str, object]:
    """Largest resident memory of the driver and of one worker while an archive runs."""
    watch = Watch()
    watch.start()
    begun = time.perf_counter()
    run(model, source, root, Workers(1), read=False)
    seconds = time.perf_counter() - begun
    watch.stop()
    return {
        "date": datetime.date.today().isoformat(), "commit": commit() or "", "model": model.spec.name,
        "frames": sum(1 for _ in source.iterdir()), "driver_mb": round(watch.driver / 1e6),
        "worker_mb": round(watch.workers / 1e6), "seconds": round(seconds),
    }  # fmt: skip


class Watch(threading.Thread):
    """The largest memory of this process and of its children together, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver = self.workers = 0
        self._ended = threading.Event()

    def run(self) -> None:
        this = psutil.Process()
        while not self._ended.wait(0.1):
            self.driver = max(self.driver, this.memory_info().rss)
            children = 0
            for child in this.children(recursive=True):
                try:
                    children += child.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            self.workers = max(self.workers, children)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def append(path: Path, row: dict[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


if __name__ == "__main__":
    main()
