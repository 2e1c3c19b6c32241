"""`predict` for every kind of input: results independent of the batch, in order, model unchanged."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

import geovision
from geovision.accelerate import _cpu_features
from geovision.accelerate._cpu_features import has_fast_bfloat16
from geovision.accelerate.fusion import ConvActivation
from geovision.accelerate.optimized import OptimizedModel, optimize_model
from geovision.errors import InputError, OptionError, UnreadableFileError
from geovision.heads.prediction import ClassPrediction, Prediction
from geovision.models._predict import iter_predict
from geovision.models.geomodel import GeoModel, ModelConfig, build_model
from geovision.models.input_items import iter_input_items
from geovision.readers.images import expand, read_rgb
from geovision.registry import find_model, find_task
from geovision.spec import ModelSpec

SIZE = (48, 48)


def randomized(model: GeoModel) -> GeoModel:
    """Set random running statistics and scores, as after training."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    nn.init.normal_(model.head.linear.weight, 0, 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> GeoModel:
    torch.manual_seed(0)
    return randomized(geovision.create("cloud-tiny", size=SIZE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write thirteen photos of several sizes and formats."""
    place = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for index, suffix in zip(range(13), itertools.cycle([".jpg", ".png", ".webp"])):
        coarse = Image.fromarray(generator.integers(0, 255, (5, 7, 3), np.uint8))
        coarse.resize((60 + 11 * index, 50 + 7 * index), Image.Resampling.BICUBIC).save(
            place / f"{index}{suffix}"
        )
    return place


def numbers(predictions: list[Prediction], model: GeoModel) -> torch.Tensor:
    """Return probabilities, shape (prediction, class), in the order of the model's classes."""
    return torch.tensor(
        [[prediction.probabilities[name] for name in model.target.classes] for prediction in predictions]
    )


@pytest.fixture(scope="module")
def expected(model: GeoModel, folder: Path) -> torch.Tensor:
    """Return the probabilities of the photos from the forward pass of the model."""
    counts = [
        read_rgb(path, model.inputs[0], SIZE) for path in sorted(folder.iterdir(), key=lambda p: int(p.stem))
    ]
    with torch.no_grad():
        return model.head.probabilities(model(torch.from_numpy(np.stack(counts)).float() / 255))


# --- equal predictions --------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 5, 13, 100])
def test_a_folder_is_predicted_as_by_forward_for_any_batch_size(
    model: GeoModel, folder: Path, expected: torch.Tensor, batch_size: int
) -> None:
    predictions = model.predict(folder, batch_size=batch_size, precision="float32")
    assert [Path(prediction.source).stem for prediction in predictions] == [str(index) for index in range(13)]
    torch.testing.assert_close(numbers(predictions, model), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_gives_the_same_labels(model: GeoModel, folder: Path, expected: torch.Tensor) -> None:
    predictions = model.predict(folder, precision="bfloat16")
    torch.testing.assert_close(numbers(predictions, model), expected, rtol=0, atol=0.05)
    first, second = expected.topk(2, dim=1).values.T
    clear = first - second > 0.1
    assert clear.sum() >= 5
    same = numbers(predictions, model).argmax(1) == expected.argmax(1)
    assert same[clear].all()


def test_predictions_are_complete(model: GeoModel, folder: Path) -> None:
    (prediction,) = model.predict(folder / "0.jpg")
    assert isinstance(prediction, ClassPrediction)
    assert prediction.label in model.target.classes
    assert next(iter(prediction.probabilities)) == prediction.label
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert prediction.confidence == max(prediction.probabilities.values())
    assert prediction.card.code == prediction.label
    assert prediction.error is None


# --- kinds of input -----------------------------------------------------------------------------


def test_paths_arrays_tensors_and_images_agree(model: GeoModel, folder: Path, expected: torch.Tensor) -> None:
    path = folder / "1.png"
    counts = read_rgb(path, model.inputs[0], SIZE)
    fraction = counts / np.float32(255)
    given = [
        path,
        str(path),
        str(folder / "1.*"),
        Image.open(path),
        counts,
        torch.from_numpy(counts.copy()),
        fraction,
        fraction.astype(np.float64),
        fraction.astype(">f4"),
        torch.from_numpy(fraction),
        counts.astype(np.uint16) * 257,
        fraction[:, ::-1][:, ::-1],
        {"image": path},
        {"image": torch.from_numpy(fraction).requires_grad_()},
    ]
    predictions = model.predict(given, precision="float32", batch_size=4)
    assert len(predictions) == len(given)
    torch.testing.assert_close(
        numbers(predictions, model), expected[1:2].expand(len(given), -1), rtol=1e-3, atol=1e-4
    )
    assert predictions[0].source == str(path)
    assert predictions[4].source == "[4]"
    assert predictions[12].source == str(path)


def test_a_batch_counts_as_single_samples(model: GeoModel) -> None:
    batch = torch.rand(5, 3, *SIZE)
    whole = model.predict(batch, precision="float32")
    assert [prediction.source for prediction in whole] == ["[0]", "[1]", "[2]", "[3]", "[4]"]
    apart = model.predict(list(batch), precision="float32")
    mapped = model.predict({"image": batch.numpy()}, precision="float32")
    torch.testing.assert_close(numbers(whole, model), numbers(apart, model), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(numbers(whole, model), numbers(mapped, model), rtol=1e-4, atol=1e-6)


def test_arrays_are_resized_like_files(model: GeoModel, folder: Path, expected: torch.Tensor) -> None:
    paths = [folder / "4.png", folder / "7.png", folder / "10.png"]
    arrays = [read_rgb(path, model.inputs[0]) / np.float32(255) for path in paths]
    predictions = model.predict(arrays, precision="float32")
    torch.testing.assert_close(numbers(predictions, model), expected[[4, 7, 10]], rtol=0, atol=0.02)


def test_no_input_gives_no_prediction(model: GeoModel) -> None:
    assert model.predict([]) == []


def test_scalars_of_a_photo_are_used(folder: Path) -> None:
    names = ["cloud_base_height", "air_temperature"]
    model = randomized(geovision.create("cloud-tiny", size=SIZE, scalars=names))
    path = folder / "1.png"
    photo = torch.from_numpy(read_rgb(path, model.inputs[0], SIZE).copy()).float()[None] / 255
    predictions = model.predict(
        [
            {"image": path, "scalars": {"cloud_base_height": 2.1}},
            {"image": path, "scalars": {"air_temperature": -3, "cloud_base_height": 2.1}},
            {"image": path, "scalars": {"cloud_base_height": None}},
            {"image": path, "scalars": torch.tensor([2.1, -3.0])},
            path,
        ],
        precision="float32",
    )
    found = numbers(predictions, model)
    values = torch.tensor([[2.1, 0.0]])
    with torch.no_grad():
        logits = model(
            {"image": photo, "scalars": values}, valid={"scalars": torch.tensor([[True, False]])}
        ).values
    torch.testing.assert_close(found[:1], model.head.probabilities(logits), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], found[1])
    torch.testing.assert_close(found[1], found[3])
    torch.testing.assert_close(found[2], found[4])


@pytest.mark.parametrize(
    ("scalars", "line"),
    [
        ({"cloud_base": 2.1}, r"'scalars' has no 'cloud_base'; known: \['cloud_base_height'\]"),
        ({"cloud_base_height": 2100}, "channel 'cloud_base_height': .*looks like meters; expects km"),
        ({"cloud_base_height": "low"}, "expected one number per measurement of 'scalars'"),
        (torch.rand(2), r"has 1 channels \(cloud_base_height\)"),
    ],
)
def test_invalid_scalars_are_refused(folder: Path, scalars: object, line: str) -> None:
    model = geovision.create("cloud-tiny", size=SIZE, scalars=["cloud_base_height"])
    with pytest.raises(InputError, match=line):
        model.predict({"image": folder / "1.png", "scalars": scalars})


# --- unchanged model ----------------------------------------------------------------------------


def test_the_model_is_unchanged(model: GeoModel, folder: Path) -> None:
    model.train()
    before = copy.deepcopy(model.state_dict())
    strides = [parameter.stride() for parameter in model.parameters()]
    threads = torch.get_num_threads()
    predictions = model.predict(folder, precision="bfloat16", batch_size=4)
    assert model.training
    assert model.network.training
    assert torch.get_num_threads() == threads
    assert [parameter.stride() for parameter in model.parameters()] == strides
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    model.eval()
    assert numbers(predictions, model).equal(
        numbers(model.predict(folder, precision="bfloat16", batch_size=4), model)
    )
    model(torch.rand(1, 3, *SIZE)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.zero_grad(set_to_none=True)


def test_the_optimized_copy_is_kept_until_the_weights_change(model: GeoModel) -> None:
    own = copy.deepcopy(model)
    first = optimize_model(own, "float32")
    assert optimize_model(own, "float32") is first
    assert optimize_model(own, "bfloat16") is not first
    first = optimize_model(own, "float32")
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
    own(torch.rand(2, 3, *SIZE)).sum().backward()
    optimizer.step()
    assert optimize_model(own, "float32") is not first
    first = optimize_model(own, "float32")
    own.load_state_dict(model.state_dict())
    assert optimize_model(own, "float32") is not first
    photos = torch.rand(3, 3, *SIZE)
    torch.testing.assert_close(
        numbers(own.predict(photos, precision="float32"), own),
        numbers(model.predict(photos, precision="float32"), model),
    )


TIMM = [
    "cloud-tiny",
    "cloud-test_efficientnet",
    "cloud-test_convnext",
    "cloud-test_vit",
    "cloud-test_nfnet",
    "cloud-test_byobnet",
    "cloud-test_mambaout",
    "cloud-mobilenetv3_small_050",
]


@pytest.mark.parametrize(
    ("name", "arch"), [*((name, {}) for name in TIMM), ("cloud-test_efficientnet", {"pad_type": "same"})]
)
def test_the_optimized_copy_predicts_like_the_model(name: str, arch: dict[str, str]) -> None:
    spec = find_model(name)
    size = None if "vit" in name else SIZE
    model = randomized(build_model(spec, find_task("cloud"), ModelConfig(model_args=arch, size=size)))
    photos = torch.rand(2, 3, *(model.inputs[0].size or SIZE))
    values, features = OptimizedModel(model, torch.float32)({"image": photos}, {})
    with torch.no_grad():
        torch.testing.assert_close(
            values, model(photos), rtol=1e-3, atol=1e-3 * float(model(photos).abs().max())
        )
        assert features.shape == model.features(photos).shape


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_normalization_and_activation_are_fused_into_convolutions() -> None:
    network = OptimizedModel(
        randomized(geovision.create("cloud-mobilenetv2_100", size=SIZE)), torch.float32
    ).network
    fused = [module for module in network.modules() if isinstance(module, ConvActivation)]
    assert sum(module.name == "hardtanh" for module in fused) == 35
    assert len(fused) == 52
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


class Shared(nn.Module):
    """A convolution with two consumers, and an activation that is used twice."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.again = nn.Conv2d(8, 8, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, inputs, *, valid=None, context=None):
        x = self.first(inputs["image"])
        x = x + self.norm(x)
        return self.act(self.again(self.act(x)) - 0.1).mean((2, 3))


def test_layers_are_fused_only_where_one_follows_the_other(model: GeoModel) -> None:
    odd = copy.deepcopy(model)
    odd.network = Shared()
    odd.head = type(model.head)(8, model.target)
    randomized(odd)
    photos = torch.rand(2, 3, *SIZE)
    values, _ = OptimizedModel(odd, torch.float32)({"image": photos}, {})
    with torch.no_grad():
        torch.testing.assert_close(values, odd(photos), rtol=1e-4, atol=1e-4)


# --- streams ------------------------------------------------------------------------------------


def test_a_stream_is_predicted_while_it_is_read(model: GeoModel) -> None:
    taken = 0

    def endless() -> Iterator[torch.Tensor]:
        nonlocal taken
        while True:
            taken += 1
            yield torch.full((3, *SIZE), (taken % 100) / 100)

    predictions = iter_predict(model, endless(), batch_size=2)
    first = list(itertools.islice(predictions, 7))
    assert [prediction.source for prediction in first] == [f"[{index}]" for index in range(7)]
    # A few batches per thread are read ahead, not the whole stream.
    assert taken <= 7 + 2 * 2 * (torch.get_num_threads() + 2)
    predictions.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("predict")]


def test_the_first_error_is_raised_in_order(model: GeoModel) -> None:
    photos = [torch.rand(3, *SIZE) for _ in range(9)]
    photos[6] = torch.full((3, *SIZE), 9.0)
    seen = []
    with pytest.raises(InputError, match=r"\[6\]: channel 'red': values from 9 to 9, expected 0 to 1"):
        seen.extend(prediction.source for prediction in iter_predict(model, iter(photos), batch_size=2))
    assert len(model.predict(photos[:6])) == 6


def test_errors_can_be_skipped(model: GeoModel, folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not a picture")
    given = [folder / "0.jpg", bad, tmp_path / "missing.jpg", np.full((3, 9, 9), np.nan), folder / "1.png"]
    predictions = model.predict(given, skip_errors=True, batch_size=2)
    assert [prediction.flags for prediction in predictions] == [(), *[("unreadable",)] * 3, ()]
    assert predictions[1].source == str(bad)
    assert predictions[1].error == (f"{bad}: not an image in a format of Pillow; convert or remove it")
    assert predictions[2].source == str(tmp_path / "missing.jpg")
    assert "no such file" in predictions[2].error
    assert "NaN" in predictions[3].error
    assert predictions[1].label == ""
    assert predictions[4].label in model.target.classes
    with pytest.raises(UnreadableFileError, match=r"bad\.jpg: not an image"):
        model.predict(given)


# --- options ------------------------------------------------------------------------------------


def test_unknown_options_are_refused(model: GeoModel) -> None:
    with pytest.raises(
        OptionError, match="precision='half' is unknown; choose one of auto, float32, bfloat16, int8"
    ):
        model.predict([], precision="half")
    with pytest.raises(OptionError, match="batch_size=0: expected 1 or more"):
        model.predict([], batch_size=0)


def test_a_model_without_a_reader_reports_that_it_takes_arrays(model: GeoModel, folder: Path) -> None:
    specs = (dataclasses.replace(model.inputs[0], reader=""),)
    (source,) = iter_input_items(str(folder / "0.jpg"), specs)
    with pytest.raises(InputError, match=r"0\.jpg: input 'image' is not read from files; pass arrays"):
        source.load(specs)


def test_grids_of_several_sizes_are_predicted_in_order(model: GeoModel) -> None:
    spec: ModelSpec = model.spec
    free = copy.deepcopy(model)
    free.inputs = (model.inputs[0].with_size(None),)
    assert "any_size" in spec.capabilities
    photos = [torch.rand(3, side, 40) for side in (40, 56, 40, 64, 56)]
    predictions = numbers(free.predict(photos, precision="float32", batch_size=5), free)
    with torch.no_grad():
        alone = torch.cat([free.head.probabilities(free(photo[None])) for photo in photos])
    torch.testing.assert_close(predictions, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.real_data
@pytest.mark.skipif(not has_fast_bfloat16(), reason="this processor does not compute in bfloat16")
def test_bfloat16_is_chosen_only_where_predictions_agree(shared_data: Path) -> None:
    # The features of photos differ little compared with their common part.
    weights = shared_data / "imagenet" / "mobilenetv2_100.safetensors"
    delicate = geovision.create("cloud-mobilenetv2_100", backbone_weights=weights)
    assert optimize_model(delicate, "auto").dtype == torch.float32
    robust = geovision.create("cloud-resnet18")
    assert optimize_model(robust, "auto").dtype == torch.bfloat16
    photos = sky(shared_data, robust)
    exact, quick = (optimize_model(robust, each)(photos, {})[0] for each in ("float32", "auto"))
    assert (quick - exact).norm() < 0.02 * (exact - exact.mean(0)).norm()


def test_a_batch_is_processed_in_chunks() -> None:
    """For any number of samples, the results are those of the whole batch, in its order."""
    model = randomized(geovision.create("cloud-tiny", size=SIZE).eval())
    optimized = OptimizedModel(model, torch.float32)
    photos = {"image": torch.rand(7, 3, *SIZE)}
    optimized.chunk_size = None
    whole = optimized(photos, {})
    for part in (1, 2, 7, 50):
        optimized.chunk_size = part
        for found, expected in zip(optimized(photos, {}), whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_larger_images_are_processed_in_smaller_chunks() -> None:
    few, many = (
        OptimizedModel(geovision.create("cloud-tiny", size=(side, side)).eval(), torch.float32).chunk_size
        for side in (512, 128)
    )
    assert few is not None
    assert many is not None
    assert 1 <= few < many


@pytest.mark.parametrize(
    ("tiles", "vectors", "gain", "taken"),
    [
        (True, True, 0.1, True),
        (False, True, 0.6, False),
        (False, True, 2.0, True),
        (False, False, 9.0, False),
    ],
)
def test_an_instruction_without_speedup_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tiles: bool, vectors: bool, gain: float, taken: bool
) -> None:
    """Tiles are faster on every processor that has them; vector instructions only on some."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    monkeypatch.setattr(_cpu_features, "_bfloat16_speedup", lambda: gain)
    assert has_fast_bfloat16.__wrapped__() is taken


def test_the_speedup_of_bfloat16_is_measured_with_one_thread() -> None:
    threads = torch.get_num_threads()
    gain = _cpu_features._bfloat16_speedup()
    assert 0 < gain < math.inf
    assert torch.get_num_threads() == threads


def sky(shared_data: Path, model: GeoModel) -> dict[str, torch.Tensor]:
    paths = expand(shared_data / "cloud_photos")
    counts = np.stack([read_rgb(path, model.inputs[0], model.inputs[0].size) for path in paths])
    return {"image": torch.from_numpy(counts)}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (32, 33), (7, 10)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 1), (1, 2, 1), (3, 2, 2)]
)
def test_asymmetric_padding_is_done_by_the_kernel(
    shape: tuple, kernel: int, stride: int, dilation: int
) -> None:
    torch.manual_seed(0)
    plain = Conv2dSame(6, 6, kernel, stride, dilation=dilation, groups=3)
    fused = ConvActivation(plain, nn.ReLU6())
    x = torch.randn(2, 6, *shape)
    with torch.no_grad():
        expected = F.relu6(plain(x))
        torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
        fused.pack()
        torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
