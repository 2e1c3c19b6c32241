"""How a model in 8 bits answers beside the same in 32: on photos that it was trained on, on photos of other
makers, and on photos of CCSN that it did not see.

    python benchmarks/export_accuracy.py --data CCSN --others PHOTOS --cross-validation FOLDER

Both are exported files. CCSN's photos are those that the shipped weights were trained on, so their scores
are no measure of that model; what counts is the difference. Others are labelled photos in one folder, called
like ``Ac_anything.jpg``. FOLDER holds the folds of `examples/cloud_shipped_weights.py`, the finished ones of
which are each asked about the photos that they did not see, and scored together.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rows import append
from sklearn.metrics import f1_score

import geovision
from geovision.datasets.ccsn import CCSN
from geovision.evaluation import Predictions
from geovision.export import calibration_inputs, export
from geovision.models.geomodel import GeoModel
from geovision.provenance import origin
from geovision.runtime import Model

Photos = Sequence[tuple[Path, str]]
"""Files, and the code of each one's class."""

Asked = Sequence[tuple[GeoModel, Photos]]
"""Models, and the photos that each is asked about."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CCSN")
    parser.add_argument("--others", type=Path, help="labelled photos in one folder")
    parser.add_argument("--cross-validation", type=Path, metavar="FOLDER", help="of trained folds")
    parser.add_argument("--every", type=int, default=1, help="each n-th photo of CCSN alone")
    parser.add_argument("--model", default="cloud-mobilenetv2")
    options = parser.parse_args()
    for name, asked in sets(options):
        for calibration, source in (("generated", None), ("128 of CCSN", str(options.data))):
            row = {"calibration": calibration, "photos": name, **compared(asked, source), **origin()}
            append(Path(__file__).with_suffix(".csv"), row, show=True)


def sets(options: argparse.Namespace) -> Iterator[tuple[str, Asked]]:
    """What the photos are to the models that are asked about them."""
    shipped = geovision.create(options.model, pretrained=True)
    data = geovision.load_dataset("ccsn", options.data)
    assert isinstance(data, CCSN)
    known = [(path, path.parent.name) for path in data.paths]
    yield "trained on", [(shipped, known[:: options.every])]
    if options.others:
        found = [(path, path.name.partition("_")[0]) for path in sorted(options.others.glob("*_*.jpg"))]
        yield "of other makers", [(shipped, [each for each in found if each[1] in shipped.target.classes])]
    if options.cross_validation:
        yield "out of fold", [
            (geovision.load(answers.parent / "training" / "model"),
             [known[place] for place in held_out(answers)[:: options.every]])
            for answers in sorted(options.cross_validation.glob("fold-*/predictions.npz"))
        ]  # fmt: skip


def held_out(answers: Path) -> list[int]:
    """Which of the photos a fold did not see."""
    positions = Predictions.load(answers).positions
    assert positions is not None
    return positions.tolist()


def compared(asked: Asked, source: str | None) -> dict[str, float | int]:
    """Sizes, agreement, and scores of both files, over all models together."""
    said: list[list[np.ndarray]] = [[], [], []]
    sizes = []
    for model, photos in asked:
        with tempfile.TemporaryDirectory() as temporary:
            exact = export(model, Path(temporary) / "exact.onnx")
            small = export(
                model, Path(temporary) / "small.onnx", calibration=calibration_inputs(model, source)
            )
            sizes.append(small.stat().st_size / exact.stat().st_size)
            said[0].append(np.array([model.target.classes.index(code) for _, code in photos]))
            said[1].append(answers(exact, photos))
            said[2].append(answers(small, photos))
    truth, exactly, roughly = (np.concatenate(each) for each in said)
    f1 = [float(f1_score(truth, each, average="macro")) for each in (exactly, roughly)]
    figures = {
        "size_ratio": np.mean(sizes), "agreement": (exactly == roughly).mean(),
        "macro_f1_float32": f1[0], "macro_f1_int8": f1[1], "macro_f1_lost": f1[0] - f1[1],
        "top1_float32": (exactly == truth).mean(), "top1_int8": (roughly == truth).mean(),
    }  # fmt: skip
    return {"models": len(asked), "count": len(truth)} | {k: round(float(v), 4) for k, v in figures.items()}


def answers(path: Path, photos: Photos) -> np.ndarray:
    """Index of the likeliest class of each photo."""
    model = Model(path)
    return np.concatenate([model.run([model.read(photo)])["logits"].argmax(1) for photo, _ in photos])


if __name__ == "__main__":
    main()
