"""Processor time of each step of an archive of THEMIS frames, and the duration for 700 million frames.

The script uses real files, because generated noise compresses differently: minutes of 20 frames that the
University of Calgary publishes. It measures processor time of one thread and reports the best of several
turns, so that other work on the machine has little influence. A worker performs the steps in sequence.
Workers do not share a processor, but they share the disk or the network that the frames come from.

    python benchmarks/archive_cost.py ../shared/data/themis

The script appends rows to ``archive_cost.csv`` in its folder, and prints the cost of 700 million frames.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rows import append

import geovision
from geovision.accelerate.optimized import optimize_model
from geovision.allsky import FrameConfig
from geovision.allsky.camera_calibration import calibrate_cameras
from geovision.allsky.frames import Row, batch_size_for, predict_rows, read_frames
from geovision.inference import ExecutorConfig
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit
from geovision.readers.images import rgb_counts

ARCHIVE = 700_000_000
"""Number of THEMIS frames of all stations and years."""

WORKERS = (1, 16, 256)
LINKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9}
"""Transfer rate in bytes per second for all workers together; 0.125e9 is also the rate of a hard disk."""

MODELS = {"aurora-resnet18": 128, "aurora-mobilenetv2": 224}
CONFIG = FrameConfig(channels="grey", sites={"gill": (56.38, -94.64)})


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    torch.set_num_threads(1)
    files = sorted(map(str, options.files.glob("*.pgm.gz")))
    config = calibrate_cameras(options.files, CONFIG, stretch=True, circle=True).merge_into(CONFIG)
    for name, side in MODELS.items():
        torch.manual_seed(0)
        row = measured(geovision.create(name, size=(side, side)), files, config, options.turns)
        append(Path(__file__).with_suffix(".csv"), row, show=True)
        for workers in WORKERS:
            print(f"  {workers:3d} workers: {duration(row, workers)}")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, help="folder of THEMIS minutes, 20140310_0600_gill_….pgm.gz")
    parser.add_argument("--turns", type=int, default=5, help="number of turns")
    return parser.parse_args()


def measured(model: GeoModel, files: list[str], config: FrameConfig, turns: int) -> dict[str, object]:
    """Return ms per frame of each step, and bytes read and written per frame."""
    spec = model.inputs[0]
    frames = [frame for file in files for frame in read_frames(file, None)]
    prepared = optimize_model(model, "auto")
    size = batch_size_for(model)
    batch = {spec.name: torch.zeros(size, 3, *(spec.size or ()), dtype=torch.uint8)}

    def decoded() -> list[np.ndarray]:
        images = (Image.fromarray(config.image(frame)[0]) for frame in frames)
        return [rgb_counts(image, spec, spec.size) for image in images]

    def predicted() -> list[Row]:
        return predict_rows(model, files, config)

    count = len(frames)
    own = {
        "read": best(lambda: [frame for file in files for frame in read_frames(file, None)], count, turns),
        "picture": best(decoded, count, turns),
        "network": best(lambda: prepared(batch, {}), size, turns),
        "rows": best(predicted, count, turns),
    }
    with tempfile.TemporaryDirectory() as folder:
        geovision.predict_archive(
            model, files, folder, frame_config=config, executor_config=ExecutorConfig(0)
        )
        written = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet")) / count
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit() or "",
        "model": model.spec.name,
        "size": spec.size[0] if spec.size else "",
        "frames": count,
        "precision": str(prepared.dtype).removeprefix("torch."),
        **{f"{step}_ms": round(milliseconds, 2) for step, milliseconds in own.items()},
        "bytes_read": round(sum(Path(file).stat().st_size for file in files) / count),
        "bytes_written": round(written),
        "turns": turns,
    }


def best(step: Callable[[], object], frames: int, turns: int) -> float:
    """Return the smallest processor time in ms per frame."""
    taken = []
    for _ in range(turns):
        begun = time.process_time()
        step()
        taken.append(time.process_time() - begun)
    return 1000 * min(taken) / frames


def duration(row: dict[str, object], workers: int) -> str:
    """Return the duration of an archive by computation and by each link; the longer one limits."""
    computed = ARCHIVE * float(str(row["rows_ms"])) / 1000 / workers
    read = {link: ARCHIVE * float(str(row["bytes_read"])) / rate for link, rate in LINKS.items()}
    needed = float(str(row["bytes_read"])) * ARCHIVE / computed / 1e6
    return f"{_days(computed)} of computation, which needs {needed:,.0f} MB/s; " + ", ".join(
        f"{link} alone takes {_days(seconds)}" for link, seconds in read.items()
    )


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds > 86400 else f"{seconds / 3600:.1f} hours"


if __name__ == "__main__":
    main()
