"""Information of each source about generated hail that the other sources lack, by trees on simple features.

    python benchmarks/hail_sources.py              # about 3 minutes on one core; rows in hail_sources.csv

Every true cell of 50 dBZ in the last window is one case; the target is whether hail falls from it. The
features of each source are computed at the position of the cell, in the last window and over the windows
before. The feature of the environment is the severe hail index over the warning threshold, with and without
the height of the ground. Days are kept together in six folds. The benchmark was used to tune the generator
before it was frozen; no network is involved.
"""

from __future__ import annotations

import argparse
import csv
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import GroupKFold, cross_val_predict

from geovision.datasets.synthetic import storm
from geovision.physics.hail import columns
from geovision.physics.hail.cells import find_cells
from geovision.readers.hail_samples import LEVELS, HailSample

HEIGHTS = np.array(LEVELS, float)
SIZE, WINDOWS, SEED = (64, 64), 10, 7
MISSING = -99.0
MEAN_FREEZING_LEVEL, MEAN_MINUS20_LEVEL = 4300.0, 7200.0
SETS = (
    ("radar",),
    ("radar", "fy4b"),
    ("radar", "fy4b", "era5"),
    ("radar", "fy4b", "era5", "dem"),
    ("radar", "era5"),
    ("radar", "era5", "dem"),
)


def around(values: NDArray, side: int, most: bool = True) -> NDArray:
    """Return the maximum or minimum within a square."""
    return (maximum_filter if most else minimum_filter)(values, size=side)


def radar_features(sample: HailSample) -> tuple[list[NDArray], NDArray]:
    """Return features of every point, and the log of the severe hail index over the history."""
    volumes = sample.sources["radar"].values
    seen = ~np.isnan(volumes)
    largest = np.maximum(np.where(seen, volumes, -33).max(1), -33)
    aloft = np.maximum(np.where(seen, volumes, -33)[:, 12:].max(1), -33)
    height = np.stack([np.nan_to_num(columns.height_of_maximum(volume, HEIGHTS)) for volume in volumes])
    liquid = partial(columns.vertically_integrated_liquid, levels=HEIGHTS, cap_dbz=None)
    index = partial(
        columns.severe_hail_index,
        levels=HEIGHTS,
        freezing_level=MEAN_FREEZING_LEVEL,
        minus20_level=MEAN_MINUS20_LEVEL,
    )
    vil = np.stack([np.nan_to_num(liquid(volume)) for volume in volumes])
    shi = np.log1p(np.stack([np.nan_to_num(index(volume)) for volume in volumes]))
    strongest = around(shi.max(0), 9)
    lowest = np.where(seen[-1].any(0), HEIGHTS[seen[-1].argmax(0)], 25_000)
    return [
        largest[-1],
        largest[-2],
        around(largest[-1], 5),
        around(largest[-3], 7),
        height[-1],
        around(height[-1] * (largest[-1] >= 45), 7),
        around((height * (largest >= 52)).max(0), 9),
        aloft[-1],
        around(aloft[-4], 9),
        around(aloft.max(0), 9),
        vil[-1],
        around(vil.max(0), 9),
        shi[-1],
        around(shi[-4], 9),
        strongest,
        lowest,
        seen[-1].mean(0),
        seen.any((0, 1)).astype(float),
    ], strongest


def satellite_features(sample: HailSample) -> list[NDArray]:
    """Return satellite features of every point."""
    window = sample.sources["fy4b"].values[:, 3]
    vapour = sample.sources["fy4b"].values[:, 0] - window
    coldest = around(window.min(0), 13, most=False)
    return [
        window[-1],
        around(window[-1], 9, most=False),
        window[-4],
        around(window[-6], 13, most=False),
        coldest,
        window[-1] - coldest,
        vapour[-1],
        around(vapour[-1], 9),
        around(vapour[-4], 13),
        around(vapour.max(0), 13),
    ]


def cases(number: int) -> tuple[dict[str, NDArray], NDArray, NDArray]:
    """Return features of the cells of a sample by source, the hail label, and the oracle's prediction."""
    sample = storm.generate(number, seed=SEED, size=SIZE, windows=WINDOWS)
    real = storm.truth(number, seed=SEED, size=SIZE, windows=WINDOWS)
    column = np.fmax.reduce(real.reflectivity[-1], 0)
    areas = find_cells(column)
    at = [int(np.argmax(np.where(areas == area, column, -99))) for area in range(1, areas.max() + 1)]
    radar, strongest = radar_features(sample)
    air, ground = sample.sources["era5"].values[-1], sample.dem[0]
    freezing = np.where(np.isnan(air[0]), MEAN_FREEZING_LEVEL, air[0])
    over = {
        name: strongest - np.log(columns.warning_threshold(freezing, radar_altitude=base))
        for name, base in (("era5", 0.0), ("dem", ground))
    }
    planes = {
        "radar": radar,
        "fy4b": satellite_features(sample),
        "era5": [*air, over["era5"]],
        "dem": [*sample.dem, over["dem"]],
    }
    features = {
        name: np.nan_to_num(np.stack(several, -1).reshape(-1, len(several))[at], nan=MISSING)
        for name, several in planes.items()
    }
    return features, sample.label.ravel()[at] == 1, sample.extra["oracle"].ravel()[at] == 1


def success(probability: NDArray, truth: NDArray) -> float:
    """Return the largest critical success index over thresholds."""
    tables = ((probability > threshold, truth) for threshold in np.linspace(0.1, 0.7, 25))
    return max(float((hail & seen).sum() / (hail | seen).sum()) for hail, seen in tables)


def row(
    sources: tuple[str, ...], features: dict[str, NDArray], truth: NDArray, number: NDArray
) -> dict[str, str]:
    """Return the scores of a set of sources."""
    given = np.concatenate([features[name] for name in sources], 1)
    probability = np.zeros(len(truth))
    for seed in range(3):
        trees = ExtraTreesClassifier(300, max_features=0.5, min_samples_leaf=3, random_state=seed)
        days = GroupKFold(6)
        probability += (
            cross_val_predict(
                trees, given, truth, groups=number // storm.SAMPLES_PER_DAY, cv=days, method="predict_proba"
            )[:, 1]
            / 3
        )
    ridges = number % 2 == 1
    return {
        "sources": " ".join(sources),
        "cells": str(len(truth)),
        "csi": f"{success(probability, truth):.3f}",
        "csi_plain": f"{success(probability[~ridges], truth[~ridges]):.3f}",
        "csi_complex": f"{success(probability[ridges], truth[ridges]):.3f}",
        "average_precision": f"{average_precision_score(truth, probability):.3f}",
        "log_loss": f"{log_loss(truth, probability):.3f}",
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=480, help="number of generated samples")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"), help="CSV file")
    options = parser.parse_args()
    found = [cases(number) for number in range(options.samples)]
    number = np.repeat(np.arange(options.samples), [len(each[1]) for each in found])
    features = {name: np.concatenate([each[0][name] for each in found]) for name in found[0][0]}
    truth, oracle = (np.concatenate([each[part] for each in found]) for part in (1, 2))
    rows = []
    for sources in SETS:
        rows.append(row(sources, features, truth, number))
        print(rows[-1], flush=True)
    ceiling = {
        "sources": "oracle",
        "cells": str(len(truth)),
        "csi": f"{(truth & oracle).sum() / (truth | oracle).sum():.3f}",
    }
    with options.out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows([*rows, ceiling])


if __name__ == "__main__":
    main()
