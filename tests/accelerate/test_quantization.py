"""Convolutions in 8-bit integers compared with the formula, and full models compared with floats."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

import geovision
from geovision.accelerate import optimized
from geovision.accelerate._cpu_features import has_vnni
from geovision.accelerate.fusion import ConvActivation, fuse_layers
from geovision.accelerate.optimized import optimize_model
from geovision.accelerate.quantization import (
    QuantizationParams,
    QuantizedConv2d,
    quantizable_fraction,
    quantize_int8,
    record_ranges,
)
from geovision.errors import OptionError
from geovision.models.example_inputs import synthetic_inputs
from geovision.models.geomodel import GeoModel

needs_integers = pytest.mark.skipif(not has_vnni(), reason="this processor has no instructions for it")


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "largest"), [(0.0, 3.0), (-1.0, 2.5), (-2.0, 0.0), (-1e-3, 40.0)])
def test_a_grid_is_off_by_at_most_half_a_step(least: float, largest: float) -> None:
    grid = QuantizationParams.between(least, largest)
    values = torch.linspace(least, largest, 1001)
    back = (grid.integers(values).double() - grid.zero) * grid.step
    # The grid is shifted so that it contains 0, which removes up to half a step at one end.
    assert (back - values.double()).abs().max() <= grid.step * 1.001
    inner = values[(values > least + grid.step) & (values < largest - grid.step)]
    back = (grid.integers(inner).double() - grid.zero) * grid.step
    assert (back - inner.double()).abs().max() <= grid.step * 0.501
    assert 0 <= grid.zero <= 255
    assert int(grid.integers(torch.zeros(1))) == grid.zero


def test_values_beyond_a_grid_are_clipped() -> None:
    grid = QuantizationParams.between(-1.0, 1.0)
    assert grid.integers(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_an_empty_range_has_a_grid() -> None:
    assert QuantizationParams.between(0.0, 0.0).integers(torch.zeros(3)).tolist() == [0, 0, 0]


def test_integers_keep_the_memory_layout() -> None:
    values = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    found = QuantizationParams.between(0.0, 1.0).integers(values)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.float() / 255, values, rtol=0, atol=0.5 / 255 + 1e-6)


ACTIVATIONS = {
    "none": None,
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "swish": nn.SiLU(),
    "hardswish": nn.Hardswish(),
}


@needs_integers
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)])
def test_a_convolution_equals_that_of_its_quantized_values(
    activation: str, kernel: int, stride: int, padding: int
) -> None:
    """The float64 convolution of the dequantized values gives the same sums; padding is exactly 0."""
    torch.manual_seed(0)
    after = ACTIVATIONS[activation]
    convolution = nn.Conv2d(5, 6, kernel, stride, padding).requires_grad_(False)
    x = torch.randn(2, 5, 11, 9).contiguous(memory_format=torch.channels_last)
    grid = QuantizationParams.between(float(x.min()), float(x.max()))
    integers = QuantizedConv2d(ConvActivation(convolution, after), grid, None)
    taken = (grid.integers(x).double() - grid.zero) * grid.step
    weight = integers.weight.double() * integers.step.double()[:, None, None, None]
    wanted = F.conv2d(taken, weight, convolution.bias.double(), stride, padding)
    wanted = wanted if after is None else after(wanted)
    torch.testing.assert_close(integers(x).double(), wanted, rtol=1e-4, atol=1e-5)
    # Integer inputs are used unchanged.
    torch.testing.assert_close(integers(grid.integers(x)), integers(x))


@needs_integers
def test_a_result_is_quantized_for_the_next_layer() -> None:
    torch.manual_seed(0)
    layer = ConvActivation(nn.Conv2d(4, 4, 3, 1, 1).requires_grad_(False), nn.ReLU())
    x = torch.rand(1, 4, 8, 8)
    takes, gives = QuantizationParams.between(0.0, 1.0), QuantizationParams.between(0.0, 2.0)
    floats = QuantizedConv2d(layer, takes, None)(x)
    steps = QuantizedConv2d(layer, takes, gives)(x)
    assert steps.dtype == torch.uint8
    assert (steps.int() - gives.integers(floats).int()).abs().max() <= 1  # halves may be rounded differently


@needs_integers
def test_weights_are_packed_again_for_another_shape() -> None:
    torch.manual_seed(0)
    layer = ConvActivation(nn.Conv2d(3, 8, 3, 2, 1).requires_grad_(False), None)
    integers = QuantizedConv2d(layer, QuantizationParams.between(0.0, 1.0), None)
    for side in (16, 9, 16, 33, 9):
        x = torch.rand(2, 3, side, side)
        assert (integers(x) - layer(x)).abs().max() < 0.02


# --- networks -----------------------------------------------------------------------------------


class Branches(nn.Module):
    """Layer a feeds b only, b feeds c and the sum, and d, called twice, feeds only itself."""

    def __init__(self) -> None:
        super().__init__()
        for name in "abcd":
            layer = ConvActivation(nn.Conv2d(3, 3, 3, 1, 1), nn.ReLU())
            setattr(self, name, layer)
        self.between = nn.Identity()

    def forward(self, inputs: dict[str, Tensor], *, valid: None, context: None) -> Tensor:
        b = self.b(self.between(self.a(inputs["image"])))
        return self.d(self.d(self.c(b) + b))


@needs_integers
def test_only_results_with_one_consumer_stay_in_integers() -> None:
    torch.manual_seed(0)
    network = Branches().requires_grad_(False)
    image = {"image": torch.rand(1, 3, 8, 8)}
    with record_ranges(network) as ranges:
        wanted = network(image, valid=None, context=None)
    assert set(ranges) == set("abcd")
    assert ranges["a"][0] == 0.0
    assert ranges["a"][1] == pytest.approx(float(image["image"].max()))
    found = quantize_int8(network, ranges, image)
    assert found.a.gives is found.b.takes
    assert [layer.gives for layer in (found.b, found.c, found.d)] == [None] * 3
    assert (found(image, valid=None, context=None) - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert isinstance(network.a, ConvActivation)  # the given network is unchanged


def test_ranges_cover_all_observed_values_and_zero() -> None:
    network = Branches().requires_grad_(False)
    with record_ranges(network) as ranges:
        for image in (torch.full((1, 3, 4, 4), 2.0), torch.full((1, 3, 4, 4), 5.0)):
            network({"image": image}, valid=None, context=None)
    assert ranges["a"] == (0.0, 5.0)
    network({"image": torch.full((1, 3, 4, 4), 9.0)}, valid=None, context=None)
    assert ranges["a"] == (0.0, 5.0)  # hooks are removed


def test_convolutions_in_groups_and_other_layers_stay_in_floats() -> None:
    convolutions = fuse_layers(geovision.create("cloud-resnet18", size=(64, 64)).eval())
    transformer = fuse_layers(geovision.create("cloud-vit_tiny_patch16_224").eval())
    depthwise = fuse_layers(geovision.create("cloud-mobilenetv2_035", size=(64, 64)).eval())
    assert quantizable_fraction(convolutions) > 0.99
    assert quantizable_fraction(transformer) < 0.05
    assert 0.7 < quantizable_fraction(depthwise) < 1.0


# --- models -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> GeoModel:
    torch.manual_seed(0)
    model = geovision.create("aurora-resnet18", size=(64, 64))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # some are 0 at first, and a branch does nothing
            module.momentum = None  # mean over the full input
            module.reset_running_stats()
    inputs, valid = synthetic_inputs(model, 16, seed=7)
    with torch.no_grad():
        model.train()(inputs, valid=valid)
    return model.eval()


@needs_integers
def test_predictions_are_close_to_those_in_floats(model: GeoModel) -> None:
    inputs, valid = synthetic_inputs(model, 24, seed=3)
    exact, quick = (optimize_model(model, each)(inputs, valid)[0] for each in ("float32", "int8"))
    assert optimize_model(model, "int8").dtype == torch.int8
    assert 0 < optimized._relative_error(exact, quick) < 0.3
    assert not torch.equal(exact, quick)


@needs_integers
def test_predictions_do_not_depend_on_the_batch_or_earlier_calls(model: GeoModel) -> None:
    inputs, valid = synthetic_inputs(model, 6, seed=4)
    together = optimize_model(model, "int8")(inputs, valid)[0]
    anew = optimize_model(copy.deepcopy(model), "int8")
    for index in reversed(range(6)):
        rows = [
            {name: values[index : index + 1] for name, values in each.items()} for each in (inputs, valid)
        ]
        torch.testing.assert_close(anew(*rows)[0][0], together[index], rtol=1e-5, atol=1e-5)


@needs_integers
def test_changed_weights_are_quantized_again(model: GeoModel) -> None:
    changed = copy.deepcopy(model)
    inputs, valid = synthetic_inputs(changed, 4)
    before = optimize_model(changed, "int8")(inputs, valid)[0]
    with torch.no_grad():
        next(changed.network.parameters()).mul_(-1)
    assert not torch.allclose(optimize_model(changed, "int8")(inputs, valid)[0], before, atol=1e-3)


@needs_integers
def test_predict_supports_int8(model: GeoModel) -> None:
    inputs, _ = synthetic_inputs(model, 8, seed=5)
    pictures = list(inputs["image"])
    floats, integers = (model.predict(pictures, precision=each) for each in ("float32", "int8"))
    differences = [
        max(abs(a.probabilities[name] - b.probabilities[name]) for name in a.probabilities)
        for a, b in zip(floats, integers, strict=True)
    ]
    assert 0 < max(differences) < 0.1


def test_a_model_without_benefit_from_integers_is_refused() -> None:
    transformer = geovision.create("cloud-vit_tiny_patch16_224")
    with pytest.raises(OptionError, match=r"cloud-vit_tiny_patch16_224: only \d% of its weights are in"):
        optimize_model(transformer, "int8")
    with pytest.raises(OptionError, match="downscale-tiny does not classify images"):
        optimize_model(geovision.create("downscale-tiny"), "int8")


def test_a_processor_without_the_instructions_is_reported(
    model: GeoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert not has_vnni()
    with pytest.raises(OptionError, match=r"'int8' needs a processor with VNNI instructions"):
        optimize_model(copy.deepcopy(model), "int8")


@needs_integers
def test_a_network_with_large_quantization_errors_is_refused(model: GeoModel) -> None:
    """One channel is a thousand times larger, and its weight a thousand times smaller, than the others.

    This changes nothing in floats, but leaves one integer step for the other channels.
    """
    spoilt = copy.deepcopy(model)
    with torch.no_grad():
        for block in [each for each in spoilt.modules() if isinstance(each, BasicBlock)]:
            block.bn1.weight[0] *= 1000
            block.bn1.bias[0] = block.bn1.bias[0] * 1000 + 1000
            block.conv2.weight[:, 0] /= 1000
    with pytest.raises(OptionError, match=r"aurora-resnet18: in 8-bit integers its scores differ by \d+% of"):
        optimize_model(spoilt, "int8")


@needs_integers
@pytest.mark.real_data
def test_shipped_weights_keep_most_predictions(shared_data: Path) -> None:
    cloud = geovision.create("cloud-mobilenetv2", pretrained=True)
    photos = sorted((shared_data / "ccsn").rglob("*.jpg"))[::40]
    floats, integers = (cloud.predict(photos, precision=each) for each in ("float32", "int8"))
    same = sum(a.label == b.label for a, b in zip(floats, integers, strict=True))
    assert same >= 0.9 * len(photos)
