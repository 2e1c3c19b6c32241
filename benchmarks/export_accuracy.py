"""Agreement of exported models in 8 bits with 32 bits, on four sets of photos.

The sets are photos that the model was trained on, photos of other sources, out-of-fold photos of CCSN, and
images without sky.

    python benchmarks/export_accuracy.py --data CCSN --others PHOTOS --cross-validation FOLDER --strange DATA

Both models are exported files. The shipped weights were trained on the photos of CCSN, so these scores do not
evaluate the model; only the difference is meaningful. Other photos are labeled by their name, such as
``Ac_anything.jpg``, in one folder. FOLDER contains the folds of `examples/studies/cloud_shipped_weights.py`.
Each finished fold predicts its held-out photos, and all folds are scored together. Images without sky are
those that `not_skies` derives from the folder of all data sets. They have no class; only their outlier score
is compared.
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
"""Files or their content, each with the code of its class; empty without class."""

Evaluations = Sequence[tuple[GeoModel, Photos]]
"""Models, each with the photos that it predicts."""


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__ or "")
    for name, evaluations in sets(options):
        for calibration, source in (("generated", None), ("128 of CCSN", str(options.data))):
            compared_row = compared(evaluations, source)
            row = {"calibration": calibration, "photos": name, **compared_row, **run_provenance()}
            append(Path(__file__).with_suffix(".csv"), row, show=True)


def arguments(description: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CCSN")
    parser.add_argument("--others", type=Path, help="folder of labeled photos")
    parser.add_argument("--cross-validation", type=Path, metavar="FOLDER", help="folder of trained folds")
    parser.add_argument("--strange", type=Path, metavar="FOLDER", help="folder of all data sets")
    parser.add_argument("--every", type=int, default=1, help="step between the photos of CCSN that are used")
    parser.add_argument("--model", default="cloud-mobilenetv2", help="name in the registry")
    return parser.parse_args()


def sets(options: argparse.Namespace) -> Iterator[tuple[str, Evaluations]]:
    """Yield each set of photos with its name and its models."""
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
                    geovision.load(path.parent / "training" / "model"),
                    [known[place] for place in held_out(path)[:: options.every]],
                )
                for path in sorted(options.cross_validation.glob("fold-*/predictions.npz"))
            ],
        )
    if options.strange:
        found = [each for kind in not_skies.pictures(options.strange).values() for each in kind]
        yield "no skies", [(shipped, [(_png(values), "") for _, values in found])]


def _png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "png")
    return stream.getvalue()


def held_out(path: Path) -> list[int]:
    """Return the positions of the photos that a fold was not trained on."""
    positions = Predictions.load(path).positions
    assert positions is not None
    return positions.tolist()


def compared(evaluations: Evaluations, source: str | None) -> dict[str, float | int]:
    """Return size ratio, agreement, and scores of both files, over all models together."""
    truth: list[int] = []
    outputs: list[list[np.ndarray]] = [[], []]
    sizes = []
    for model, photos in evaluations:
        exact, small = exported(model, source)
        sizes.append(small.stat().st_size / exact.stat().st_size)
        truth += [model.target.classes.index(code) for _, code in photos if code]
        for rows, path in zip(outputs, (exact, small), strict=True):
            rows.append(predicted(path, photos))
    return {"models": len(evaluations), "size_ratio": round(float(np.mean(sizes)), 4)} | figures(
        np.array(truth), *(np.concatenate(rows) for rows in outputs)
    )


def figures(truth: np.ndarray, exactly: np.ndarray, roughly: np.ndarray) -> dict[str, float | int]:
    """Return the agreement of predictions, shape (photo, 2), and scores if the classes are known."""
    found = {"agreement": (exactly[:, 0] == roughly[:, 0]).mean()}
    if len(truth):
        found |= of_labels(truth, exactly[:, 0], roughly[:, 0])
    if np.isfinite(exactly[:, 1]).all():  # the model has an outlier score
        found |= {
            "flagged_float32": (exactly[:, 1] > 1).mean(),
            "flagged_int8": (roughly[:, 1] > 1).mean(),
            "outlier_rank_correlation": spearmanr(exactly[:, 1], roughly[:, 1]).statistic,
        }
    return {"count": len(exactly)} | {name: round(float(value), 4) for name, value in found.items()}


@functools.cache
def exported(model: GeoModel, source: str | None) -> tuple[Path, Path]:
    """Return the files of a model in 32 and in 8 bits, exported once and deleted at exit."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    exact = export_onnx(model, folder / "exact.onnx")
    return exact, export_onnx(model, folder / "small.onnx", calibration=calibration_inputs(model, source))


def of_labels(truth: np.ndarray, exactly: np.ndarray, roughly: np.ndarray) -> dict[str, float]:
    """Return macro-F1 and accuracy of both models."""
    f1 = [float(f1_score(truth, each, average="macro")) for each in (exactly, roughly)]
    return {
        "macro_f1_float32": f1[0],
        "macro_f1_int8": f1[1],
        "macro_f1_lost": f1[0] - f1[1],
        "top1_float32": (exactly == truth).mean(),
        "top1_int8": (roughly == truth).mean(),
    }


def predicted(path: Path, photos: Photos) -> np.ndarray:
    """Return index of the most probable class and outlier score of each photo, shape (photo, 2)."""
    model = OnnxModel(path)
    outputs = (model.run([model.read(photo)]) for photo, _ in photos)
    return np.array([(each["logits"][0].argmax(), each["outlier_score"][0]) for each in outputs])


if __name__ == "__main__":
    main()
