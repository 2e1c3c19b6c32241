"""Explanations of masks and fields with several sources, some of them missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import geovision
from geovision import registry
from geovision.heads.field import FieldHead
from geovision.heads.mask import IdentityMaskHead
from geovision.models.geomodel import GeoModel, ModelConfig
from geovision.spec import Channel, FieldTarget, InputSpec, MaskTarget, ModelSpec


class Sources(nn.Module):
    """Mask from terrain and from radar at several times, each over its valid cells."""

    num_features = 1
    layer_channels: Mapping[str, tuple[str, ...]] = {"fused": ("radar", "terrain")}

    def __init__(self) -> None:
        super().__init__()
        self.radar, self.terrain = nn.Conv2d(2, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
        self.fused, self.last = (
            nn.Identity(),
            nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1)),
        )

    def forward(self, inputs: Mapping[str, Tensor], *, valid=None, context=None) -> Tensor:
        radar = torch.stack([self.radar(frame) for frame in inputs["radar"].unbind(1)]).amax(0)
        terrain = self.terrain(inputs["terrain"]) if "terrain" in inputs else torch.zeros_like(radar)
        return self.last(self.fused(torch.cat([radar, terrain], 1)))


ECHO = Channel("level_1", "dBZ", (-33.0, 80.0), std=30.0, baseline=-33.0)
RADAR = InputSpec("radar", (ECHO, dataclasses.replace(ECHO, name="level_2")), layout="time channel y x")
PRESSURE = Channel("pressure", "hPa", (300.0, 1100.0), mean=900.0, std=100.0)
TERRAIN = InputSpec("terrain", (PRESSURE,), optional=True)


def mask_of_sources() -> tuple[GeoModel, dict[str, NDArray]]:
    torch.manual_seed(1)
    target = MaskTarget("hail")
    task, spec = registry.find_task("polarlow"), ModelSpec("polarlow-of-a-test", "polarlow", "tests:none")
    model = GeoModel(
        spec, task, ModelConfig(), (RADAR, TERRAIN), target, Sources(), IdentityMaskHead(1, target)
    ).eval()
    rng = np.random.default_rng(2)
    radar = rng.uniform(-33, 60, (3, 2, 12, 16)).astype(np.float32)
    gone = np.zeros(radar.shape, bool)
    gone[0], gone[1, :, :, :4] = True, True  # one time, and a part of another
    radar[gone] = np.nan
    terrain = rng.uniform(700, 1000, (1, 12, 16)).astype(np.float32)
    return model, {"radar": np.ma.array(radar, mask=gone), "terrain": terrain}


def test_a_mask_of_several_sources_is_explained_by_source():
    model, sample = mask_of_sources()
    found = geovision.explain(model, sample, method="integrated-gradients")
    assert (found.label, found.probability) == ("hail", None)
    filled = {"radar": torch.tensor(sample["radar"].filled(0)), "terrain": torch.tensor(sample["terrain"])}
    there = {"radar": torch.tensor(~sample["radar"].mask)[None]}

    def logit(inputs: Mapping[str, Tensor]) -> float:
        with torch.no_grad():
            return float(
                model({name: each[None] for name, each in inputs.items()}, valid=there).values.mean()
            )

    # The baseline is no echo, and for pressure, which is never 0, its mean.
    nothing = {"radar": torch.full((3, 2, 12, 16), -33.0), "terrain": torch.full((1, 12, 16), 900.0)}
    assert found.logit == pytest.approx(logit(filled), abs=1e-5)
    assert found.completeness.difference == pytest.approx(logit(filled) - logit(nothing), abs=1e-5)
    assert found.completeness.relative_error < 0.01
    parts = found.contributions
    assert list(parts) == ["radar", "terrain"]
    assert list(parts["radar"]) == ["level_1", "level_2"]
    total = sum(sum(each.values()) for each in parts.values())
    assert total == pytest.approx(found.completeness.total, rel=1e-4)
    missing = sample["radar"].mask
    assert (found.inputs["radar"].values[missing] == 0).all()
    assert np.abs(found.inputs["radar"].values[~missing]).max() > 0
    assert found.as_dict()["contributions"] == parts


def test_fused_channels_are_explained_by_deeplift():
    model, sample = mask_of_sources()
    found = geovision.explain(model, sample, method="deeplift", layer="fused")
    assert list(found.contributions["radar"]) == ["radar", "terrain"]
    assert found.completeness.relative_error < 1e-5
    assert found.plot() is not None


def test_a_missing_source_is_excluded():
    model, sample = mask_of_sources()
    for method in ("integrated-gradients", "occlusion"):
        found = geovision.explain(model, {"radar": sample["radar"]}, method=method, steps=None)
        assert list(found.inputs) == ["radar"]


def test_a_field_is_explained_in_its_unit_over_valid_cells():
    class Doubled(nn.Module):
        num_features = 1

        def forward(self, inputs: Mapping[str, Tensor], *, valid=None, context=None) -> Tensor:
            return inputs["rain"] * 2

        def valid_mask(self, inputs, valid, shape) -> Tensor:
            return (torch.arange(shape[-1]) < 5).expand(shape)

    rain = InputSpec("rain", (Channel("precipitation", "mm day-1", (0.0, 2000.0)),))
    target = FieldTarget(rain.channels[0])
    head = FieldHead(1, target)
    head.scale.fill_(3.0)
    nn.init.ones_(head.convolution.weight)
    nn.init.zeros_(head.convolution.bias)
    task, spec = registry.find_task("polarlow"), ModelSpec("polarlow-of-a-test", "polarlow", "tests:none")
    model = GeoModel(spec, task, ModelConfig(), (rain,), target, Doubled(), head).eval()
    values = np.random.default_rng(0).gamma(1.0, 4.0, (1, 6, 8)).astype(np.float32)
    found = geovision.explain(model, values, method="integrated-gradients")
    assert found.logit == pytest.approx(6 * values[..., :5].mean(), rel=1e-5)
    np.testing.assert_allclose(found.first_input.values[..., :5], values[..., :5] * 6 / 30, rtol=0.003)
    assert (found.first_input.values[..., 5:] == 0).all()
