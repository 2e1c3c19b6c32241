"""Frames per second of `geovision.archive` beside two usual ways, on the same files, and its memory.

(a) is the loop that one writes first: Pillow, timm's transform, batches of 32, float32, torch's default
threads. (b) is the image-classification pipeline of transformers with timm's network in it, batches of
32; it is left out where transformers is not installed. Neither writes a table; the archive does. All
take the same generated frames as PNG. The ways take turns, the best turn of each counts; the archive has a
process for each processor, whose start counts (``start_s``: an archive of one frame).

With ``--one-thread`` each way works with one thread in this process, and milliseconds of processor time a
frame are told, which other work on the machine changes little.

    pip install transformers                                 # for (b); no part of geovision's extras
    python benchmarks/archive_speed.py                       # speed, and one worker against two
    python benchmarks/archive_speed.py --one-thread          # processor time
    python benchmarks/archive_speed.py --memory              # resident memory, 1,000 and 20,000 frames

Appends rows to ``archive_speed.csv``, ``archive_one_thread.csv`` or ``archive_memory.csv`` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.util
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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
            elif options.one_thread:
                torch.set_num_threads(1)
                for count in options.frames or (256,):
                    row = one_thread(model, frames(root, count), root, options.turns)
                    append(options.out / "archive_one_thread.csv", row)
            else:
                for count in options.frames or (3000,):
                    row = speed(model, frames(root, count), root, options.turns)
                    append(options.out / "archive_speed.csv", row)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--frames", type=int, nargs="+", help="sizes of the archive")
    parser.add_argument("--turns", type=int, default=3, help="of each way")
    parser.add_argument("--one-thread", action="store_true", help="measure processor time instead")
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
    best = dict.fromkeys(("plain", "transformers", "one_worker", "archive"), 0.0)
    for _ in range(turns):
        for name, way in ways.items():
            rate = len(files) / seconds(way, time.perf_counter)
            best[name] = max(best[name], rate)
            print(f"{model.spec.name}, {name}: {rate:.0f} frames/s", flush=True)
    start = seconds(lambda: run(model, files[0], root, Workers(2)), time.perf_counter)
    return described(model, len(files), turns) | {
        **{f"{name}_frames_per_s": round(rate, 1) or "" for name, rate in best.items()},
        "archive_over_better": round(best["archive"] / max(best["plain"], best["transformers"]), 2),
        "two_workers_over_one": round(best["archive"] / best["one_worker"], 2),
        "start_s": round(start, 1), "processors": cores(), "threads": torch.get_num_threads(),
    }  # fmt: skip


def one_thread(model: GeoModel, source: Path, root: Path, turns: int) -> dict[str, object]:
    """Milliseconds of processor time a frame of each way, in this process."""
    files = sorted(source.glob("*.png"))
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_loop(model, files),
        "transformers": lambda: pipeline(model, files),
        "archive": lambda: run(model, source, root, Workers(0)),
    }
    if importlib.util.find_spec("transformers") is None:
        del ways["transformers"]
    best = dict.fromkeys(("plain", "transformers", "archive"), float("inf"))
    for _ in range(turns):
        for name, way in ways.items():
            cost = 1000 * seconds(way, time.process_time) / len(files)
            best[name] = min(best[name], cost)
            print(f"{model.spec.name}, {name}: {cost:.1f} ms", flush=True)
    return described(model, len(files), turns) | {
        **{f"{name}_ms": round(cost, 2) if cost < float("inf") else "" for name, cost in best.items()},
        "better_over_archive": round(min(best["plain"], best["transformers"]) / best["archive"], 2),
    }


def described(model: GeoModel, frames: int, turns: int) -> dict[str, object]:
    return {
        "date": datetime.date.today().isoformat(), "commit": commit() or "", "model": model.spec.name,
        "size": model.inputs[0].size[0] if model.inputs[0].size else "", "frames": frames, "turns": turns,
        "precision": str(prepare(model, "auto").dtype).removeprefix("torch."),
    }  # fmt: skip


def seconds(way: Callable[[], object], clock: Callable[[], float]) -> float:
    begun = clock()
    way()
    return clock() - begun


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
