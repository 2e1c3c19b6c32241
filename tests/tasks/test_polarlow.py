"""The small Xception: size, padding, initialization, and weights from Keras."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

import geovision
from geovision.errors import InputError, OptionError, WeightsCorruptError
from geovision.models.convert_keras import load_keras_weights
from geovision.models.geomodel import GeoModel
from geovision.models.xception_small import HIDDEN_CHANNELS, SeparableConv2d, max_pooling_same

Array = NDArray[np.float64]


def statistics(model: nn.Module) -> int:
    """Return the number of running means and variances."""
    return sum(value.numel() for name, value in model.named_buffers() if "running_" in name)


# --- as published -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "trainable", "everything"),
    [
        ("polarlow-xception", 1_254_194, 1_260_322),
        ("polarlow-xception-1024", 1_254_194, 1_260_322),
        ("polarlow-xception-2ch", 1_254_122, 1_260_250),
    ],
)
def test_the_number_of_parameters_is_as_published(name: str, trainable: int, everything: int) -> None:
    model = geovision.create(name)
    assert model.num_parameters() == trainable
    assert statistics(model) == 6_128
    assert model.num_parameters() + statistics(model) == everything


def test_the_layers_have_the_published_sizes() -> None:
    network = geovision.create("polarlow-xception").network
    assert tuple(block.residual.out_channels for block in network.blocks) == HIDDEN_CHANNELS
    assert network.conv2d.weight.shape == (8, 3, 3, 3)
    assert network.num_features == 1024
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 16
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    for module in network.modules():
        if isinstance(module, SeparableConv2d):
            assert module.depthwise.bias is None
            assert module.pointwise.bias is not None


def test_initial_weights_are_glorot_uniform_and_biases_zero() -> None:
    """The bounds follow Keras: sqrt(6 / (in + out)), times the area of the kernel."""
    torch.manual_seed(0)
    model = geovision.create("polarlow-xception")
    block = model.network.blocks[-1]
    bounds = {
        model.network.conv2d: 6 / (9 * (3 + 8)),
        block.separable_conv2d_2.depthwise: 6 / (9 * (512 + 1)),
        block.separable_conv2d_2.pointwise: 6 / (512 + 512),
        block.residual: 6 / (256 + 512),
        model.head.linear: 6 / (1024 + 2),
    }
    for module, square in bounds.items():
        bound, weight = math.sqrt(square), module.weight.detach()
        assert float(weight.abs().max()) <= bound
        assert float(weight.abs().max()) > 0.97 * bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.12)
        assert module.bias is None or not module.bias.any()


def test_an_even_size_is_padded_only_at_its_end() -> None:
    network = geovision.create("polarlow-xception-2ch").network
    with torch.no_grad():
        network.conv2d.weight.fill_(1.0)
        sums = network.conv2d(torch.ones(1, 2, 6, 6))[0, 0]
    # Two channels of 3 x 3 ones; the last row and column reach beyond the end.
    assert sums.tolist() == [[18, 18, 12], [18, 18, 12], [12, 12, 8]]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 16])
def test_pooling_ignores_the_padding(size: int) -> None:
    """All values are below zero, so that padding with zeros would change the maximum."""
    values = -1 - torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(size))
    found = max_pooling_same(values)[0, 0].double().numpy()
    np.testing.assert_array_equal(found, keras_pooling(values[0].permute(1, 2, 0).double().numpy())[..., 0])


def test_channels_are_selected_by_name() -> None:
    """The published network has the cross-polarized channel twice.

    Its first convolution over (cross, cross, co) equals one over (cross, co) with the sum of the first
    two kernels.
    """
    torch.manual_seed(1)
    three = geovision.create("polarlow-xception").network.eval()
    two = geovision.create("polarlow-xception-2ch").network.eval()
    state = three.state_dict()
    kernel = state["conv2d.weight"]
    state["conv2d.weight"] = torch.stack([kernel[:, 0] + kernel[:, 1], kernel[:, 2]], dim=1)
    two.load_state_dict(state)
    image = {"image": torch.rand(1, 2, 64, 64)}
    with torch.no_grad():
        torch.testing.assert_close(three(image), two(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"depth": 3}, r"no option \['depth'\]; known: channels, filters, last"),
        ({"channels": ("cross_pol", "hh")}, "no channel 'hh'; known: cross_pol, co_pol"),
    ],
)
def test_an_unknown_option_is_refused(arch: dict, message: str) -> None:
    from geovision.models.xception_small import build

    with pytest.raises(OptionError, match=message):
        build(arch, inputs=geovision.create("polarlow-tiny").inputs, size=None)


# --- inputs and pixel sizes ---------------------------------------------------------------------


def test_a_coarser_model_covers_the_same_area() -> None:
    for pixel_size, side in ((500.0, 512), (1000.0, 256), (2000.0, 128)):
        (given,) = geovision.create("polarlow-xception", pixel_size=pixel_size).inputs
        assert given.size == (side, side)
        assert given.pixel_size == pixel_size
    with pytest.raises(OptionError, match="no pixel size"):
        geovision.create("cloud-tiny", pixel_size=500.0)
    with pytest.raises(OptionError, match="expected a size above 0, in m"):
        geovision.create("polarlow-tiny", pixel_size=0.0)


def test_the_pixel_size_is_saved_with_the_model(tmp_path: Path) -> None:
    model = geovision.create("polarlow-tiny", pixel_size=4000.0)
    again = geovision.load(model.save(tmp_path / "saved"))
    assert again.inputs == model.inputs
    assert again.inputs[0].size == (64, 64)


def test_any_timm_backbone_takes_the_two_polarizations() -> None:
    model = geovision.create("polarlow-test_resnet", pixel_size=4000.0)
    assert [channel.name for channel in model.inputs[0].channels] == ["cross_pol", "co_pol"]
    with torch.no_grad():
        assert model(torch.rand(2, 2, 64, 64)).shape == (2, 2)


def test_weights_of_photos_are_mapped_by_color(tmp_path: Path) -> None:
    """A network over (cross, co) predicts as the original one over (cross, cross, co).

    Red and green are cross-polarized in the published images, blue is co-polarized.
    """
    photos = timm.create_model("test_resnet", num_classes=0).eval()
    save_file(photos.state_dict(), tmp_path / "photos.safetensors")
    model = geovision.create(
        "polarlow-test_resnet", pixel_size=4000.0, backbone_weights=tmp_path / "photos.safetensors"
    )
    red, green, blue = photos.pretrained_cfg["mean"]
    cross, co = model.inputs[0].channels
    assert (cross.mean, co.mean) == (pytest.approx((red + green) / 2), blue)
    image = torch.rand(2, 2, 64, 64)
    with torch.no_grad():
        expected = photos(image[:, [0, 0, 1]])
        torch.testing.assert_close(model.network({"image": image}), expected, atol=1e-5, rtol=1e-4)
    again = geovision.load(model.save(tmp_path / "saved"))
    assert again.inputs == model.inputs


def test_decibels_are_refused_with_a_remedy() -> None:
    model = geovision.create("polarlow-tiny", pixel_size=4000.0)
    with pytest.raises(InputError, match=r"cross_pol.*scaled_1.*decibels need a declared mapping"):
        model.predict(np.full((2, 64, 64), -18.0, np.float32))


def test_a_larger_array_is_cropped_and_a_smaller_one_padded_as_missing() -> None:
    """Arrays keep their scale: nothing is resized."""
    torch.manual_seed(0)
    model = geovision.create("polarlow-tiny", pixel_size=4000.0)
    large = np.random.default_rng(0).random((2, 100, 90), dtype=np.float32)
    middle = large[:, 18:82, 13:77]
    small = np.zeros((2, 64, 64), np.float32)
    small[:, 12:52, 22:42] = large[:, :40, :20]
    cut, whole, padded, around = (
        model.predict(array, precision="float32")[0].probabilities["pos"]
        for array in (large, middle, large[:, :40, :20], small)
    )
    assert cut == whole
    assert padded == around


# --- weights from Keras -------------------------------------------------------------------------

Layers = list[tuple[str, dict[str, NDArray[np.float32]]]]


def keras_layers(channels: int = 3, *, seed: int = 0) -> Layers:
    """Return the layers of the authors' network in the order of Keras files, by depth.

    Their numbers do not begin at 0, and layers without weights are between them.
    """
    rng = np.random.default_rng(seed)
    counts: dict[str, int] = {}
    layers: Layers = [("input_4", {}), ("random_flip", {}), ("rescaling", {})]

    def add(kind: str, **arrays: NDArray[np.float64]) -> None:
        number = counts[kind] = counts.get(kind, 6) + 1
        layers.append((f"{kind}_{number}", {k: v.astype(np.float32) for k, v in arrays.items()}))

    def draw(*shape: int, fan: int) -> NDArray[np.float64]:
        return rng.normal(0, math.sqrt(2 / fan), shape)

    def convolution(kernel: int, a: int, b: int) -> None:
        add("conv2d", kernel=draw(kernel, kernel, a, b, fan=kernel**2 * a), bias=rng.normal(0, 0.1, b))

    def separable(a: int, b: int) -> None:
        add(
            "separable_conv2d",
            depthwise_kernel=draw(3, 3, a, 1, fan=9),
            pointwise_kernel=draw(1, 1, a, b, fan=a),
            bias=rng.normal(0, 0.1, b),
        )

    def normalization(b: int) -> None:
        add(
            "batch_normalization",
            gamma=rng.uniform(0.5, 1.5, b),
            beta=rng.normal(0, 0.3, b),
            moving_mean=rng.normal(0, 0.3, b),
            moving_variance=rng.uniform(0.5, 2.0, b),
        )
        add("activation")

    convolution(3, channels, 8)
    normalization(8)
    before = 8
    for filters in HIDDEN_CHANNELS:
        for a in (before, filters):
            separable(a, filters)
            normalization(filters)
        add("max_pooling2d")
        convolution(1, before, filters)
        add("add")
        before = filters
    separable(512, 1024)
    normalization(1024)
    add("global_average_pooling2d")
    add("dropout")
    add("dense", kernel=draw(1024, 2, fan=1024), bias=rng.normal(0, 0.1, 2))
    return layers


def write_h5(path: Path, layers: Layers, *, weights_alone: bool = False) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.8.0"
        root = file if weights_alone else file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, arrays in layers:
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{weight}:0".encode() for weight in arrays]
            for weight, array in arrays.items():
                group[f"{name}/{weight}:0"] = array
        if not weights_alone:
            file["optimizer_weights/AdamW/iter:0"] = np.int64(7)
    return path


def padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the "same" padding: ceil(size / stride) windows, the odd cell at the end."""
    missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2


