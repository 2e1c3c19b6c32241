"""Latency, size and memory of a model in torch, in torch with bfloat16, in ONNX, and in ONNX with 8 bits.

The exported models are also measured with the class-activation map, whose gradient is part of the graph. Each
form predicts in a separate process, first single samples and then batches of 16, from ready arrays, because
the cost of decoding is equal for all. The forms alternate, so that other work on the machine affects all
equally. Memory is the largest resident set of the process, minus its value after importing the library.

    python benchmarks/export_speed.py                       # cloud-mobilenetv2 on two threads

The script prints a table and appends its rows to ``benchmarks/export_speed.csv``.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import peak

TABLE = Path(__file__).with_suffix(".csv")
FORMS = ("torch", "torch bfloat16", "onnx", "onnx int8", "onnx and map", "onnx int8 and map")
BATCH = 16


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    if options.form:
        print(json.dumps(measure(options)))
        return
    from rows import append

    import geovision
    from geovision.provenance import git_commit
    from geovision.serve.exported_models import export_models

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        opened = functools.partial(geovision.create, options.model, pretrained=True)
        opened().save(folder / "saved", fp16=True)
        for int8 in (False, True):
            graphs = folder / ("int8" if int8 else "float32")
            graphs.mkdir()
            export_models(graphs, opened, int8=int8)
        found: dict[str, list[dict[str, Any]]] = {form: [] for form in FORMS}
        for _ in range(options.turns):
            for form in FORMS:
                found[form].append(turn(form, folder, options))
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit(),
        "model": options.model,
        "threads": options.threads,
        "processor": processor(),
    }
    rows = [about | {"form": form} | summary(found[form]) for form in FORMS]
    for row in rows:
        print({key: value for key, value in row.items() if key not in about}, flush=True)
    append(TABLE, *rows)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="cloud-mobilenetv2", help="name of a model with weights")
    parser.add_argument("--threads", type=int, default=2, help="number of threads")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each form per turn, in s")
    parser.add_argument("--turns", type=int, default=3, help="number of turns")
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def turn(form: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the measurement of one process of a form."""
    command = [
        sys.executable,
        __file__,
        "--form",
        form,
        "--folder",
        folder,
        "--model",
        options.model,
        "--threads",
        str(options.threads),
        "--seconds",
        str(options.seconds),
    ]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout)


# --- one form, in a separate process ------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return latency, size and memory of a form."""
    kind = "torch" if options.form.startswith("torch") else "onnx"
    started, predict, path = (of_torch if kind == "torch" else of_onnx)(options)
    one, sixteen = (arrays(options, count) for count in (1, BATCH))
    times = repeated(lambda: predict(one), options.seconds)
    batches = repeated(lambda: predict(sixteen), options.seconds)
    return {
        "ms": 1000 * statistics.median(times),
        "ms_p95": 1000 * sorted(times)[int(0.95 * len(times))],
        "ms_in_batches": 1000 * statistics.median(batches) / BATCH,
        "mb_on_disk": path.stat().st_size / 1e6,
        "mb_in_memory": peak() - started,
    }


def of_torch(options: argparse.Namespace) -> tuple[float, Callable[[np.ndarray], Any], Path]:
    """Return memory at the start, a function of predictions, and the file of a torch model."""
    import torch

    import geovision
    from geovision.accelerate.optimized import optimize_model

    torch.set_num_threads(options.threads)
    started = peak()
    model = geovision.load(options.folder / "saved")
    name = model.inputs[0].name
    prepared = optimize_model(model, "bfloat16" if "bfloat16" in options.form else "float32")

    def predict(values: np.ndarray) -> Any:
        return prepared({name: torch.from_numpy(values)}, {})

    return started, predict, options.folder / "saved" / "model.safetensors"


def of_onnx(options: argparse.Namespace) -> tuple[float, Callable[[np.ndarray], Any], Path]:
    """Return memory at the start, a function of predictions, and the file of an exported model."""
    # The module is imported by its file, as in an installation without geovision.
    sys.path.insert(0, str(Path(__file__).parents[1] / "geovision"))
    from onnx_runtime import OnnxModel

    started = peak()
    graphs = options.folder / ("int8" if "int8" in options.form else "float32")
    path = graphs / ("model.onnx" if "map" in options.form else "quick.onnx")
    model = OnnxModel(path, threads=options.threads)
    (given,) = model.session.get_inputs()

    def predict(values: np.ndarray) -> Any:
        return model.session.run(None, {given.name: values})

    return started, predict, path


def arrays(options: argparse.Namespace, count: int) -> np.ndarray:
    """Return a batch of random inputs."""
    about = json.loads((options.folder / "saved" / "config.json").read_text("utf-8"))["inputs"][0]
    shape = (count, len(about["channels"]), *about["size"])
    return np.random.default_rng(0).random(shape, np.float32)


def repeated(call: Callable[[], Any], seconds: float) -> list[float]:
    """Return the seconds of each call, after three calls that are not counted."""
    for _ in range(3):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


# --- all forms ----------------------------------------------------------------------------------


def summary(turns: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median of each number over the turns."""
    return {key: round(statistics.median(each[key] for each in turns), 2) for key in turns[0]}


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "") or (
        platform.processor()
    )


if __name__ == "__main__":
    main()
