"""How a model in 8 bits answers beside the same in 32: on photos that it was trained on, on photos of other
makers, on photos of CCSN that it did not see, and on pictures that are no skies.

    python benchmarks/export_accuracy.py --data CCSN --others PHOTOS --cross-validation FOLDER --strange DATA

Both are exported files. CCSN's photos are those that the shipped weights were trained on, so their scores
are no measure of that model; what counts is the difference. Others are labelled photos in one folder,
called like ``Ac_anything.jpg``. FOLDER holds the folds of `examples/studies/cloud_shipped_weights.py`, the
finished ones of which are each asked about the photos that they did not see, and scored together. Pictures
that are no skies are those that `not_skies` makes of the folder of all data sets: they have no class, and
what counts is if the outlier score notices.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import not_skies
import numpy as np
from PIL import Image
from rows import append
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

import geovision
from geovision.datasets.ccsn import CCSN
from geovision.evaluation import Predictions
from geovision.export import calibration_inputs, export_onnx
from geovision.models.geomodel import GeoModel
from geovision.onnx_runtime import OnnxModel
from geovision.provenance import run_provenance

Photos = Sequence[tuple[Path | bytes, str]]
"""Files or their content, and the code of each one's class; empty where it has none."""

Asked = Sequence[tuple[GeoModel, Photos]]
"""Models, and the photos that each is asked about."""


def main() -> None:
    options = arguments(__doc__ or "")
    for name, asked in sets(options):
        for calibration, source in (("generated", None), ("128 of CCSN", str(options.data))):
            row = {"calibration": calibration, "photos": name, **compared(asked, source), **run_provenance()}
            append(Path(__file__).with_suffix(".csv"), row, show=True)


def arguments(told: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CCSN")
    parser.add_argument("--others", type=Path, help="labelled photos in one folder")
    parser.add_argument("--cross-validation", type=Path, metavar="FOLDER", help="of trained folds")
    parser.add_argument("--strange", type=Path, metavar="FOLDER", help="the folder of all data sets")
    parser.add_argument("--every", type=int, default=1, help="each n-th photo of CCSN alone")
    parser.add_argument("--model", default="cloud-mobilenetv2")
    return parser.parse_args()


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
        yield (
            "out of fold",
            [
                (
                    geovision.load(answers.parent / "training" / "model"),
                    [known[place] for place in held_out(answers)[:: options.every]],
                )
                for answers in sorted(options.cross_validation.glob("fold-*/predictions.npz"))
            ],
        )
    if options.strange:
        found = [each for kind in not_skies.pictures(options.strange).values() for each in kind]
        yield "no skies", [(shipped, [(_png(values), "") for _, values in found])]


def _png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "png")
    return stream.getvalue()


def held_out(answers: Path) -> list[int]:
    """Which of the photos a fold did not see."""
    positions = Predictions.load(answers).positions
    assert positions is not None
    return positions.tolist()


def compared(asked: Asked, source: str | None) -> dict[str, float | int]:
    """Sizes, agreement, and scores of both files, over all models together."""
    truth: list[int] = []
    said: list[list[np.ndarray]] = [[], []]
    sizes = []
    for model, photos in asked:
        exact, small = exported(model, source)
        sizes.append(small.stat().st_size / exact.stat().st_size)
        truth += [model.target.classes.index(code) for _, code in photos if code]
        for rows, path in zip(said, (exact, small), strict=True):
            rows.append(answers(path, photos))
    return {"models": len(asked), "size_ratio": round(float(np.mean(sizes)), 4)} | figures(
        np.array(truth), *(np.concatenate(rows) for rows in said)
    )


def figures(truth: np.ndarray, exactly: np.ndarray, roughly: np.ndarray) -> dict[str, float | int]:
    """How alike answers are ``(photo, 2)``, and how right where the classes are known."""
    found = {"agreement": (exactly[:, 0] == roughly[:, 0]).mean()}
    if len(truth):
        found |= of_labels(truth, exactly[:, 0], roughly[:, 0])
    if np.isfinite(exactly[:, 1]).all():  # a score was fitted
        found |= {
            "flagged_float32": (exactly[:, 1] > 1).mean(),
            "flagged_int8": (roughly[:, 1] > 1).mean(),
            "outlier_rank_correlation": spearmanr(exactly[:, 1], roughly[:, 1]).statistic,
        }
    return {"count": len(exactly)} | {name: round(float(value), 4) for name, value in found.items()}


@functools.cache
def exported(model: GeoModel, source: str | None) -> tuple[Path, Path]:
    """A model's files in 32 and in 8 bits, made once, and kept as long as this runs."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    exact = export_onnx(model, folder / "exact.onnx")
    return exact, export_onnx(model, folder / "small.onnx", calibration=calibration_inputs(model, source))


def of_labels(truth: np.ndarray, exactly: np.ndarray, roughly: np.ndarray) -> dict[str, float]:
    f1 = [float(f1_score(truth, each, average="macro")) for each in (exactly, roughly)]
    return {
        "macro_f1_float32": f1[0],
        "macro_f1_int8": f1[1],
        "macro_f1_lost": f1[0] - f1[1],
        "top1_float32": (exactly == truth).mean(),
        "top1_int8": (roughly == truth).mean(),
    }


def answers(path: Path, photos: Photos) -> np.ndarray:
    """Index of the likeliest class of each photo, and its outlier score ``(photo, 2)``."""
    model = OnnxModel(path)
    told = (model.run([model.read(photo)]) for photo, _ in photos)
    return np.array([(each["logits"][0].argmax(), each["outlier_score"][0]) for each in told])


if __name__ == "__main__":
    main()
