"""Explanations: values of a manual calculation, georeferencing and errors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import entries
from helpers.commands import ran
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import geovision
from geovision import registry
from geovision.attribution import METHODS, Explanation, InputWindow
from geovision.attribution.geometry import locate_input
from geovision.attribution.target import ORIENTATIONS
from geovision.datasets.synthetic import sar_sea
from geovision.errors import InputError, MissingExtraError, OptionError
from geovision.heads.classification import ClassificationHead
from geovision.models.geomodel import GeoModel, ModelConfig, build_model
from geovision.spec import Channel, ClassTarget, InputSpec, ModelSpec

Array = NDArray[np.float64]
CLASSES = ClassTarget(("no", "yes"))


def geo_model(network: nn.Module, *inputs: InputSpec, target: ClassTarget = CLASSES) -> GeoModel:
    """Wrap an unregistered network as a model."""
    task = registry.find_task("polarlow")
    spec = ModelSpec("polarlow-of-a-test", "polarlow", "tests:none")
    head = ClassificationHead(network.num_features, target)
    return GeoModel(spec, task, ModelConfig(), inputs, target, network, head).eval()


def picture(size: tuple[int, int] | None, *, channels: int = 2, **more) -> InputSpec:
    names = ("red", "green", "blue")[:channels]
    return InputSpec(
        "image",
        tuple(Channel(name, "1", (0.0, 1.0)) for name in names),
        size=size,
        integers="fraction",
        **more,
    )


# --- manual calculation --------------------------------------------------------------------------


class Small(nn.Module):
    """ReLU(1 x 1 convolution (ReLU(3 x 3 convolution, stride 2 (x)))), averaged."""

    num_features = 4
    explained_layer = "second"

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first = nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(inplace=True)
        self.mix, self.second = nn.Conv2d(3, 4, 1), nn.ReLU()

    def forward(self, inputs: Mapping[str, Tensor], *, valid=None, context=None) -> Tensor:
        return self.second(self.mix(self.first(self.conv(inputs["image"])))).mean((2, 3))


class ByHand:
    """Explicit float64 implementation of `Small` with its derivatives."""

    def __init__(self, model: GeoModel, x: Array) -> None:
        state = {name: value.double().numpy() for name, value in model.state_dict().items()}
        self.kernel, self.bias = state["network.conv.weight"], state["network.conv.bias"]
        self.mixing, self.offset = state["network.mix.weight"][:, :, 0, 0], state["network.mix.bias"]
        self.dense, self.constant = state["head.linear.weight"], state["head.linear.bias"]
        self.x = x

    def maps(self, x: Array) -> tuple[Array, Array]:
        rows, columns = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
        first = np.zeros((3, rows, columns))
        for r in range(rows):
            for c in range(columns):
                part = x[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]
                first[:, r, c] = (self.kernel * part).sum((1, 2, 3)) + self.bias
        first = np.maximum(first, 0)
        return first, np.maximum(np.einsum("jk,kyx->jyx", self.mixing, first) + self.offset[:, None, None], 0)

    def logit(self, x: Array, index: int) -> float:
        return float(self.dense[index] @ self.maps(x)[1].mean((1, 2)) + self.constant[index])

    def slopes(self, x: Array, index: int) -> tuple[Array, Array, Array]:
        """Derivatives of a logit by the second maps, by the first maps, and by the input."""
        first, second = self.maps(x)
        by_second = np.broadcast_to(self.dense[index][:, None, None] / second[0].size, second.shape)
        by_first = np.einsum("jk,jyx->kyx", self.mixing, by_second * (second > 0))
        by_input = np.zeros_like(x)
        through = by_first * (first > 0)
        for r in range(first.shape[1]):
            for c in range(first.shape[2]):
                part = np.einsum("k,kcyx->cyx", through[:, r, c], self.kernel)
                by_input[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3] += part
        return by_second, by_first, by_input


@pytest.fixture(scope="module")
def small() -> tuple[GeoModel, Array, ByHand]:
    torch.manual_seed(3)
    model = geo_model(Small(), picture(None))
    nn.init.normal_(model.head.linear.weight)
    x = np.random.default_rng(0).random((2, 11, 15)).astype(np.float32)
    return model, x, ByHand(model, x.astype(np.float64))


@pytest.mark.parametrize("target", ["no", "yes"])
def test_layer_maps_equal_a_manual_calculation(small, target: str):
    model, x, hand = small
    index = CLASSES.classes.index(target)
    (first, second), (by_second, by_first, _) = hand.maps(hand.x), hand.slopes(hand.x, index)
    expected = {
        ("gradcam", None): np.einsum("k,kyx->yx", by_second.mean((1, 2)), second),
        ("gradcam", "first"): np.einsum("k,kyx->yx", by_first.mean((1, 2)), first),
        ("layercam", None): (np.maximum(by_second, 0) * second).sum(0),
        ("layercam", "first"): (np.maximum(by_first, 0) * first).sum(0),
    }
    for (method, layer), cells in expected.items():
        found = geovision.explain(model, x, method=method, target=target, layer=layer)
        assert_close(found.first_input.values, np.maximum(cells, 0))
        assert found.logit == pytest.approx(hand.logit(hand.x, index), abs=1e-5)
        assert found.config.layer == (layer or "second")
    assert max(cells.max() for cells in expected.values()) > 0


def assert_close(found: NDArray, expected: Array) -> None:
    """Compare with a tolerance of 1e-5 of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_integrated_gradients_equal_a_manual_calculation(small):
    model, x, hand = small
    found = geovision.explain(model, x, method="integrated-gradients", target="yes", steps=200)
    weights = np.full(201, 1 / 200)
    weights[[0, -1]] /= 2
    line = zip(weights, np.linspace(0, 1, 201), strict=True)
    mean = sum(weight * hand.slopes(part * hand.x, 1)[2] for weight, part in line)
    assert_close(found.first_input.values, hand.x * mean)
    difference = hand.logit(hand.x, 1) - hand.logit(0 * hand.x, 1)
    assert found.completeness.difference == pytest.approx(difference, abs=1e-5)
    assert found.completeness.total == pytest.approx((hand.x * mean).sum(), abs=1e-5)


