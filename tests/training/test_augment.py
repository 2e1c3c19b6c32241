"""Random augmentation of a batch: joint transforms, exact values, and mixing of samples."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from geovision.errors import OptionError
from geovision.spec import Augment, Channel, ClassTarget, FieldTarget, InputSpec, MaskTarget
from geovision.training.augment import Augmentation, mix_samples
from geovision.training.data_loading import Batch

GRAY = Channel("grey", "1", (0.0, 1.0))
RAIN = Channel("rain", "mm/h", (0.0, 400.0))
IMAGE = InputSpec("image", (GRAY, GRAY, GRAY))
GRID = InputSpec("grid", (RAIN,), layout="time channel y x")
CLASS = ClassTarget(("a", "b"))


def batch(inputs, *, target=None, valid=None) -> Batch:
    count = len(next(iter(inputs.values())))
    target = torch.zeros(count, dtype=torch.long) if target is None else target
    return Batch(inputs, valid or {}, target, torch.arange(count))


def ramp(count: int, height: int = 24, width: int = 32) -> torch.Tensor:
    """Return images with the channels height, width and their mean, 0-1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([y, x, (x + y) / 2]).expand(count, -1, -1, -1).contiguous()


def test_the_default_changes_nothing():
    before = batch({"image": ramp(3)})
    assert Augmentation(Augment(), [IMAGE], CLASS)(before).inputs["image"] is before.inputs["image"]


@pytest.mark.parametrize(
    "augment",
    [
        Augment(flip_x=True, flip_y=True),
        Augment(crop_area=(0.3, 0.9), aspect=1.3, flip_x=True, rotate=20),
    ],
)
def test_inputs_and_target_move_together(augment):
    torch.manual_seed(1)
    field = ramp(8)
    target = FieldTarget(RAIN)
    move = Augmentation(augment, [IMAGE, GRID], target)
    moved = move(batch({"image": field, "grid": field[:, None].repeat(1, 5, 1, 1, 1)}, target=field[:, :1]))
    assert not torch.allclose(moved.inputs["image"], field)
    assert torch.allclose(moved.inputs["grid"][:, 3], moved.inputs["image"], atol=1e-6)
    assert torch.allclose(moved.target, moved.inputs["image"][:, :1], atol=1e-6)
    # Each sample has its own parameters.
    assert not torch.allclose(moved.inputs["image"][0], moved.inputs["image"][1], atol=0.02)


def test_masks_stay_binary_and_move_with_the_image():
    torch.manual_seed(0)
    field = ramp(4)
    target = (field[:, :1] > 0.5).float()
    move = Augmentation(Augment(crop_area=(0.5, 0.8), rotate=15), [IMAGE], MaskTarget("low"))
    moved = move(batch({"image": field}, target=target))
    assert set(moved.target.unique().tolist()) == {0.0, 1.0}
    sharp = (moved.inputs["image"][:, :1] - 0.5).abs() > 0.05
    assert torch.equal(moved.target[sharp] > 0.5, moved.inputs["image"][:, :1][sharp] > 0.5)


def test_flips_are_exact_and_half_of_the_samples():
    torch.manual_seed(0)
    field = ramp(200)
    moved = Augmentation(Augment(flip_x=True), [IMAGE], CLASS)(batch({"image": field})).inputs["image"]
    flipped = (moved == field.flip(-1)).all(dim=(1, 2, 3))
    assert torch.equal(moved[~flipped], field[~flipped])
    assert 70 < int(flipped.sum()) < 130


def test_a_crop_has_its_share_of_the_area():
    torch.manual_seed(0)
    augment = Augment(crop_area=(0.25, 0.25))
    moved = Augmentation(augment, [IMAGE], CLASS)(batch({"image": ramp(50, 64, 64)})).inputs["image"]
    for channel in (0, 1):
        extent = moved[:, channel].amax((1, 2)) - moved[:, channel].amin((1, 2))
        assert torch.allclose(extent, torch.full((50,), 0.5), atol=0.03)
    assert moved[:, 0].mean((1, 2)).std() > 0.1  # from all parts of the image


