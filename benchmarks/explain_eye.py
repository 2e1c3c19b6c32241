"""Localization of attribution maps: share of maxima inside the eye of a generated polar low.

A model is trained on generated images. Then lows of other passes are generated, each with a known eye. For
each low that the model detects, every method computes a map, and the position of its maximum is compared with
the eye.

    python benchmarks/explain_eye.py --train runs/eye      # minutes; saves the model in runs/eye
    python benchmarks/explain_eye.py --model runs/eye

The script prints a table and appends one row per method to ``benchmarks/explain_eye.csv``. The columns are
fractions of the detected lows:

- ``in_eye``: the distance from the maximum to the center of the eye is at most the radius of the eye;
- ``in_eye_or_half_a_cell``: the same with half a cell of the map added, which is the resolution of the map;
- ``in_ring``: the distance is at most 1.5 radii, where the generator has the strongest turning wind;
- ``complete_within_1_percent``: integrated gradients sum to the explained difference within 1 %;
- ``chance``: probability that a random position in the window is in the eye.
"""

from __future__ import annotations

import argparse
import datetime
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rows import append

import geovision
from geovision.attribution import Explanation
from geovision.datasets.polar_lows import PolarLows
from geovision.datasets.synthetic import sar_sea
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit
from geovision.registry import find_task
from geovision.spec import Recipe, Stage

TABLE = Path(__file__).with_suffix(".csv")
RING = 1.5  # radii of the eye, where the wind is strongest
DRAWN_SEED = 2022  # training uses seed 0


@dataclass(frozen=True)
class Way:
    """Attribution method, and the smoothing of its map in cells before the maximum is searched."""

    method: str
    layer: str | None = None
    window: int | None = None
    stride: int | None = None
    orientations: int = 1
    smooth: tuple[float, ...] = (0.0, 1.0)


WAYS = (
    Way("gradcam"),
    Way("gradcam", orientations=8),
    Way("layercam"),
    Way("layercam", "blocks.1.activation_2"),
    Way("layercam", "blocks.1.activation_1"),
    Way("layercam", "blocks.2.activation_1", orientations=8),
    Way("layercam", "blocks.1.activation_2", orientations=8),
    Way("layercam", "blocks.1.activation_1", orientations=8),
    Way("integrated-gradients", smooth=(0.0, 4.0)),
    Way("occlusion", window=16, stride=8, smooth=(0.0,)),
)


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.train:
        train(options).save(options.train)
    if options.model:
        for row in measure(geovision.load(options.model), options.lows):
            print(row)
            append(TABLE, row)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, help="folder to save a newly trained model in")
    parser.add_argument("--model", type=Path, help="folder of the model to measure")
    parser.add_argument("--name", default="polarlow-tiny", help="name of the model in the registry")
    parser.add_argument("--pictures", type=int, default=1600, help="images for training and validation")
    parser.add_argument("--epochs", type=int, default=26, help="training epochs")
    parser.add_argument("--lows", type=int, default=100, help="generated lows to explain")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    return parser.parse_args()


def train(options: argparse.Namespace) -> GeoModel:
    """Train a model on generated images; its record contains the scores on held-back passes."""
    torch.manual_seed(0)
    model = geovision.create(options.name)
    pixel_size = model.inputs[0].pixel_size
    recipe = Recipe(
        stages=(
            Stage(
                epochs=options.epochs,
                batch_size=16,
                sampling="balanced",
                lr=3e-3,
                warmup=1,
                weight_decay=1e-4,
                decay_by="step",
            ),
        ),
        augment=find_task("polarlow").recipe.augment,
        precision="32-true",
    )
    with TemporaryDirectory() as folder:
        began = time.monotonic()
        root = sar_sea.write(Path(folder), options.pictures, seed=0, pixel_size=pixel_size)
        print(f"{options.pictures} images generated in {time.monotonic() - began:.0f} s", flush=True)
        training, held_back = PolarLows(root, pixel_size=pixel_size).group_split(0.25, seed=0)
        geovision.train(model, training, recipe=recipe, progress=False)
        report = geovision.evaluate(model, held_back, n_bootstrap=0)
    model.training_record["held_back"] = {name: each.value for name, each in report.metrics.items()}
    print(f"trained after {time.monotonic() - began:.0f} s: {model.training_record['held_back']}", flush=True)
    return model