def test_deeplift_equals_a_manual_calculation(small):
    model, x, hand = small
    found = geovision.explain(model, x, method="deeplift", layer="first", target="yes")
    (first, second), (first_0, second_0) = hand.maps(hand.x), hand.maps(np.zeros_like(hand.x))
    inside, inside_0 = (np.einsum("jk,kyx->jyx", hand.mixing, each) for each in (first, first_0))
    # Rescale rule: the multiplier of an activation is its output difference over its input difference.
    multiplier = (second - second_0) / (inside - inside_0)
    weights = hand.dense[1][:, None, None] / second[0].size * multiplier
    expected = np.einsum("jk,jyx->kyx", hand.mixing, weights) * (first - first_0)
    assert_close(found.first_input.values, expected)
    assert expected.sum() == pytest.approx(hand.logit(hand.x, 1) - hand.logit(np.zeros_like(hand.x), 1))
    assert found.completeness.relative_error < 1e-5
    assert list(found.contributions["image"]) == ["first.0", "first.1", "first.2"]
    assert_close(list(found.contributions["image"].values()), expected.sum((1, 2)))
    assert found.unit == "logit"


def test_occlusion_equals_a_manual_calculation(small):
    model, x, hand = small
    found = geovision.explain(model, x, method="occlusion", target="yes", window=4, stride=3, batch_size=5)
    falls, often = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    # The last patch of a row ends at the edge of the image.
    for top in (0, 3, 6, 9):
        for left in (0, 3, 6, 9, 12):
            without = hand.x.copy()
            without[:, top : top + 4, left : left + 4] = 0
            falls[top : top + 4, left : left + 4] += hand.logit(hand.x, 1) - hand.logit(without, 1)
            often[top : top + 4, left : left + 4] += 1
    assert_close(found.first_input.values, np.stack([falls / often] * 2))


def test_gradcam_of_a_timm_network_equals_captum():
    from captum.attr import LayerGradCam

    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(96, 64))
    x = torch.rand(3, 96, 64)
    found = geovision.explain(model, x)
    index = model.target.classes.index(found.label)
    oracle = LayerGradCam(model, model.network.model.layer4).attribute(
        x[None], target=index, relu_attributions=True
    )
    assert found.first_input.values.shape == (3, 2)
    torch.testing.assert_close(torch.from_numpy(found.first_input.values), oracle[0, 0].detach())


# --- every family -------------------------------------------------------------------------------


