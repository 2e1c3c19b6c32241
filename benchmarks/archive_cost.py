"""What an archive of THEMIS frames costs: processor time of each step, and from it days of many workers.

Takes real files, for generated noise is packed otherwise: the minutes of 20 frames that the University of
Calgary publishes. Processor time of one thread, the best of several turns, so that other work on the
machine counts little. A worker does one step after the other; workers share no processor, but they share the
disk or the network that frames come from.

    python benchmarks/archive_cost.py ../shared/data/themis

Appends rows to ``archive_cost.csv`` beside this file, and prints what 700 million frames cost.
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
"""Frames of THEMIS, all stations and years."""

WORKERS = (1, 16, 256)
LINKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9}
"""Bytes a second that all workers together are given; 0.125e9 is a hard disk, too."""

MODELS = {"aurora-resnet18": 128, "aurora-mobilenetv2": 224}
READING = FrameConfig(channels="grey", sites={"gill": (56.38, -94.64)})


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    files = sorted(map(str, options.files.glob("*.pgm.gz")))
    reading = calibrate_cameras(options.files, READING, stretch=True, circle=True).merge_into(READING)
    for name, side in MODELS.items():
        torch.manual_seed(0)
        row = measured(geovision.create(name, size=(side, side)), files, reading, options.turns)
        append(Path(__file__).with_suffix(".csv"), row, show=True)
        for workers in WORKERS:
            print(f"  {workers:3d} workers: {told(row, workers)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, help="folder of minutes of THEMIS, 20140310_0600_gill_….pgm.gz")
    parser.add_argument("--turns", type=int, default=5)
    return parser.parse_args()


def measured(model: GeoModel, files: list[str], reading: FrameConfig, turns: int) -> dict[str, object]:
    """Milliseconds a frame of each step, and bytes a frame that are read and written."""
    spec = model.inputs[0]
    frames = [frame for file in files for frame in read_frames(file, None)]
    prepared = optimize_model(model, "auto")
    size = batch_size_for(model)
    batch = {spec.name: torch.zeros(size, 3, *(spec.size or ()), dtype=torch.uint8)}

    def shown() -> list[np.ndarray]:
        pictures = (Image.fromarray(reading.image(frame)[0]) for frame in frames)
        return [rgb_counts(picture, spec, spec.size) for picture in pictures]

    def answered() -> list[Row]:
        return predict_rows(model, files, reading)

    count = len(frames)
    own = {
        "read": best(lambda: [frame for file in files for frame in read_frames(file, None)], count, turns),
        "picture": best(shown, count, turns),
        "network": best(lambda: prepared(batch, {}), size, turns),
        "rows": best(answered, count, turns),
    }
    with tempfile.TemporaryDirectory() as folder:
        geovision.predict_archive(
            model, files, folder, frame_config=reading, executor_config=ExecutorConfig(0)
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
    """Milliseconds of processor time a frame."""
    taken = []
    for _ in range(turns):
        begun = time.process_time()
        step()
        taken.append(time.process_time() - begun)
    return 1000 * min(taken) / frames


def told(row: dict[str, object], workers: int) -> str:
    """How long an archive takes, by processors and by each link; the longer of the two counts."""
    computed = ARCHIVE * float(str(row["rows_ms"])) / 1000 / workers
    read = {link: ARCHIVE * float(str(row["bytes_read"])) / rate for link, rate in LINKS.items()}
    asked = float(str(row["bytes_read"])) * ARCHIVE / computed / 1e6
    return f"{_days(computed)} of computing, which asks for {asked:,.0f} MB/s; " + ", ".join(
        f"{link} alone takes {_days(seconds)}" for link, seconds in read.items()
    )


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds > 86400 else f"{seconds / 3600:.1f} hours"


if __name__ == "__main__":
    main()
