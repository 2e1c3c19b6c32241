"""Subnormal numbers of the processor, and their treatment in training."""

from __future__ import annotations

import pytest
import torch

import geovision
from geovision.accelerate._cpu_features import flush_denormals
from geovision.datasets.hail_samples import HailSamples
from geovision.spec import Recipe, Stage

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor has no such setting"
)


def halved() -> float:
    """Subnormal number, or 0 if subnormals are flushed."""
    return float(torch.tensor(1e-40) * 0.5)


def test_subnormals_are_zero_inside_the_context_only():
    assert halved() > 0
    with flush_denormals():
        assert halved() == 0
        with flush_denormals():
            assert halved() == 0
        assert halved() == 0  # the inner context restores the outer setting
    assert halved() > 0
    with pytest.raises(RuntimeError, match="of the work"), flush_denormals():
        raise RuntimeError("of the work")
    assert halved() > 0


def test_only_training_flushes_subnormals(tmp_path):
    data = HailSamples(HailSamples.synthetic(tmp_path, 2, size=(16, 16), windows=2))
    model = geovision.create("hail-convlstm", model_args={"width": 4, "kernel": 3})
    seen: list[tuple[bool, float]] = []
    model.network.register_forward_hook(lambda network, *_: seen.append((network.training, halved())))
    recipe = Recipe(stages=(Stage(epochs=1, batch_size=2),))
    geovision.train(model, data, recipe=recipe, progress=False)
    model.predict(data[0]["inputs"])
    assert {found == 0 for training, found in seen if training} == {True}
    assert halved() > 0
