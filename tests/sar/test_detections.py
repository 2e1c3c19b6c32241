"""Detections are the peaks of a map of probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from geovision.sar.detections import find_peaks


def peak(rows: float, columns: float, radius: float, height: float) -> np.ndarray:
    r, c = np.mgrid[:60, :80] + 0.5
    return height * np.exp(-(((r - rows) / radius) ** 2) - ((c - columns) / radius) ** 2)


def test_each_peak_is_one_detection_at_its_center():
    probability = np.maximum(peak(20.3, 15.8, 6, 0.95), peak(41.0, 60.2, 4, 0.7))
    probability[:5] = np.nan
    found = find_peaks(probability, threshold=0.4, separation=10)
    assert [place[3] for place in found] == pytest.approx([0.95, 0.7], abs=0.02)
    for place, truth in zip(found, ((20.3, 15.8), (41.0, 60.2)), strict=True):
        assert place[:2] == pytest.approx(truth, abs=0.15)
    # exp(-r^2 / 36) * 0.95 = 0.4
    assert found[0][2] == pytest.approx(6 * np.sqrt(np.log(0.95 / 0.4)), rel=0.05)


def test_a_plateau_is_one_detection_at_its_center():
    probability = np.zeros((60, 80))
    probability[10:30, 20:44] = 1.0
    ((row, column, radius, height),) = find_peaks(probability, threshold=0.5, separation=30)
    assert (row, column, height) == pytest.approx((20.0, 32.0, 1.0))
    assert radius == pytest.approx(np.sqrt(20 * 24 / np.pi))


def test_detections_are_at_least_the_separation_apart():
    probability = peak(30, 30, 5, 0.9) + peak(30, 42, 5, 0.8)
    assert len(find_peaks(probability, threshold=0.5, separation=6)) == 2
    # Their smoothed sum is highest between them, where neither reaches the threshold.
    ((_, column, _, height),) = find_peaks(probability, threshold=0.5, separation=30)
    assert 34 < column < 39
    assert height == pytest.approx(0.9, abs=0.02)


def test_no_detection_below_the_threshold():
    assert find_peaks(np.full((5, 5), 0.4), threshold=0.5, separation=3) == []
    assert find_peaks(np.full((5, 5), np.nan), threshold=0.5, separation=3) == []
