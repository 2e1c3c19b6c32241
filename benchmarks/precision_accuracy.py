"""How models answer with ``precision="int8"`` beside themselves in float32.

    python benchmarks/precision_accuracy.py --data CCSN --others PHOTOS --cross-validation FOLDER
    python benchmarks/precision_accuracy.py --comparison RUNS

The first asks the shipped cloud model what `export_accuracy` asks, the second the models that
`examples/studies/aurora_comparison.py` trained, about the test frames that it generated. Appends rows to
``precision_accuracy.csv`` beside this file. Needs a processor with VNNI.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from export_accuracy import Asked, Photos, arguments, figures, sets
from PIL import Image
from rows import append

import geovision
from geovision.accelerate.optimized import optimize_model
from geovision.datasets.image_classification import ImageDataset
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel
from geovision.provenance import run_provenance


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)  # the other form has the help
    parser.add_argument("--comparison", type=Path)
    runs = parser.parse_known_args()[0].comparison
    for name, asked in trained(runs) if runs else sets(arguments(__doc__ or "")):
        row = {"photos": name, "models": len(asked), **compared(asked), **run_provenance()}
        append(Path(__file__).with_suffix(".csv"), row, show=True)


def trained(runs: Path) -> Iterator[tuple[str, Asked]]:
    """The networks of a comparison, each with the test frames, where 8-bit integers are not refused."""
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


def compared(asked: Asked) -> dict[str, float | int]:
    """Agreement and scores of both, over all models together."""
    truth = [model.target.classes.index(code) for model, photos in asked for _, code in photos if code]
    exactly, roughly = (
        np.concatenate([answers(model, photos, precision) for model, photos in asked])
        for precision in ("float32", "int8")
    )
    return figures(np.array(truth), exactly, roughly)


def answers(model: GeoModel, photos: Photos, precision: str) -> np.ndarray:
    """Index of the likeliest class of each photo, and its outlier score ``(photo, 2)``."""
    given = [Image.open(io.BytesIO(each)) if isinstance(each, bytes) else each for each, _ in photos]
    told = model.predict(given, precision=precision)
    codes = [model.target.classes.index(each.label) for each in told]
    return np.array([codes, [each.outlier_score or np.nan for each in told]], dtype=float).T


if __name__ == "__main__":
    main()