def families() -> dict[str, ModelSpec]:
    """One differentiable entry for each builder and small network.

    Texture models are excluded: their second moments are discontinuous at changes of sign, so no sum of
    derivatives is complete.
    """
    differentiable = [spec for spec in registry.models().values() if "differentiable" in spec.capabilities]
    return {
        f"{spec.architecture} {spec.tiny_args}": spec
        for spec in {f"{s.builder} {s.tiny_args}": s for s in differentiable}.values()
        if not spec.builder.startswith("geovision.models.bilinear_pooling:")
    }


def tiny(spec: ModelSpec, *, seed: int = 0, size: tuple[int, int] = (64, 64)) -> GeoModel:
    torch.manual_seed(seed)
    return build_model(
        spec, registry.find_task(spec.task), ModelConfig(model_args=spec.tiny_args, size=size)
    ).eval()


def sample_for(model: GeoModel, *, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(model.inputs[0].channels), *model.inputs[0].size, generator=generator)


@pytest.mark.parametrize("spec", families().values(), ids=families())
def test_integrated_gradients_are_complete(spec: ModelSpec):
    model = entries.tiny(spec)
    sample = {name: values[0] for name, values in entries.inputs_of(model, 1, seed=1).items()}
    found = geovision.explain(model, sample, method="integrated-gradients", batch_size=32)
    assert found.completeness.relative_error < 0.01
    total = sum(float(each.values.sum()) for each in found.inputs.values())
    assert found.completeness.total == pytest.approx(total, rel=1e-3, abs=1e-6)


def test_steps_are_doubled_only_by_default(monkeypatch: pytest.MonkeyPatch):
    from geovision.attribution import input_attribution

    model = tiny(registry.find_model("polarlow-tiny"), size=(32, 32))
    x, method = sample_for(model), "integrated-gradients"
    monkeypatch.setattr(input_attribution, "DEFAULT_STEPS", 5)
    coarse = geovision.explain(model, x, method=method, steps=5)
    found = geovision.explain(model, x, method=method)
    assert coarse.config.steps == 5
    assert coarse.completeness.relative_error > 0.01 > found.completeness.relative_error
    assert found.config.steps in (10, 20, 40, 80, 160)
    # The refined sum equals that of a rule with the same number of steps.
    at_once = geovision.explain(model, x, method=method, steps=found.config.steps)
    assert_close(found.first_input.values, at_once.first_input.values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["cloud-tiny", "cloud-vit", "cloud-mobilenetv2", "polarlow-tiny"])
def test_other_weights_give_another_map(name: str, method: str):
    spec = registry.find_model(name)
    size = (128, 128) if "cam" in method else (64, 64)  # so that a layer's map has cells to rank
    steps = 20 if method == "integrated-gradients" else None
    cells = []
    for seed in (0, 0, 1):
        model = tiny(spec, seed=seed, size=size)
        model.head.linear.weight.data.abs_()  # every feature supports a class
        if method == "deeplift" and name == "cloud-mobilenetv2":  # it evaluates mirrored images, too
            with pytest.raises(OptionError, match="runs on several views of a sample"):
                geovision.explain(model, sample_for(model), method=method)
            return
        found = geovision.explain(model, sample_for(model), method=method, steps=steps)
        cells.append(found.first_input.cells)
    assert np.abs(cells[0]).max() > 0
    assert np.array_equal(cells[0], cells[1])
    assert abs(rank_correlation(cells[0], cells[2])) < 0.7


def rank_correlation(a: NDArray, b: NDArray) -> float:
    """Spearman correlation of the cell values."""
    ranks = [np.argsort(np.argsort(each.ravel())) for each in (a, b)]
    return float(np.corrcoef(ranks)[0, 1])


def test_a_mirrored_image_has_the_mirrored_map():
    """A network that evaluates an image and its mirror image in one batch is mirror-symmetric."""
    model = tiny(registry.find_model("cloud-mobilenetv2"))
    x = sample_for(model)
    for method in ("gradcam", "layercam"):
        one, other = (
            geovision.explain(model, each, method=method).first_input.values for each in (x, x.flip(-1))
        )
        assert one.max() > 0
        np.testing.assert_allclose(one, other[:, ::-1], atol=1e-4 * one.max())
        assert not np.allclose(one, one[:, ::-1], atol=1e-2 * one.max())


