"""Operations per second of one core in convolutions, by precision: the limit of `GeoModel.predict`.

The limit applies to large networks. The convolutions are those of ResNet-50 in the form that the optimized
network uses (channels-last, packed weights, fused activation). One thread runs them in turns, and the best
thread time of several counts. A ResNet-50 needs 8.2 billion operations per photo of 224 x 224, nearly all of
them in such convolutions. The operations per second of a core divided by this number are an upper limit of
its photos per second, unless the number of operations is reduced.

    python benchmarks/arithmetic_speed.py

The script prints a table and appends one row per precision to ``benchmarks/arithmetic_speed.csv``.
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import torch
from predict_speed import processor
from rows import append
from torch import Tensor

from geovision.accelerate._cpu_features import has_fast_bfloat16
from geovision.provenance import git_commit

TABLE = Path(__file__).with_suffix(".csv")
LAYERS = (
    (64, 56, 64, 3),
    (128, 28, 128, 3),
    (256, 14, 256, 3),
    (512, 7, 512, 3),
    (256, 56, 64, 1),
    (512, 28, 128, 1),
    (1024, 14, 256, 1),
    (2048, 7, 512, 1),
)
"""Input channels, height and width, output channels, and kernel size."""
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
BATCH, TURNS, RESNET50 = 16, 5, 8.2


def main() -> None:
    """Run the benchmark."""
    torch.set_num_threads(1)
    seconds = dict.fromkeys(PRECISIONS, 0.0)
    operations = 0.0
    for layer in LAYERS:
        channels, side, out, kernel = layer
        operations += 2 * BATCH * channels * out * (side * kernel) ** 2 / 1e9
        for precision, best in layer_seconds(*layer).items():
            seconds[precision] += best
    rows = [row(precision, operations / each) for precision, each in seconds.items()]
    for each in rows:
        print(
            f"{each['precision']:10} {each['billion_operations_per_s']:8.1f} billion operations/s per core, "
            f"at most {each['resnet50_photos_per_s_at_most']:.1f} photos/s with ResNet-50"
        )
    append(TABLE, *rows)


def layer_seconds(channels: int, side: int, out: int, kernel: int) -> dict[torch.dtype, float]:
    """Return the best time of one convolution in s, by precision."""
    best = dict.fromkeys(PRECISIONS, float("inf"))
    operands = {p: convolution(p, channels, side, out, kernel) for p in PRECISIONS}
    for _ in range(TURNS):
        for precision, (x, weight, bias) in operands.items():
            begin = time.thread_time()
            torch.ops.mkldnn._convolution_pointwise(
                x, weight, bias, [kernel // 2] * 2, [1, 1], [1, 1], 1, "relu", [], ""
            )
            best[precision] = min(best[precision], time.thread_time() - begin)
    return best


def convolution(
    precision: torch.dtype, channels: int, side: int, out: int, kernel: int
) -> tuple[Tensor, ...]:
    """Return a batch, packed weights and a bias."""
    x = torch.randn(BATCH, channels, side, side).to(precision).to(memory_format=torch.channels_last)
    weight = torch.randn(out, channels, kernel, kernel).to(precision)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, [kernel // 2] * 2, [1, 1], [1, 1], 1)
    return x, packed, torch.randn(out).to(precision)


def row(precision: torch.dtype, speed: float) -> dict[str, object]:
    """Return the table row of a precision."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit() or "",
        "precision": str(precision).removeprefix("torch."),
        "billion_operations_per_s": round(speed, 1),
        "resnet50_photos_per_s_at_most": round(speed / RESNET50, 1),
        "bfloat16_saves_time": has_fast_bfloat16(),
        "processor": processor(),
        "versions": f"torch {torch.__version__}",
    }


if __name__ == "__main__":
    main()
