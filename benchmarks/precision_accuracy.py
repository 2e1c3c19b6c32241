"""How a model answers with ``precision="int8"`` beside itself in float32, on what `export_accuracy` asks.

    python benchmarks/precision_accuracy.py --data CCSN --others PHOTOS --cross-validation FOLDER

Appends rows to ``precision_accuracy.csv`` beside this file. Needs a processor with VNNI.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from export_accuracy import Asked, Photos, arguments, figures, sets
from PIL import Image
from rows import append

from geovision.models.geomodel import GeoModel
from geovision.provenance import origin


def main() -> None:
    for name, asked in sets(arguments(__doc__ or "")):
        row = {"photos": name, "models": len(asked), **compared(asked), **origin()}
        append(Path(__file__).with_suffix(".csv"), row, show=True)


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
    return np.array([(model.target.classes.index(each.label), each.outlier_score) for each in told])


if __name__ == "__main__":
    main()