@pytest.mark.parametrize("name", ["polarlow-tiny", "cloud-mobilenetv2"])
def test_orientations_are_averaged(name: str):
    """The mean is also correct for a network that mirrors its images internally."""
    model = tiny(registry.find_model(name))
    x, target = sample_for(model), model.target.classes[1]
    found = geovision.explain(model, x, method="layercam", target=target, orientations=8)
    single = [
        each.invert(
            torch.from_numpy(
                geovision.explain(model, each.apply(x), method="layercam", target=target).heatmap
            )
        )
        for each in ORIENTATIONS
    ]
    expected = torch.stack(single).mean(0).numpy()
    assert expected.max() > 0
    np.testing.assert_allclose(found.heatmap, expected, atol=1e-4 * expected.max())
    # The map rotates with the image.
    turned = geovision.explain(
        model, x.rot90(1, (1, 2)).flip(2), method="layercam", target=target, orientations=8
    )
    back = np.rot90(turned.heatmap[:, ::-1], -1)
    np.testing.assert_allclose(back, found.heatmap, atol=1e-4 * expected.max())


def test_orientations_keep_completeness_and_the_prediction():
    model = tiny(registry.find_model("polarlow-tiny"), size=(32, 32))
    x = sample_for(model)
    for method in ("integrated-gradients", "occlusion"):
        found = geovision.explain(model, x, method=method, orientations=2)
        plain = geovision.explain(model, x, method=method)
        mirrored = geovision.explain(model, x.flip(-1), method=method)
        assert found.logit == plain.logit
        expected = (plain.first_input.values + mirrored.first_input.values[..., ::-1]) / 2
        np.testing.assert_allclose(found.first_input.values, expected, atol=1e-2 * np.abs(expected).max())
        if found.completeness:
            assert found.completeness.relative_error < 0.01
    with pytest.raises(
        OptionError, match=r"rotates input 'image' by quarter turns, but it is not square .32 x 64"
    ):
        geovision.explain(
            tiny(registry.find_model("cloud-tiny"), size=(32, 64)), torch.rand(3, 32, 64), orientations=8
        )


def test_tokens_are_arranged_like_their_patches():
    """A transformer on an image wider than high; its first token belongs to no patch."""
    model = tiny(registry.find_model("cloud-vit"), size=(64, 96))
    tokens = torch.rand(1, 1 + 4 * 6, 64)
    maps = model.network.as_maps(tokens)
    assert maps.shape == (1, 64, 4, 6)
    assert torch.equal(maps[0, :, 2, 5], tokens[0, 1 + 2 * 6 + 5])
    assert model.network.as_maps(torch.rand(1, 3, 64)) is None
    for layer in (None, "model.blocks.0", "model.patch_embed"):
        found = geovision.explain(model, sample_for(model), method="layercam", layer=layer)
        assert found.first_input.values.shape == (4, 6)
        assert found.first_input.values.max() > 0


def test_channels_last_maps_are_transposed():
    found = geovision.explain(geovision.create("aurora-swin-tiny"), torch.rand(3, 224, 224))
    assert found.config.layer == "model.layers.3"
    assert found.first_input.values.shape == (7, 7)


def test_measurements_have_their_contributions():
    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(64, 64), scalars=["cloud_base_height", "air_temperature"])
    sample = {"image": torch.rand(3, 64, 64), "scalars": {"cloud_base_height": 0.9}}
    for method in ("integrated-gradients", "occlusion"):
        found = geovision.explain(model, sample, method=method)
        assert list(found.scalars) == ["cloud_base_height", "air_temperature"]
        assert found.scalars["cloud_base_height"] != 0
        assert found.scalars["air_temperature"] == pytest.approx(0, abs=1e-6)  # missing input
        assert list(found.inputs) == ["image"]
        if found.completeness:
            parts = found.first_input.values.sum() + sum(found.scalars.values())
            assert found.completeness.total == pytest.approx(float(parts), rel=1e-3)
            assert found.completeness.relative_error < 0.01
    assert geovision.explain(model, sample).scalars == {}


# --- positions -----------------------------------------------------------------------------------


