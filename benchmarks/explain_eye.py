"""How often the maximum of an explanation lies in the eye of a generated polar low.

A model is trained on generated pictures. Then lows of other passes are drawn, each with a known eye,
and of those that the model finds each method says where its map is largest.

    python benchmarks/explain_eye.py --train runs/eye      # minutes; leaves the model in runs/eye
    python benchmarks/explain_eye.py --model runs/eye

Prints a table and appends a row a method to ``benchmarks/explain_eye.csv``. In it, as shares of the lows
that were found:

- ``in_eye``: from the maximum to the middle of the eye it is no more than the eye's planted radius;
- ``in_eye_or_half_a_cell``: no more than that and half a cell of the map, which cannot tell finer;
- ``in_ring``: no more than 1.5 radii, where the generator has the strongest turning wind;
- ``complete_within_1_percent``: integrated gradients add up that well;
- ``chance``: of a maximum anywhere in the window, in the eye.
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
RING = 1.5  # radii of the eye: the strongest wind
DRAWN_SEED = 2022  # the training's is 0


@dataclass(frozen=True)
class Way:
    """One method, and by how many cells its map is smoothed before its maximum is sought."""

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
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.train:
        train(options).save(options.train)
    if options.model:
        for row in measure(geovision.load(options.model), options.lows):
            print(row)
            append(TABLE, row)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, help="train, and leave the model in this folder")
    parser.add_argument("--model", type=Path, help="measure with the model in this folder")
    parser.add_argument("--name", default="polarlow-tiny")
    parser.add_argument("--pictures", type=int, default=1600, help="to train on and to hold back")
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--lows", type=int, default=100, help="drawn to be explained")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def train(options: argparse.Namespace) -> GeoModel:
    """The named model on generated pictures; its scores on passes held back go into its record."""
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
        print(f"{options.pictures} pictures drawn in {time.monotonic() - began:.0f} s", flush=True)
        training, held_back = PolarLows(root, pixel_size=pixel_size).group_split(0.25, seed=0)
        geovision.train(model, training, recipe=recipe, progress=False)
        report = geovision.evaluate(model, held_back, n_bootstrap=0)
    model.training_record["held_back"] = {name: each.value for name, each in report.metrics.items()}
    print(f"trained after {time.monotonic() - began:.0f} s: {model.training_record['held_back']}", flush=True)
    return model


def measure(model: GeoModel, count: int) -> Iterator[dict[str, object]]:
    """One row a way."""
    found = [scene for scene in lows(count, model.inputs[0].pixel_size) if answers(model, scene)]
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
    """Pictures with a low, each of a pass of its own."""
    for index in range(count):
        over = sar_sea.compose_pass(np.random.default_rng([DRAWN_SEED, 0, index]), index)
        rng = np.random.default_rng([DRAWN_SEED, 1, index])
        yield sar_sea.render("polar-low", over, rng, pixel_size=pixel_size)


def answers(model: GeoModel, scene: sar_sea.SyntheticScene) -> bool:
    (answer,) = model.predict(scene.counts, precision="float32")
    return answer.label == model.target.positive


def explained(model: GeoModel, scene: sar_sea.SyntheticScene, way: Way) -> Explanation:
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
    """From the maximum of the map to the middle of the eye, pixels."""
    # The generator counts from the middle of the first pixel, an explanation from its edge.
    eye = np.array([scene.eye.row + 0.5, scene.eye.column + 0.5])
    peak = found.first_input.peak(sigma=smooth)
    return math.inf if peak is None else float(np.hypot(*(np.array(peak) - eye)))


if __name__ == "__main__":
    main()
