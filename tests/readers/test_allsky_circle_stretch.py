"""The circle of the sky in frames, and counts as brightness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.allsky import frame

from geovision.errors import InputError, OptionError
from geovision.readers.allsky import (
    MIN_FRAMES,
    Circle,
    Frame,
    Stretch,
    circle_mask,
    estimate_stretch,
    find_circle,
    frames,
    to_rgb,
)

# --- the circle ---------------------------------------------------------------------------------


def sky(circle: Circle, shape: tuple[int, int], *, number: int, noise: float, moon: bool, seed: int = 0):
    """Frames of a vignetted sky over dark counts, with noise, a bright moon, trees and a hot pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(x - circle.x, y - circle.y)
    share = np.clip(circle.radius - distance + 0.5, 0, 1)
    light = 2500 * (1 - 0.6 * (distance / circle.radius) ** 2) * share
    if moon:
        glare = np.hypot(x - circle.x - 0.6 * circle.radius, y - circle.y + 0.3 * circle.radius)
        light += 50_000 * np.exp(-((glare / 6) ** 2)) + 3000 * np.exp(-((glare / 40) ** 2)) * share
        trees = (y > circle.y + 0.9 * circle.radius) & (x % 7 < 3)
        light[trees] = 0
    for _ in range(number):
        counts = 3500 + light + rng.normal(0, noise, shape)
        counts[5, shape[1] // 2] = 65535
        yield np.clip(counts, 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("moon", [False, True])
@pytest.mark.parametrize(
    ("circle", "shape"),
    [
        (Circle(128, 128, 120), (256, 256)),
        (Circle(120.4, 133.7, 118.2), (256, 256)),
        (Circle(128, 128, 136), (256, 256)),  # cut off by the sensor on four sides
        (Circle(250, 190, 150), (400, 640)),
        (Circle(40, 44, 30), (96, 96)),
    ],
)
def test_generated_disks_are_found(circle: Circle, shape: tuple[int, int], moon: bool) -> None:
    found = find_circle(sky(circle, shape, number=20, noise=150, moon=moon))
    error = np.hypot(found.x - circle.x, found.y - circle.y)
    assert error < 2
    assert abs(found.radius - circle.radius) < 2


def test_dark_counts_of_zero_are_accepted() -> None:
    counts = circle_mask((200, 200), Circle(100, 90, 80)).astype(np.uint8) * 40
    found = find_circle([np.repeat(counts[..., None], 3, axis=2)])
    assert np.allclose([found.x, found.y, found.radius], [100, 90, 80], atol=1)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (
            np.full((64, 64), 3500, np.uint16),
            "no illuminated disk: corners of 3500 counts, and 0 of 4096 pixels",
        ),
        (np.random.default_rng(0).normal(3500, 20, (64, 64)), "no illuminated disk"),
        (np.tile(np.arange(3000, 3256), (256, 1)), "give the circle"),
        (np.pad(np.full((30, 120), 4000), 60), "the rim is circular in"),
        (np.pad(np.full((80, 80), 4000), 60), "the rim is circular in"),
        (np.zeros((8, 8)), "no frames of at least 32x32 pixels"),
    ],
)
def test_no_circle_is_found_without_a_disk(counts: np.ndarray, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        find_circle([counts])


def test_a_circle_needs_frames_of_one_size() -> None:
    with pytest.raises(InputError, match=r"frames of 64x64 and of 32x32 pixels"):
        find_circle([np.zeros((64, 64)), np.zeros((32, 32))])
    with pytest.raises(InputError, match="no frames"):
        find_circle([])


def test_a_mask_is_y_by_x() -> None:
    mask = circle_mask((40, 60), Circle(45, 10, 5))
    assert mask.shape == (40, 60)
    assert mask.dtype == bool
    assert mask[10, 45]
    assert mask[15, 45]
    assert not mask[16, 45]
    assert not mask[30, 10]
    with pytest.raises(OptionError, match="is not a circle"):
        Circle(1, 1, 0)


# --- the stretch --------------------------------------------------------------------------------


def test_a_stretch_is_declared_and_clips() -> None:
    stretch = Stretch(1000, 5000, gamma=0.5)
    np.testing.assert_allclose(stretch(np.array([0, 1000, 2000, 5000, 65535])), [0, 0, 0.5, 1, 1])
    assert stretch(np.zeros((2, 3), np.uint16)).dtype == np.float32
    for wrong in ((5, 5, 1), (5, 4, 1), (0, float("nan"), 1), (0, 1, 0)):
        with pytest.raises(OptionError):
            Stretch(*wrong)


def test_percentiles_are_over_all_frames() -> None:
    many = [frame(index, (64, 64)) for index in range(MIN_FRAMES)]
    counts = np.stack([one.pixels for one in many])
    stretch = estimate_stretch(many, low=2, high=98, gamma=0.7)
    assert stretch.gamma == 0.7
    np.testing.assert_allclose([stretch.low, stretch.high], np.percentile(counts, [2, 98]), atol=10)
    circle = Circle(30, 20, 10)
    inside = counts[:, circle_mask((64, 64), circle)]
    stretch = estimate_stretch(many, low=2, high=98, circle=circle)
    np.testing.assert_allclose([stretch.low, stretch.high], np.percentile(inside, [2, 98]), atol=200)


def test_one_frame_gives_no_stretch(night: list[Frame]) -> None:
    with pytest.raises(InputError, match="1 different frames; a stretch needs at least 10 frames"):
        estimate_stretch([night[0]] * 50)
    with pytest.raises(InputError, match="0 different frames"):
        estimate_stretch([])


def test_a_stretch_needs_frames_of_one_camera_and_type() -> None:
    many = [frame(index) for index in range(20)]
    with pytest.raises(InputError, match=r"fsmi themis19 uint16 among frames of gill themis19 uint16"):
        estimate_stretch([*many, frame(21, station="fsmi")])
    with pytest.raises(InputError, match=r"uint8 among frames of gill themis19 uint16"):
        estimate_stretch([*many, frame(21, dtype=np.uint8)])
    with pytest.raises(InputError, match="float64 counts"):
        estimate_stretch([replace(many[0], pixels=np.zeros((4, 4)))])
    with pytest.raises(InputError, match="no contrast"):
        estimate_stretch([replace(one, pixels=np.full((4, 4), 9, np.uint16)) for one in many])
    with pytest.raises(OptionError, match="percentiles 99 and 1"):
        estimate_stretch(many, low=99, high=1)


def test_gray_becomes_color_only_if_declared(night: list[Frame]) -> None:
    stretch = Stretch(1000, 60_000, gamma=0.8)
    counts = to_rgb(night[0], stretch, channels="grey")
    assert counts.shape == (3, 24, 32)
    assert counts.dtype == np.uint8
    np.testing.assert_array_equal(counts, [np.rint(stretch(night[0].pixels) * 255)] * 3)
    with pytest.raises(InputError, match='declare channels="grey"'):
        to_rgb(night[0], stretch)
    with pytest.raises(InputError, match="uint16 counts have no full scale; declare a Stretch"):
        to_rgb(night[0], channels="grey")


def test_color_stays_color() -> None:
    color = frame(0, (8, 9, 3), np.uint8)
    np.testing.assert_array_equal(to_rgb(color), color.pixels.transpose(2, 0, 1))
    assert to_rgb(color, Stretch(0, 127))[:, color.pixels.min(axis=2) > 127].min() == 255
    with pytest.raises(InputError, match="in color; remove the declaration"):
        to_rgb(color, channels="grey")


def test_floating_counts_are_stretched_unless_missing() -> None:
    real = replace(frame(0), pixels=np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5))
    assert to_rgb(real, Stretch(0, 1), channels="grey").max() == 255
    real.pixels[0, 0] = np.nan
    with pytest.raises(InputError, match="counts that are not finite"):
        to_rgb(real, Stretch(0, 1), channels="grey")


# --- real frames --------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.real_data
def test_the_circle_of_gillam_is_found_and_steady(gillam: list[Path]) -> None:
    found = [find_circle(frames(path)) for path in gillam]
    for one in found:  # measured by eye in the mean image
        assert np.allclose([one.x, one.y, one.radius], [131, 130, 124], atol=1.5)
