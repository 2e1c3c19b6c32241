"""Second moments of feature maps, truncated networks, and strided depthwise layers in training."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

import geovision
from geovision.errors import WeightsCorruptError
from geovision.heads.classification import NormalizedHead
from geovision.models.bilinear_pooling import build, second_moments
from geovision.registry import find_task
from geovision.spec import ClassTarget
from geovision.training.depthwise import unstrided_depthwise

PHOTO = find_task("cloud").inputs
ARCH = {"backbone": "test_efficientnet", "moments": 2, "stages": (1, 2), "whole": False, "mirrored": False}


def test_second_moments_of_a_column_worked_by_hand():
    """Two channels over two cells, (1, 3) and (-2, 0): the moments are 5, -1 and 2."""
    maps = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]])
    expected = torch.tensor([5.0, -1.0, 2.0])
    torch.testing.assert_close(second_moments(maps)[0], expected.sign() * (expected.abs() + 1e-3).sqrt())


def test_second_moments_do_not_depend_on_the_position_of_a_texture():
    maps = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(second_moments(maps), second_moments(maps.roll((2, 3), (2, 3))))


def test_layers_after_the_last_stage_are_removed_unless_whole_is_set():
    short, whole = (build(ARCH | {"whole": whole}, inputs=PHOTO, size=None) for whole in (False, True))
    count = {
        n: sum(p.numel() for p in m.backbone.parameters()) for n, m in (("short", short), ("whole", whole))
    }
    assert count["short"] < count["whole"]
    assert whole.num_features == short.num_features + whole.backbone.num_features
    photo = {"image": torch.rand(2, 3, 64, 64)}
    assert short(photo).shape == (2, short.num_features)
    assert whole(photo).shape == (2, whole.num_features)


def test_the_outlier_score_uses_means_and_deviations_alone():
    model = geovision.create("cloud-mobilenetv2", size=(64, 64), scalars=["cloud_base_height"])
    network = model.network.backbone
    seen = network.outlier_features
    assert len(range(network.num_features)[seen]) == 2 * (32 + 96)
    score = model.head.outlier
    features = torch.rand(20, model.network.num_features)
    score.fit(features)
    changed = features.clone()
    changed[:, seen.stop :] = 9.0
    torch.testing.assert_close(score(changed), score(features))
    assert not torch.allclose(score(features.roll(1, dims=1)), score(features))


def test_a_normalized_head_scales_features_to_unit_variance():
    head = NormalizedHead(3, ClassTarget(("a", "b")))
    features = torch.randn(4000, 3) * torch.tensor([0.1, 1.0, 1e3]) + torch.tensor([5.0, 0.0, -1e4])
    head.train()
    head.norm.momentum = None  # the mean over all batches
    head(features)
    head.eval()
    normalized = head.norm(features)
    assert normalized.mean(0).abs().max() < 1e-2
    assert (normalized.std(0) - 1).abs().max() < 1e-2
    torch.testing.assert_close(head(features), head.linear(normalized))


def test_a_mirrored_network_predicts_the_same_for_an_image_and_its_mirror_image():
    torch.manual_seed(0)
    plain = build(ARCH, inputs=PHOTO, size=None).eval()
    mirrored = build(ARCH | {"mirrored": True}, inputs=PHOTO, size=None).eval()
    mirrored.load_state_dict(plain.state_dict())
    photo = torch.rand(3, 3, 64, 64)
    both = (plain({"image": photo}) + plain({"image": photo.flip(-1)})) / 2
    torch.testing.assert_close(mirrored({"image": photo}), both)
    torch.testing.assert_close(mirrored({"image": photo.flip(-1)}), both)
    assert mirrored.train()({"image": photo}).shape == both.shape


def test_weights_of_the_whole_network_fit_the_truncated_one_but_unknown_weights_do_not(tmp_path):
    torch.manual_seed(1)
    donor = timm.create_model("mobilenetv2_100", num_classes=7)
    save_file(donor.state_dict(), tmp_path / "whole.safetensors")
    model = geovision.create("cloud-mobilenetv2", backbone_weights=tmp_path / "whole.safetensors")
    torch.testing.assert_close(
        model.network.backbone.model.blocks[4][1].conv_dw.weight, donor.blocks[4][1].conv_dw.weight
    )
    save_file(donor.state_dict() | {"other.weight": torch.zeros(1)}, tmp_path / "strange.safetensors")
    with pytest.raises(WeightsCorruptError, match=r"other\.weight"):
        geovision.create("cloud-mobilenetv2", backbone_weights=tmp_path / "strange.safetensors")


def test_a_texture_model_predicts_the_same_through_its_optimized_copy():
    torch.manual_seed(0)
    model = geovision.create("cloud-mobilenetv2", size=(96, 96))
    photo = torch.rand(3, 96, 96)
    (prediction,) = model.predict(photo, precision="float32")
    expected = model.head.probabilities(model(photo[None])).max().item()
    assert prediction.confidence == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("padding", ["", "same"])
def test_strided_depthwise_layers_keep_output_and_gradient_without_their_stride(padding):
    network = timm.create_model("mobilenetv2_035", pad_type=padding, num_classes=3).double().eval()
    photo = torch.rand(2, 3, 65, 70, dtype=torch.float64)
    expected = network(photo)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    with unstrided_depthwise(network):
        assert "forward" in vars(network.blocks[1][0].conv_dw)
        found = network(photo)
        found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert "forward" not in vars(network.blocks[1][0].conv_dw)