def measure(model: GeoModel, count: int) -> Iterator[dict[str, object]]:
    """Yield one row per method and smoothing."""
    found = [scene for scene in lows(count, model.inputs[0].pixel_size) if detects(model, scene)]
    height, width = model.inputs[0].size
    chance = np.mean([math.pi * scene.eye.radius**2 / (height * width) for scene in found])
    for way in WAYS:
        began = time.monotonic()
        maps = [explained(model, scene, way) for scene in found]
        seconds = (time.monotonic() - began) / len(found)
        cell = np.array([(m.window.bottom - m.window.top) / m.first_input.cells.shape[-2] for m in maps])
        radius = np.array([scene.eye.radius for scene in found])
        errors = [m.completeness.relative_error for m in maps if m.completeness]
        for smooth in way.smooth:
            away = np.array([distance(m, s, smooth) for m, s in zip(maps, found, strict=True)])
            yield {
                "date": datetime.date.today().isoformat(),
                "commit": git_commit() or "",
                "model": model.spec.name,
                "steps_trained": model.training_record["steps"],
                "f1_held_back": round(model.training_record["held_back"]["positive_f1"], 3),
                "lows": count,
                "found": len(found),
                "method": way.method,
                "layer": maps[0].config.layer or "",
                "options": f"window={way.window} stride={way.stride}" if way.window else "",
                "orientations": way.orientations,
                "smoothed_cells": smooth,
                "cell_km": round(float(cell.mean()) * model.inputs[0].pixel_size / 1000, 1),
                "in_eye": round(float((away <= radius).mean()), 3),
                "in_eye_or_half_a_cell": round(float((away <= radius + cell / 2).mean()), 3),
                "in_ring": round(float((away <= RING * radius).mean()), 3),
                "chance": round(float(chance), 4),
                "median_radii": round(float(np.median(away / radius)), 2),
                "complete_within_1_percent": round(float(np.mean(np.array(errors) <= 0.01)), 3)
                if errors
                else "",
                "median_incompleteness": round(float(np.median(errors)), 4) if errors else "",
                "seconds_a_picture": round(seconds, 2),
            }


def lows(count: int, pixel_size: float) -> Iterator[sar_sea.SyntheticScene]:
    """Yield images with a low, each of a different pass."""
    for index in range(count):
        over = sar_sea.compose_pass(np.random.default_rng([DRAWN_SEED, 0, index]), index)
        rng = np.random.default_rng([DRAWN_SEED, 1, index])
        yield sar_sea.render("polar-low", over, rng, pixel_size=pixel_size)


def detects(model: GeoModel, scene: sar_sea.SyntheticScene) -> bool:
    """Return whether the model predicts a low."""
    (prediction,) = model.predict(scene.counts, precision="float32")
    return prediction.label == model.target.positive


def explained(model: GeoModel, scene: sar_sea.SyntheticScene, way: Way) -> Explanation:
    """Return the explanation of a scene by a method."""
    return geovision.explain(
        model,
        scene.counts,
        method=way.method,
        target=model.target.positive,
        layer=way.layer,
        window=way.window,
        stride=way.stride,
        orientations=way.orientations,
    )


def distance(found: Explanation, scene: sar_sea.SyntheticScene, smooth: float) -> float:
    """Return the distance from the maximum of the map to the center of the eye, in pixels."""
    # The generator counts from the center of the first pixel, an explanation from its edge.
    eye = np.array([scene.eye.row + 0.5, scene.eye.column + 0.5])
    peak = found.first_input.peak(sigma=smooth)
    return math.inf if peak is None else float(np.hypot(*(np.array(peak) - eye)))


if __name__ == "__main__":
    main()