class DiscFinder(nn.Module):
    """Detector of a bright disc on a dark ground: a convolution with a disc inside a ring."""

    num_features = 1
    explained_layer = "seen"
    radius = 4

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        along = torch.arange(-8, 9, dtype=torch.float32)
        away = torch.hypot(along[:, None], along)
        disc, ring = (away <= self.radius).float(), ((away > self.radius) & (away <= 8)).float()
        kernel = disc / disc.sum() - ring / ring.sum()
        self.conv = nn.Conv2d(channels, 1, 17, padding=8, bias=False)
        self.conv.weight = nn.Parameter(kernel.expand(1, channels, -1, -1).clone() / channels)
        self.seen = nn.ReLU()

    def forward(self, inputs: Mapping[str, Tensor], *, valid=None, context=None) -> Tensor:
        return (self.seen(self.conv(inputs["image"]) - 0.2) ** 2).mean((2, 3))


def disc_finder(spec: InputSpec) -> GeoModel:
    model = geo_model(DiscFinder(len(spec.channels)), spec)
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    return model


def with_disc(height: int, width: int, row: float, column: float, *, radius: float = 4.0) -> NDArray:
    """Weak noise with a bright disc, float ``(2, y, x)``."""
    y, x = np.mgrid[:height, :width] + 0.5
    noise = 0.1 * np.random.default_rng(5).random((2, height, width))
    return np.where(np.hypot(y - row, x - column) <= radius, 0.9, noise).astype(np.float32)


def assert_on_the_disc(found: Explanation, row: float, column: float, within: float) -> None:
    peak = found.first_input.peak()
    assert peak is not None
    assert np.hypot(peak[0] - row, peak[1] - column) <= within, peak


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("resize", "shape", "place", "window"),
    [
        ("window", (150, 111), (101.0, 40.0), InputWindow(43, 23, 107, 87)),
        ("window", (40, 90), (22.0, 60.0), InputWindow(-12, 13, 52, 77)),  # higher than the image
        ("crop", (64, 128), (20.0, 80.0), InputWindow(0, 32, 64, 96)),
        ("squash", (64, 128), (40.0, 30.0), InputWindow(0, 0, 64, 128)),
    ],
)
def test_the_map_is_at_the_evaluated_window(method: str, resize, shape, place, window: InputWindow):
    model = disc_finder(picture((64, 64), resize=resize))
    steps = 50 if method == "integrated-gradients" else None
    found = geovision.explain(model, with_disc(*shape, *place), method=method, target="yes", steps=steps)
    assert found.window == window
    assert found.heatmap.shape == shape
    # There are no values outside the window; a map stretched over the image would be displaced.
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = (y > window.top) & (y < window.bottom) & (x > window.left) & (x < window.right)
    assert np.array_equal(np.isfinite(found.heatmap), inside)
    # A patch of occlusion is 8 cells wide, and a cell of a squashed image is 2 pixels wide.
    assert_on_the_disc(found, *place, within=6.0 if resize == "squash" else 4.0)


