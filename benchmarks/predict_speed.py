"""Images per second of `GeoModel.predict` and of a plain loop, on the same photos in alternating turns.

The plain loop uses Pillow, the evaluation transform of timm, batches of 32, float32, contiguous arrays and
the default threads of torch. Both process the folder in turns of a few batches, so that other work on the
machine affects both equally. The first turn includes the preparation of the model.

    python benchmarks/predict_speed.py --photos FOLDER                 # as they are
    python benchmarks/predict_speed.py --photos FOLDER --phone         # as 12-megapixel JPEGs

The script prints a table and appends one row per model to ``benchmarks/predict_speed.csv``.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import timm
import torch
from PIL import Image, ImageOps
from rows import append

import geovision
from geovision.accelerate.optimized import optimize_model
from geovision.models.geomodel import GeoModel
from geovision.models.timm_backbone import TimmBackbone
from geovision.provenance import git_commit
from geovision.readers.images import expand

TABLE = Path(__file__).with_suffix(".csv")


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    photos = expand(options.photos)
    photos = list(itertools.islice(itertools.cycle(photos), options.count))
    with tempfile.TemporaryDirectory() as folder:
        # With copies, each repetition of a photo is a separate file.
        copies = write_copies(photos, Path(folder), phone=options.phone)
        for name in options.models:
            row = compare(name, copies, options)
            print_row(row)
            append(TABLE, row)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--count", type=int, default=1000, help="number of photos, repeated if necessary")
    parser.add_argument("--phone", action="store_true", help="enlarge the photos to 4000 x 3000 pixels first")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["cloud-mobilenetv2", "cloud-resnet50"],
        help="names in the registry, or folders of saved models",
    )
    parser.add_argument("--turn", type=int, default=200, help="photos per turn")
    parser.add_argument("--precision", default="auto", help="precision of predict")
    parser.add_argument("--fresh", action="store_true", help="use initial parameters instead of weights")
    return parser.parse_args()


# --- the photos ---------------------------------------------------------------------------------


def write_copies(photos: Sequence[Path], folder: Path, *, phone: bool) -> list[Path]:
    """Write each photo to a file, unchanged or in the format of a phone."""
    files = [folder / f"{index:05d}{path.suffix}" for index, path in enumerate(photos)]
    if not phone:
        for path, file in zip(photos, files, strict=True):
            file.write_bytes(path.read_bytes())
        return files
    # Hundreds of different images take gigabytes and minutes, so forty of them are repeated.
    distinct = list(dict.fromkeys(photos))[:40]
    with ThreadPoolExecutor(2) as pool:
        shots = list(pool.map(phone_shot, distinct, range(len(distinct))))
    for index, file in enumerate(files):
        file.write_bytes(shots[index % len(shots)])
    return files


def phone_shot(path: Path, seed: int) -> bytes:
    """Return a photo at 12 megapixels with sensor noise and the orientation tag of a phone."""
    import io

    generator = np.random.default_rng(seed)
    with Image.open(path) as image:
        upright = ImageOps.fit(image.convert("RGB"), (4000, 3000), Image.Resampling.LANCZOS)
    noise = generator.normal(0, 3, (3000, 4000, 1)).astype(np.float32)
    noisy = np.clip(np.asarray(upright, np.float32) + noise, 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = int(generator.choice([1, 3, 6, 8]))
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=92, exif=exif)
    return stream.getvalue()


# --- the two methods ----------------------------------------------------------------------------


def plain_loop(model: GeoModel) -> Callable[[Sequence[Path]], None]:
    """Return a loop over the same network and head, with the transform of timm at the same size."""
    network, head, spec = model.network, model.head, model.inputs[0]
    backbone = next(module for module in network.modules() if isinstance(module, TimmBackbone))
    config = timm.data.resolve_data_config({"input_size": (3, *spec.size)}, model=backbone.model)
    transform = timm.data.create_transform(**config, is_training=False)

    def predict(photos: Sequence[Path]) -> None:
        for start in range(0, len(photos), 32):
            batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in photos[start : start + 32]])
            with torch.no_grad():
                head(network({spec.name: batch})).softmax(1).argmax(1).tolist()

    return predict


@dataclass
class Clock:
    """Wall time and processor time of each turn, in s."""

    wall: list[float]
    processor: list[float]

    def time(self, work: Callable[[], None]) -> None:
        """Measure a turn."""
        wall, processor = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


def compare(name: str, photos: Sequence[Path], options: argparse.Namespace) -> dict[str, object]:
    """Return the row of one model, with both methods in alternating turns over the same photos."""
    model = opened(name, fresh=options.fresh)
    plain = plain_loop(model)
    plain(photos[:4])  # starts threads and lazy imports of both before the first turn
    optimize_model(geovision.create("cloud-tiny"), "float32")
    slow, fast = Clock([], []), Clock([], [])
    turns = [photos[start : start + options.turn] for start in range(0, len(photos), options.turn)]
    for number, turn in enumerate(turns):
        ways = [
            lambda turn=turn: slow.time(lambda: plain(turn)),
            lambda turn=turn: fast.time(lambda: model.predict(turn, precision=options.precision)),
        ]
        for way in ways if number % 2 == 0 else reversed(ways):
            way()
        print(f"{name} {number + 1}/{len(turns)}: plain {slow.wall[-1]:.1f} s, predict {fast.wall[-1]:.1f} s")
    ratios = [a / b for a, b in zip(slow.wall, fast.wall, strict=True)]
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit() or "",
        "model": model.spec.name,
        "photos": f"{len(photos)} {'of 12 megapixels' if options.phone else 'as they are'}",
        "weights": "trained" if model.training_record else "initialized",
        "size": "x".join(map(str, model.inputs[0].size)),
        "precision": f"{options.precision}: {optimize_model(model, options.precision).dtype}",
        "plain_images_per_s": round(len(photos) / sum(slow.wall), 2),
        "predict_images_per_s": round(len(photos) / sum(fast.wall), 2),
        "ratio": round(sum(slow.wall) / sum(fast.wall), 2),
        "ratio_median_of_turns": round(statistics.median(ratios), 2),
        "ratio_lowest_turn": round(min(ratios), 2),
        "ratio_highest_turn": round(max(ratios), 2),
        "ratio_processor_time": round(sum(slow.processor) / sum(fast.processor), 2),
        "same_top1_as_float32": agreement(model, photos[:: max(1, len(photos) // 1000)], options.precision),
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": f"torch {torch.__version__}, timm {timm.__version__}, pillow {PIL.__version__}",
    }


def opened(name: str, *, fresh: bool) -> GeoModel:
    """Return the model of a folder or of a registry name."""
    if Path(name).is_dir():
        return geovision.load(name)
    return geovision.create(name, pretrained=bool(geovision.info(name).weights) and not fresh)


def agreement(model: GeoModel, photos: Sequence[Path], precision: str) -> float:
    """Return the share of photos with the same predicted class as the unchanged network.

    The unchanged network uses float32 and images that are decoded at full scale.
    """
    spec = model.inputs[0]
    found = [prediction.label for prediction in model.predict(photos, precision=precision)]
    wanted = []
    for start in range(0, len(photos), 32):
        images = [full_scale(path, spec.size) for path in photos[start : start + 32]]
        with torch.inference_mode():
            best = model(torch.from_numpy(np.stack(images)).float() / 255).argmax(1)
        wanted += [model.target.classes[index] for index in best.tolist()]
    return round(sum(a == b for a, b in zip(found, wanted, strict=True)) / len(photos), 4)


def full_scale(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """Return a photo that is decoded at full scale and then resized."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    height, width = size or (upright.height, upright.width)
    return np.array(upright.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


# --- the table ----------------------------------------------------------------------------------


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def print_row(row: dict[str, object]) -> None:
    """Print a row, one column per line."""
    width = max(map(len, row))
    print("\n".join(f"{key:{width}}  {value}" for key, value in row.items()), end="\n\n")


if __name__ == "__main__":
    main()
