"""Latency, size and memory of a model in torch, in torch with bfloat16, in ONNX, and in ONNX with 8 bits; of
the exported ones also with the map of where the model looked, whose gradient is in the graph.

Each form answers in a process of its own, one sample after the other and then in batches of 16, from ready
arrays: what decoding a photo costs is the same for all. The forms take turns, so that what else the machine
does falls on all alike. Memory is the largest resident set of the program, less what it had when it had only
imported its library.

    python benchmarks/export_speed.py                       # cloud-mobilenetv2 on two threads

Prints a table and appends its rows to ``benchmarks/export_speed.csv``.
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="cloud-mobilenetv2", help="a name with weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each form a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def turn(form: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What one process of a form found."""
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


# --- one form, in a process of its own ----------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    kind = "torch" if options.form.startswith("torch") else "onnx"
    started, answer, path = (of_torch if kind == "torch" else of_onnx)(options)
    one, sixteen = (pictures(options, count) for count in (1, BATCH))
    times = repeated(lambda: answer(one), options.seconds)
    batches = repeated(lambda: answer(sixteen), options.seconds)
    return {
        "ms": 1000 * statistics.median(times),
        "ms_p95": 1000 * sorted(times)[int(0.95 * len(times))],
        "ms_in_batches": 1000 * statistics.median(batches) / BATCH,
        "mb_on_disk": path.stat().st_size / 1e6,
        "mb_in_memory": peak() - started,
    }


def of_torch(options: argparse.Namespace) -> tuple[float, Callable[[np.ndarray], Any], Path]:
    import torch

    import geovision
    from geovision.accelerate.optimized import optimize_model

    torch.set_num_threads(options.threads)
    started = peak()
    model = geovision.load(options.folder / "saved")
    name = model.inputs[0].name
    prepared = optimize_model(model, "bfloat16" if "bfloat16" in options.form else "float32")

    def answer(values: np.ndarray) -> Any:
        return prepared({name: torch.from_numpy(values)}, {})

    return started, answer, options.folder / "saved" / "model.safetensors"


def of_onnx(options: argparse.Namespace) -> tuple[float, Callable[[np.ndarray], Any], Path]:
    # By its file, as it is used where there is no geovision.
    sys.path.insert(0, str(Path(__file__).parents[1] / "geovision"))
    from runtime import Model

    started = peak()
    graphs = options.folder / ("int8" if "int8" in options.form else "float32")
    path = graphs / ("model.onnx" if "map" in options.form else "quick.onnx")
    model = Model(path, threads=options.threads)
    (given,) = model.session.get_inputs()

    def answer(values: np.ndarray) -> Any:
        return model.session.run(None, {given.name: values})

    return started, answer, path


def pictures(options: argparse.Namespace, count: int) -> np.ndarray:
    about = json.loads((options.folder / "saved" / "config.json").read_text("utf-8"))["inputs"][0]
    shape = (count, len(about["channels"]), *about["size"])
    return np.random.default_rng(0).random(shape, np.float32)


def repeated(ask: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each call, after three that do not count."""
    for _ in range(3):
        ask()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        ask()
        times.append(time.perf_counter() - begin)
    return times


# --- all of them --------------------------------------------------------------------------------


def summary(turns: list[dict[str, Any]]) -> dict[str, float]:
    """The median over the turns of each figure."""
    return {key: round(statistics.median(each[key] for each in turns), 2) for key in turns[0]}


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "") or (
        platform.processor()
    )


if __name__ == "__main__":
    main()