def test_a_rotated_photo_is_explained_upright(tmp_path: Path):
    upright = np.moveaxis(np.repeat(with_disc(60, 100, 44, 21, radius=6)[:1], 3, 0), 0, -1)
    photo = Image.fromarray((upright * 255).astype(np.uint8)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise for display
    photo.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    reader = "geovision.readers.images:read_rgb"
    for resize in ("squash", "crop"):
        model = disc_finder(picture((60, 100), channels=3, resize=resize, reader=reader))
        for source in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")):
            found = geovision.explain(model, source, method="layercam", target="yes")
            assert found.heatmap.shape == (60, 100)
            assert_on_the_disc(found, 44, 21, within=6)
    small = disc_finder(picture((30, 30), channels=3, resize="crop", reader=reader))
    assert geovision.explain(small, tmp_path / "turned.jpg", target="yes").window == InputWindow(
        0, 20, 60, 80
    )


def test_a_coarser_model_is_explained_in_the_pixels_of_the_file(tmp_path: Path):
    (path,) = sar_sea.write(tmp_path, 1, seed=0, pixel_size=1000.0).rglob("*.png")
    given = geovision.create("polarlow-tiny", pixel_size=4000.0).inputs[0]
    assert given.size == (64, 64)
    found = locate_input(path, given)
    assert found.shape == (400, 400)
    assert found.window == InputWindow(72, 72, 328, 328)


def test_values_are_spread_over_the_window_only():
    spread = InputWindow(2, 1, 6, 5).resample(np.array([[0.0, 4.0], [8.0, 12.0]]), (7, 5))
    assert spread.shape == (7, 5)
    assert np.isnan(spread[[0, 1, 6]]).all()
    assert np.isnan(spread[:, 0]).all()
    # Cells are two pixels wide; half a pixel from the middle of one is a quarter of the way to the next.
    np.testing.assert_allclose(spread[2, 1:], [0, 1, 3, 4])
    np.testing.assert_allclose(spread[2:6, 1], [0, 2, 6, 8])


# --- several times ------------------------------------------------------------------------------


class Sequence(nn.Module):
    """Two inputs; the first is a sequence, processed step by step by the same layers."""

    num_features = 2
    explained_layer = "seen"

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = nn.Conv2d(2, 1, 5, padding=2, bias=False), nn.ReLU()
        nn.init.constant_(self.conv.weight, 1 / 50)

    def forward(self, inputs: Mapping[str, Tensor], *, valid=None, context=None) -> Tensor:
        frames = [self.seen(self.conv(frame) - 0.2) ** 2 for frame in inputs["image"].unbind(1)]
        return torch.stack([torch.stack(frames).mean((0, 2, 3, 4)), inputs["height"].mean((1, 2, 3))], dim=1)


def test_a_sequence_has_a_map_per_time_and_input():
    radar = picture(None, layout="time channel y x")
    height = InputSpec("height", (Channel("height", "m", (0.0, 9000.0)),))
    model = geo_model(Sequence(), radar, height)
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1e-3]]))
    frames = np.stack([with_disc(24, 32, 50, 50) for _ in range(3)])
    frames[1] = with_disc(24, 32, 9, 20)
    sample = {"image": frames, "height": np.full((1, 12, 16), 100.0, np.float32)}
    with pytest.raises(
        OptionError, match="layer 'seen' runs 3 times per sample; choose a layer that runs once"
    ):
        geovision.explain(model, sample, method="deeplift", target="yes")
    for method in set(METHODS) - {"deeplift"}:
        found = geovision.explain(model, sample, method=method, target="yes")
        assert found.heatmap.shape == (3, 24, 32)
        assert np.nanmax(found.heatmap, axis=(1, 2)).argmax() == 1
        assert_on_the_disc(found, 9, 20, within=4)
        assert found.plot() is not None
        if method in ("gradcam", "layercam"):
            assert list(found.inputs) == ["image"]
        else:
            assert found.inputs["height"].heatmap.shape == (12, 16)
            assert (found.inputs["height"].heatmap > 0).all()


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradcamm"}, "method 'gradcamm' is unknown. Did you mean 'gradcam'.*occlusion"),
        (
            {"method": "occlusion", "layer": "x"},
            "layer applies to gradcam, layercam and deeplift, not to occ",
        ),
        ({"steps": 20}, "steps applies to integrated-gradients, not to gradcam"),
        ({"method": "integrated-gradients", "steps": 0}, "steps must be 1 or more, not 0"),
        ({"method": "occlusion", "window": 65}, "window=65 is larger than input 'image' .64 x 64"),
        ({"method": "occlusion", "window": 2, "stride": 3}, "stride=3 is larger than window=2"),
        ({"orientations": 4}, "orientations must be 1, 2 or 8, not 4"),
        ({"target": "cirrus"}, "cloud-tiny has no class 'cirrus'. Available: Ac, As"),
        (
            {"layer": "model.layer5"},
            "no layer 'model.layer5'. Did you mean 'model.layer[0-9]'?.*model.layer1",
        ),
        ({"layer": "head"}, "no layer 'head'. Layers with maps: model.conv1"),
        ({"layer": "model.global_pool"}, "returns shape .1, 96., which is not a map"),
    ],
)
def test_invalid_options_are_refused(options: dict, message: str):
    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(64, 64))
    with pytest.raises(OptionError, match=message) as caught:
        geovision.explain(model, torch.rand(3, 64, 64), **options)
    assert "\n" not in str(caught.value)


def test_a_map_of_one_cell_is_refused():
    model = geovision.create("cloud-tiny", size=(32, 32))
    with pytest.raises(OptionError, match=r"'model.layer4' has one cell .* such as 'model.layer3"):
        geovision.explain(model, torch.rand(3, 32, 32))