def keras_windows(x: Array, kernel: int, stride: int, outside: float) -> Array:
    """Return windows of shape (y, x, channel, kernel, kernel) of an array (y, x, channel)."""
    margins = [padding(side, kernel, stride) for side in x.shape[:2]]
    padded = np.pad(x, [*margins, (0, 0)], constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(0, 1))[::stride, ::stride]


def keras_pooling(x: Array) -> Array:
    return keras_windows(x, 3, 2, -np.inf).max((3, 4))


def keras_forward(layers: Layers, x: Array) -> Array:
    """Return the logits of an image (y, x, channel), by the definitions of Keras in float64."""
    given: dict[str, list[dict[str, NDArray[np.float32]]]] = {}
    for name, arrays in layers:
        if arrays:
            given.setdefault(name.rpartition("_")[0], []).append(arrays)
    convolutions, separables, norms, denses = (
        iter(given[kind]) for kind in ("conv2d", "separable_conv2d", "batch_normalization", "dense")
    )

    def convolution(x: Array, stride: int) -> Array:
        own = next(convolutions)
        windows = keras_windows(x, own["kernel"].shape[0], stride, 0.0)
        return np.einsum("yxcij,ijco->yxo", windows, own["kernel"]) + own["bias"]

    def separable(x: Array) -> Array:
        own = next(separables)
        each = np.einsum("yxcij,ijcm->yxc", keras_windows(x, 3, 1, 0.0), own["depthwise_kernel"])
        return each @ own["pointwise_kernel"][0, 0] + own["bias"]

    def normalized(x: Array) -> Array:
        own = next(norms)
        scale = own["gamma"] / np.sqrt(own["moving_variance"].astype(np.float64) + 1e-3)
        return np.maximum((x - own["moving_mean"]) * scale + own["beta"], 0)

    x = normalized(convolution(x, 2))
    for _ in HIDDEN_CHANNELS:
        y = normalized(separable(x))
        y = normalized(separable(y))
        x = keras_pooling(y) + convolution(x, 2)
    features = normalized(separable(x)).mean((0, 1))
    dense = next(denses)
    return features @ dense["kernel"] + dense["bias"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_h5(tmp_path_factory.mktemp("keras") / "model.h5", keras_layers())


@pytest.mark.parametrize("size", [(40, 36), (64, 64), (33, 50)])
def test_a_converted_model_predicts_as_keras(file: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(3).random((2, *size), dtype=np.float32)
    model = load_keras_weights(geovision.create("polarlow-xception"), file)
    with torch.no_grad():
        found = model(torch.from_numpy(image)[None])[0].numpy()
    expected = keras_forward(keras_layers(), image[[0, 0, 1]].transpose(1, 2, 0).astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def test_weights_files_and_two_channels_are_read(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "weights.h5", keras_layers(2), weights_alone=True)
    image = np.random.default_rng(4).random((2, 32, 32), dtype=np.float32)
    model = load_keras_weights(geovision.create("polarlow-xception-2ch"), path)
    with torch.no_grad():
        found = model(torch.from_numpy(image)[None])[0].numpy()
    expected = keras_forward(keras_layers(2), image.transpose(1, 2, 0).astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def without(kind: str) -> Callable[[Layers], Layers]:
    def change(layers: Layers) -> Layers:
        last = max(index for index, (name, arrays) in enumerate(layers) if name.startswith(kind) and arrays)
        return layers[:last] + layers[last + 1 :]

    return change


def twice(layers: Layers) -> Layers:
    return [*layers, ("dense_99", layers[-1][1])]


def reshaped(layers: Layers) -> Layers:
    return [(n, {**a, "kernel": a["kernel"].T} if n.startswith("dense") else a) for n, a in layers]


def of_another_kind(layers: Layers) -> Layers:
    return [*layers, ("lstm", {"kernel": np.zeros((2, 8)), "recurrent_kernel": np.zeros((2, 8))})]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("separable_conv2d"), r"14 layers of kind separable convolution; the network has 15"),
        (without("batch_normalization"), r"15 layers of kind batch normalization; the network has 16"),
        (twice, r"2 layers of kind dense; the network has 1"),
        (reshaped, r"layer 'dense_7' for dense 1: 'kernel' has shape \(2, 1024\)"),
        (of_another_kind, r"layer 'lstm' has the arrays \['kernel', 'recurrent_kernel'\]"),
    ],
)
def test_an_unsuitable_file_is_refused_without_changes(
    tmp_path: Path, change: Callable[[Layers], Layers], message: str
) -> None:
    path = write_h5(tmp_path / "model.h5", change(keras_layers()))
    model = geovision.create("polarlow-xception")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsCorruptError, match=message) as caught:
        load_keras_weights(model, path)
    assert "\n" not in str(caught.value)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_another_number_of_channels_is_a_wrong_shape(file: Path) -> None:
    with pytest.raises(WeightsCorruptError, match=r"convolution 1: 'kernel' has shape \(3, 3, 3, 8\)"):
        load_keras_weights(geovision.create("polarlow-xception-2ch"), file)


@pytest.mark.parametrize("content", [b"", b"not HDF5", None])
def test_a_file_that_is_not_from_keras_is_one_line_of_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsCorruptError, match="is not a Keras file with the layout") as caught:
        load_keras_weights(geovision.create("polarlow-xception"), path)
    assert "\n" not in str(caught.value)


def test_hdf5_of_another_layout_is_one_line_of_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "rain.h5", "w") as file:
        file["rain"] = np.zeros(3)
    with pytest.raises(WeightsCorruptError, match="is not a Keras file with the layout"):
        load_keras_weights(geovision.create("polarlow-xception"), tmp_path / "rain.h5")


def test_only_a_small_xception_takes_keras_weights(file: Path) -> None:
    model: GeoModel = geovision.create("cloud-tiny")
    with pytest.raises(OptionError, match="not a small Xception"):
        load_keras_weights(model, file)
