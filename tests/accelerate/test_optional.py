"""The optimizations are optional: a model runs in plain torch without them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT = """
import sys

for name in ("fusion", "optimized", "quantization"):
    sys.modules[f"geovision.accelerate.{name}"] = None  # any import of them fails

import torch
import geovision

model = geovision.create("cloud-tiny", size=(32, 32))
images = torch.rand(2, 3, 32, 32)
model.validate_inputs(images)
model.loss(model(images), torch.tensor([0, 1])).backward()
assert model.features(images).shape == (2, model.network.num_features)
loaded = geovision.load(model.save(sys.argv[1]))
assert torch.equal(loaded(images), model(images))
"""


def test_a_model_runs_without_the_optimizations(tmp_path: Path) -> None:
    run = [sys.executable, "-c", WITHOUT, str(tmp_path / "model")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
