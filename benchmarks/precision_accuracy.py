"""Agreement of models with ``precision="int8"`` with their predictions in float32.

    python benchmarks/precision_accuracy.py --data CCSN --others PHOTOS --cross-validation FOLDER
    python benchmarks/precision_accuracy.py --comparison RUNS

The first command evaluates the shipped cloud model on the photos of `export_accuracy`. The second one
evaluates the models that `examples/studies/aurora_comparison.py` has trained, on the test frames that it
generated. The script appends rows to ``precision_accuracy.csv`` in its folder. It needs a processor with
VNNI.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from export_accuracy import Evaluations, Photos, arguments, figures, sets
from PIL import Image
from rows import append

import geovision
from geovision.accelerate.optimized import optimize_model
from geovision.datasets.image_classification import ImageDataset
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel
from geovision.provenance import run_provenance


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(add_help=False)  # `export_accuracy.arguments` prints the help
    parser.add_argument("--comparison", type=Path)
    runs = parser.parse_known_args()[0].comparison
    for name, evaluations in trained(runs) if runs else sets(arguments(__doc__ or "")):
        scores = compared(evaluations)
        row = {"photos": name, "models": len(evaluations), **scores, **run_provenance()}
        append(Path(__file__).with_suffix(".csv"), row, show=True)


def trained(runs: Path) -> Iterator[tuple[str, Evaluations]]:
    """Yield the networks of a comparison that support int8, each with the test frames."""
    (root,) = runs.glob("generated-*")
    for folder in sorted(runs.glob("*/training/model")):
        model = geovision.load(folder)
        data = geovision.load_dataset("kvammen", root, split="test", size=model.inputs[0].size)
        assert isinstance(data, ImageDataset)
        classes = model.target.classes
        frames = [(path, classes[int(data[n]["target"])]) for n, path in enumerate(data.paths)]
        try:
            optimize_model(model, "int8")
        except OptionError as error:
            print(error, flush=True)
        else:
            yield f"test frames, {folder.parent.parent.name}", [(model, frames)]


def compared(evaluations: Evaluations) -> dict[str, float | int]:
    """Return agreement and scores in both precisions, over all models together."""
    truth = [model.target.classes.index(code) for model, photos in evaluations for _, code in photos if code]
    exactly, roughly = (
        np.concatenate([predicted(model, photos, precision) for model, photos in evaluations])
        for precision in ("float32", "int8")
    )
    return figures(np.array(truth), exactly, roughly)


def predicted(model: GeoModel, photos: Photos, precision: str) -> np.ndarray:
    """Return index of the most probable class and outlier score of each photo, shape (photo, 2)."""
    given = [Image.open(io.BytesIO(each)) if isinstance(each, bytes) else each for each, _ in photos]
    predictions = model.predict(given, precision=precision)
    codes = [model.target.classes.index(each.label) for each in predictions]
    return np.array([codes, [each.outlier_score or np.nan for each in predictions]], dtype=float).T


if __name__ == "__main__":
    main()