def test_one_sample_at_a_time():
    model = geovision.create("cloud-tiny", size=(64, 64))
    with pytest.raises(OptionError, match="one sample, not several"):
        geovision.explain(model, torch.rand(2, 3, 64, 64))
    with pytest.raises(OptionError, match="one sample, not none"):
        geovision.explain(model, [])
    with pytest.raises(InputError, match="expected 0 to 1"):
        geovision.explain(model, 255 * torch.rand(3, 64, 64))


def test_a_model_without_gradient_is_explained_by_occlusion_only():
    spec = registry.find_model("aurora-knn")
    model = tiny(spec, size=(32, 32))
    pictures = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        model.head.fit(model.features(pictures), torch.arange(24) % len(model.target.classes))
    for method in ("gradcam", "layercam", "integrated-gradients"):
        with pytest.raises(
            OptionError, match=f"aurora-knn has no gradient, which {method} needs; use occlusion"
        ):
            geovision.explain(model, pictures[0], method=method)
    found = geovision.explain(model, pictures[0], method="occlusion", window=16, stride=8)
    assert np.abs(found.first_input.values).max() > 0


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    model = geovision.create("cloud-tiny", size=(64, 64))
    for method in ("integrated-gradients", "deeplift", "occlusion"):
        with pytest.raises(MissingExtraError, match=r'captum .* pip install "geovision\[explain\]"'):
            geovision.explain(model, torch.rand(3, 64, 64), method=method)
    assert geovision.explain(model, torch.rand(3, 64, 64)).first_input.values.shape == (2, 2)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_unchanged(method: str):
    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(64, 64)).train()
    model.network.requires_grad_(False)
    model.network.model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    geovision.explain(model, torch.rand(3, 64, 64), method=method)
    assert model.training
    assert not model.network.model.layer1.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0, equal_nan=True)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert not any(module._forward_hooks for module in model.modules())


# --- files --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return geovision.create("cloud-tiny", size=(64, 64)).save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / folder / "sky.png")
    (tmp_path / "two" / "torn.png").write_bytes((tmp_path / "two" / "sky.png").read_bytes()[:999])
    return tmp_path


def test_the_command_writes_an_image_and_an_archive_per_file(trained, photos: Path, capsys):
    import csv
    import json

    out = photos / "why"
    code, text, messages = ran(
        capsys,
        "explain",
        trained,
        photos / "one",
        photos / "two",
        "--out",
        out,
        "--format",
        "csv",
        "--method",
        "integrated-gradients",
        "--steps",
        100,
        "--target",
        "Cu",
    )
    assert code == 1
    assert "torn.png: damaged" in messages
    assert messages.endswith("geovision: unreadable files: 1\n")
    first, second = csv.DictReader(text.splitlines())
    assert (first["class"], second["class"]) == ("Cu", "Cu")
    assert float(first["completeness_error"]) < 1
    # Two photos of one name do not overwrite each other.
    names = ["sky-2.integrated-gradients", "sky.integrated-gradients"]
    of_each = [f"{name}.{kind}" for name in names for kind in ("npz", "png")]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*of_each, "means.integrated-gradients.csv", "means.integrated-gradients.png"]
    )
    with Image.open(second["figure"]) as drawn:
        assert min(drawn.size) > 300
    with np.load(Path(first["figure"]).with_suffix(".npz")) as archive:
        about = json.loads(str(archive["about"]))
        assert archive["image"].shape == (3, 64, 64)
        assert archive["image_map"].shape == (90, 120)
    assert about["config"] == {
        "method": "integrated-gradients",
        "steps": 100,
        "batch_size": 8,
        "orientations": 1,
    }
    assert about["inputs"]["image"]["window"] == [0, 0, 90, 120]
    assert about["completeness"]["total"] == pytest.approx(about["completeness"]["difference"], rel=0.1)


def test_the_command_reports_errors_in_one_line(trained, photos: Path, capsys):
    for wrong, word in [
        (["--target", "cirrus"], "no class 'cirrus'"),
        (["--layer", "stage9"], "no layer 'stage9'"),
        (["--stride", "4"], "stride applies to occlusion"),
    ]:
        code, text, messages = ran(
            capsys, "explain", trained, photos / "one", "--out", photos / "why", *wrong
        )
        assert code == 2
        assert text == ""
        assert word in messages
        assert messages.count("\n") == 1
    assert not (photos / "why").exists()
