"""Cost of subnormal numbers in training: processor time with them, and without them as in the trainer.

    python benchmarks/subnormals.py

Gradients of closed gates decay through numbers below 1e-38, which processors compute slowly. Each network is
trained on the same generated storms with the default setting of PyTorch and with that of the trainer. The
fastest of several turns counts, in processor time, so that other work on the machine has no influence. The
script appends rows to ``benchmarks/subnormals.csv``.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from rows import append

import geovision
from geovision.datasets.base import GeoDataset
from geovision.datasets.hail_samples import HailSamples
from geovision.provenance import git_commit
from geovision.spec import Recipe, Stage

MODELS = {
    "hail-convlstm": {"width": 16, "kernel": 3, "layers": 2},
    "hail-hinet": {"width": 16, "kernel": 3, "unet_width": 16, "source_dropout": 0.0},
    "hail-unet-resnet18": {},
}
BATCH, EPOCHS = 8, 8


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=160, help="number of generated samples")
    parser.add_argument("--turns", type=int, default=2, help="number of turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = HailSamples(HailSamples.synthetic(Path(folder), options.samples, size=(32, 32), windows=6))
        for name in MODELS:
            spent = {
                kept: min(seconds(name, data, kept=kept) for _ in range(options.turns))
                for kept in (True, False)
            }
            steps = EPOCHS * -(-len(data) // BATCH)
            append(
                Path(__file__).with_suffix(".csv"),
                {
                    "model": name,
                    "steps": steps,
                    "seconds_with": round(spent[True] / steps, 3),
                    "seconds_without": round(spent[False] / steps, 3),
                    "ratio": round(spent[True] / spent[False], 2),
                    "threads": torch.get_num_threads(),
                    "commit": git_commit(),
                },
                show=True,
            )


def seconds(name: str, data: GeoDataset, *, kept: bool) -> float:
    """Return the processor time of one training in s."""
    torch.manual_seed(0)
    head = {"error": "bce", "positive_weight": 3.0}
    model = geovision.create(name, model_args=MODELS[name], head_args=head)
    stage = Stage(epochs=EPOCHS, batch_size=BATCH, lr=3e-3, weight_decay=1e-4, warmup=1, max_grad_norm=1.0)
    ours = mock.patch("geovision.training.trainer.flush_denormals", contextlib.nullcontext)
    with ours if kept else contextlib.nullcontext():
        begun = time.process_time()
        geovision.train(model, data, recipe=Recipe(stages=(stage,), precision="32-true"), progress=False)
        return time.process_time() - begun


if __name__ == "__main__":
    main()