def test_an_unscaled_crop_is_an_exact_window():
    """Noise is unchanged; a shift by half a pixel would halve its variance."""
    torch.manual_seed(0)
    noise = torch.rand(40, 3, 64, 64)
    augment = Augment(crop_area=(0.5625, 0.5625), flip_x=True)
    moved = Augmentation(augment, [IMAGE], CLASS, size=(48, 48))(batch({"image": noise})).inputs["image"]
    windows = noise.unfold(2, 48, 1).unfold(3, 48, 1)
    places = set()
    for sample, own in zip(moved, windows, strict=True):
        wholes = [own, own.flip(-1)]
        differences = torch.stack([(w - sample[:, None, None]).abs().amax((0, 3, 4)) for w in wholes])
        assert float(differences.min()) < 1e-3
        places.add(int(differences.argmin()))
    assert len(places) > 30
    firsts = torch.tensor([place % 289 // 17 for place in places])
    assert int(firsts.min()) <= 1
    assert int(firsts.max()) >= 15


def test_rotation_respects_the_aspect_ratio():
    """Round shapes stay round on a grid that is not square."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")
    bump = torch.exp(-(x**2 + y**2) / 30).expand(6, 3, -1, -1).contiguous()
    moved = Augmentation(Augment(rotate=45), [IMAGE], CLASS)(batch({"image": bump})).inputs["image"]
    assert float((moved - bump).abs().max()) < 0.05
    lopsided = bump * (x > 0)
    moved = Augmentation(Augment(rotate=45), [IMAGE], CLASS)(batch({"image": lopsided})).inputs["image"]
    assert float((moved - lopsided).abs().max()) > 0.5


def test_images_have_the_requested_size():
    for augment in (Augment(), Augment(crop_area=(0.5, 1.0))):
        move = Augmentation(augment, [IMAGE], CLASS, size=(16, 20))
        assert move(batch({"image": ramp(2)})).inputs["image"].shape == (2, 3, 16, 20)


def test_colors_change_per_sample_and_stay_in_range():
    torch.manual_seed(0)
    field = ramp(20)
    augment = Augment(brightness=0.5, contrast=0.5, saturation=0.5)
    moved = Augmentation(augment, [IMAGE], CLASS)(batch({"image": field})).inputs["image"]
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert len({round(float(v), 4) for v in moved.mean((1, 2, 3))}) == 20
    with pytest.raises(OptionError, match="colors"):
        Augmentation(augment, [GRID], CLASS)


def test_brightness_is_a_factor_within_its_bounds():
    torch.manual_seed(0)
    flat = torch.full((500, 3, 2, 2), 0.5)
    moved = Augmentation(Augment(brightness=0.2), [IMAGE], CLASS)(batch({"image": flat})).inputs["image"]
    factor = moved[:, 0, 0, 0] / 0.5
    assert 0.8 <= float(factor.min()) < 0.82
    assert 1.18 < float(factor.max()) <= 1.2


def test_missing_cells_do_not_spread():
    """Neighbors are unchanged for any value of a missing cell."""
    torch.manual_seed(0)
    field = torch.full((4, 3, 32, 32), 0.25)
    present = torch.ones_like(field, dtype=torch.bool)
    present[..., 10:20, 5:25] = False
    field[~present] = float("nan")
    augment = Augment(crop_area=(0.5, 0.9), rotate=10, flip_x=True)
    moved = Augmentation(augment, [IMAGE], CLASS)(batch({"image": field}, valid={"image": present}))
    mask = moved.valid["image"]
    assert 0 < int((~mask).sum()) < mask.numel()
    assert torch.allclose(moved.inputs["image"][mask], torch.tensor(0.25))


def middle_of(image: torch.Tensor) -> tuple[float, float]:
    """Return (row, column) of the center of the bright pixels."""
    y, x = torch.meshgrid(*(torch.arange(side).float() for side in image.shape[-2:]), indexing="ij")
    total = image.sum()
    return float((y * image).sum() / total), float((x * image).sum() / total)


def spot(count: int, side: int = 80) -> torch.Tensor:
    """Return dark images with a round spot in the center."""
    y, x = torch.meshgrid(*[torch.arange(side) - (side - 1) / 2] * 2, indexing="ij")
    return torch.exp(-(x**2 + y**2) / 18).expand(count, 3, -1, -1).contiguous()


def test_a_crop_is_shifted_from_the_center_by_its_fraction_of_the_image():
    torch.manual_seed(0)
    augment = Augment(crop_area=(0.36, 0.36), translate=0.1)
    move = Augmentation(augment, [IMAGE], CLASS, size=(48, 48))
    moved = move(batch({"image": spot(200)})).inputs["image"][:, 0]
    shifts = torch.tensor([middle_of(each) for each in moved]) - 23.5
    assert float(shifts.abs().max()) <= 8.01  # a tenth of 80 pixels, at the scale of the image
    assert float(shifts.abs().max()) > 7.5
    assert float(shifts.mean(0).abs().max()) < 1.0


def test_a_zoom_stays_within_its_bounds_and_keeps_the_shape():
    torch.manual_seed(0)
    augment = Augment(crop_area=(0.36, 0.36), translate=0.0, zoom=0.15)
    move = Augmentation(augment, [IMAGE], CLASS, size=(48, 48))
    moved = move(batch({"image": spot(300)})).inputs["image"][:, 0]
    # The area of a spot is proportional to the square of the scale.
    scale = (moved.sum((1, 2)) / spot(1)[0, 0].sum()).sqrt()
    assert 1 / 1.16 < float(scale.min()) < 1 / 1.14
    assert 1 / 0.86 < float(scale.max()) < 1 / 0.84
    assert float((moved - moved.transpose(1, 2)).abs().max()) < 1e-4


def test_pixels_outside_of_the_image_are_zero_or_mirrored():
    torch.manual_seed(0)
    white = {"image": torch.full((40, 3, 32, 32), 0.75)}
    turned = {"rotate": 45.0, "translate": 0.1, "zoom": 0.1}
    mirrored = Augmentation(Augment(**turned), [IMAGE], CLASS)(batch(white)).inputs["image"]
    torch.testing.assert_close(mirrored, white["image"])
    filled = Augmentation(Augment(**turned, fill="zero"), [IMAGE], CLASS)(batch(white)).inputs["image"]
    assert float(filled.min()) == 0
    assert float(filled[:, :, 14:18, 14:18].min()) == pytest.approx(0.75)
    assert 0.02 < float((filled == 0).float().mean()) < 0.3


def test_filled_pixels_are_missing_where_there_are_masks():
    torch.manual_seed(0)
    image = {"image": torch.full((20, 3, 32, 32), 0.75)}
    present = {"image": torch.ones(20, 3, 32, 32, dtype=torch.bool)}
    augment = Augment(rotate=45.0, fill="zero")
    moved = Augmentation(augment, [IMAGE], CLASS)(batch(image, valid=present))
    mask = moved.valid["image"]
    assert 0.01 < float((~mask).float().mean()) < 0.3
    torch.testing.assert_close(
        moved.inputs["image"][mask], torch.full_like(moved.inputs["image"][mask], 0.75)
    )


# --- mixing -------------------------------------------------------------------------------------


def halves(count: int = 8) -> Batch:
    """Return alternating white images of one class and black ones of another."""
    labels = torch.arange(count) % 2
    image = labels.view(-1, 1, 1, 1).float().expand(count, 1, 64, 64)
    target = torch.nn.functional.one_hot(labels, 2).float()
    return batch({"image": image, "scalars": labels.view(-1, 1).float()}, target=target)


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_target_and_image_are_mixed_by_one_share(method):
    torch.manual_seed(0)
    shares = []
    for _ in range(20):
        mixed = mix_samples(halves(), dataclasses.replace(Augment(), **{method: 1.0}))
        assert torch.allclose(mixed.target.sum(1), torch.ones(8))
        white = mixed.inputs["image"].mean((1, 2, 3))
        assert torch.allclose(mixed.target[:, 1], white, atol=1e-5)
        shares.append(float(mixed.target[0, 0]))
        sharp = bool(((mixed.inputs["image"] == 0) | (mixed.inputs["image"] == 1)).all())
        assert sharp == (method == "cutmix")
    assert min(shares) < 0.3
    assert max(shares) > 0.7


def test_scalars_are_mixed_like_the_labels():
    torch.manual_seed(0)
    mixed = mix_samples(halves(), Augment(mixup=1.0))
    assert torch.allclose(mixed.inputs["scalars"][:, 0], mixed.target[:, 1], atol=1e-6)


def test_a_mixture_with_a_missing_label_has_no_label():
    torch.manual_seed(0)
    known = torch.tensor([True, True, False, True])
    mixed = mix_samples(halves(4)._replace(valid={"target": known}), Augment(mixup=1.0))
    assert mixed.valid["target"].tolist() == [True, True, False, False]


def test_the_requested_share_of_batches_is_mixed():
    torch.manual_seed(0)
    plain = halves()
    mixed = sum(mix_samples(plain, Augment(mixup=1.0, mix_probability=0.3)) is not plain for _ in range(200))
    assert 40 < mixed < 80
    assert mix_samples(plain, Augment()) is plain
