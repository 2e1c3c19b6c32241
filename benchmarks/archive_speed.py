"""Frames per second of `geovision.predict_archive`, compared with two common methods on the same files.

Method (a) is a plain loop: Pillow, the transform of timm, batches of 32, float32, and the default threads of
torch. Method (b) is the image-classification pipeline of transformers with a network of timm, in batches of
32; it is skipped if transformers is not installed. Only the archive writes a table. All methods read the same
generated PNG frames. The methods alternate, and the best turn of each counts. The archive uses one process
per processor; their start is included (``start_s``: an archive of one frame).

    pip install transformers                                 # for (b); not in the extras of geovision
    python benchmarks/archive_speed.py

The script appends rows to ``archive_speed.csv`` in its folder.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import timm
import torch
from PIL import Image
from rich.progress import track
from rows import append

import geovision
from geovision.accelerate.optimized import optimize_model
from geovision.allsky import FrameConfig
from geovision.datasets.kvammen import KvammenAurora
from geovision.inference import ExecutorConfig
from geovision.inference.executor import num_cpus
from geovision.models.geomodel import GeoModel
from geovision.models.timm_backbone import TimmBackbone
from geovision.provenance import git_commit

MODELS = ("aurora-resnet18", "aurora-mobilenetv2")
SIZES = {"aurora-mobilenetv2": 224}
SIZE = 128
CONFIG = FrameConfig(pattern="%Y%m%d_%H%M%S_*.png")
BATCH = 32


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__ or "", frames=(3000,), turns=3)
    for model, source, root in archives(options):
        append(options.out / "archive_speed.csv", speed(model, source, root, options), show=True)


def arguments(description: str, *, frames: tuple[int, ...], turns: int) -> argparse.Namespace:
    """Parse the command line of an archive benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="names in the registry")
    parser.add_argument("--frames", type=int, nargs="+", default=frames, help="sizes of the archive")
    parser.add_argument("--turns", type=int, default=turns, help="number of turns of each method")
    parser.add_argument("--precision", default="auto", help="precision of the archive")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the CSV file")
    return parser.parse_args()


def archives(options: argparse.Namespace) -> Iterator[tuple[GeoModel, Path, Path]]:
    """Yield each model with each archive, and an output folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            torch.manual_seed(0)
            side = SIZES.get(name, SIZE)
            model = geovision.create(name, size=(side, side))
            for count in options.frames:
                yield model, frames(Path(folder), count), Path(folder)


def frames(root: Path, count: int) -> Path:
    """Write a number of files: about a hundred different frames, repeated, seconds apart."""
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


def speed(model: GeoModel, source: Path, root: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return frames per second of each method."""
    files = sorted(source.glob("*.png"))
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_loop(model, files),
        "transformers": lambda: pipeline(model, files),
        "one_worker": lambda: run(model, source, root, ExecutorConfig(1), precision=options.precision),
        "archive": lambda: run(model, source, root, ExecutorConfig(2), precision=options.precision),
    }
    if importlib.util.find_spec("transformers") is None:
        print("transformers is not installed; its pipeline is skipped", flush=True)
        del ways["transformers"]
    best = dict.fromkeys(("plain", "transformers", "one_worker", "archive"), 0.0)
    for _ in range(options.turns):
        for name, way in ways.items():
            rate = len(files) / seconds(way, time.perf_counter)
            best[name] = max(best[name], rate)
            print(f"{model.spec.name}, {name}: {rate:.0f} frames/s", flush=True)
    start = seconds(
        lambda: run(model, files[0], root, ExecutorConfig(2), precision=options.precision), time.perf_counter
    )
    return described(model, len(files), options.turns, options.precision) | {
        **{f"{name}_frames_per_s": round(rate, 1) or "" for name, rate in best.items()},
        "archive_over_better": round(best["archive"] / max(best["plain"], best["transformers"]), 2),
        "two_workers_over_one": round(best["archive"] / best["one_worker"], 2),
        "start_s": round(start, 1),
        "processors": num_cpus(),
        "threads": torch.get_num_threads(),
    }


def described(model: GeoModel, frames: int, turns: int, precision: str = "auto") -> dict[str, object]:
    """Return the columns that describe a measurement."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit() or "",
        "model": model.spec.name,
        "size": model.inputs[0].size[0] if model.inputs[0].size else "",
        "frames": frames,
        "turns": turns,
        "precision": str(optimize_model(model, precision).dtype).removeprefix("torch."),
    }


def seconds(way: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the duration of a call by a clock, in s."""
    begun = clock()
    way()
    return clock() - begun


def plain_loop(model: GeoModel, files: list[Path]) -> list[int]:
    """Classify the files with the transform of timm and a loop in PyTorch."""
    spec = model.inputs[0]
    backbone = next(module for module in model.network.modules() if isinstance(module, TimmBackbone))
    config = timm.data.resolve_data_config({"input_size": (3, *(spec.size or ()))}, model=backbone.model)
    transform = timm.data.create_transform(**config, is_training=False)
    classes: list[int] = []
    for start in track(range(0, len(files), BATCH), "plain loop", transient=True):
        batch = torch.stack(
            [transform(Image.open(path).convert("RGB")) for path in files[start : start + BATCH]]
        )
        with torch.no_grad():
            classes += model.head(model.network({spec.name: batch})).argmax(1).tolist()
    return classes


def pipeline(model: GeoModel, files: list[Path]) -> list[str]:
    """Classify the files with the pipeline of transformers, with the same architecture and size."""
    import transformers

    spec = model.inputs[0]
    architecture = model.spec.model_args["backbone"]
    settings = dict(timm.create_model(architecture, num_classes=7).pretrained_cfg)
    settings |= {"input_size": (3, *(spec.size or ())), "num_classes": 7, "crop_pct": 1.0}
    config = transformers.TimmWrapperConfig(architecture=architecture, pretrained_cfg=settings, num_labels=7)
    network = transformers.TimmWrapperForImageClassification(config).eval()
    processor = transformers.TimmWrapperImageProcessor(pretrained_cfg=settings, architecture=architecture)
    classify = transformers.pipeline(
        "image-classification", model=network, image_processor=processor, device="cpu"
    )

    def paths() -> Iterator[str]:
        yield from map(str, files)

    return [result[0]["label"] for result in classify(paths(), batch_size=BATCH)]


def run(
    model: GeoModel,
    source: Path,
    root: Path,
    workers: ExecutorConfig,
    *,
    read: bool = True,
    precision: str = "auto",
) -> None:
    """Write an archive table, and read it."""
    out = root / "table"
    shutil.rmtree(out, ignore_errors=True)
    summary = geovision.predict_archive(
        model, source, out, frame_config=CONFIG, executor_config=workers, precision=precision
    )
    assert not summary.unreadable_files
    assert not summary.failed_shards
    if read:
        assert geovision.read_table(out, columns=["frame"]).num_rows == summary.frames


if __name__ == "__main__":
    main()
