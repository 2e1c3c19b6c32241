"""How a model in 8 bits answers beside the same in 32, on photos that it was trained on and on others.

    python benchmarks/export_accuracy.py --data CCSN --others PHOTOS

Both are exported files. CCSN's photos are those that the shipped weights were trained on, so their scores
are no measure of the model; what counts is the difference. Others are labelled photos of other makers in
one folder, called like ``Ac_anything.jpg``.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

import geovision
from geovision.export import calibration_inputs, export
from geovision.provenance import origin
from geovision.runtime import Model

RESULT = Path(__file__).with_suffix(".csv")
COLUMNS = ("calibration", "photos", "count", "size_ratio", "agreement", "macro_f1_float32", "macro_f1_int8",
           "macro_f1_lost", "top1_float32", "top1_int8", "commit")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CCSN")
    parser.add_argument("--others", type=Path, required=True, help="labelled photos in one folder")
    parser.add_argument("--every", type=int, default=1, help="each n-th photo of CCSN alone")
    parser.add_argument("--model", default="cloud-mobilenetv2")
    options = parser.parse_args()
    model = geovision.create(options.model, pretrained=True)
    classes = model.target.classes
    known = [(p, p.parent.name) for p in sorted(options.data.rglob("*.jpg"))][:: options.every]
    others = [(p, p.name.partition("_")[0]) for p in sorted(options.others.glob("*_*.jpg"))]
    sets = {"trained on": known, "others": [(p, code) for p, code in others if code in classes]}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        whole = export(model, Path(temporary) / "whole.onnx")
        exact = {name: answers(whole, photos) for name, photos in sets.items()}
        for calibration, source in (("generated", None), ("128 of its own photos", str(options.data))):
            ranges = calibration_inputs(model, source)
            small = export(model, Path(temporary) / "small.onnx", calibration=ranges)
            ratio = small.stat().st_size / whole.stat().st_size
            for name, photos in sets.items():
                truth = np.array([classes.index(code) for _, code in photos])
                figures = compared(exact[name], answers(small, photos), truth)
                rows.append(
                    [calibration, name, len(photos), f"{ratio:.3f}", *figures, origin()["commit"]]
                )  # fmt: skip
                print(dict(zip(COLUMNS, rows[-1], strict=True)), flush=True)
    with RESULT.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])


def answers(path: Path, photos: Sequence[tuple[Path, str]]) -> np.ndarray:
    """Index of the likeliest class of each photo."""
    model = Model(path)
    found = [model.run([model.read(photo)])["logits"].argmax(1) for photo, _ in photos]
    return np.concatenate(found)


def compared(exact: np.ndarray, small: np.ndarray, truth: np.ndarray) -> list[str]:
    """Agreement, macro-F1 of both and the difference, accuracy of both."""
    scores = [f1_score(truth, each, average="macro") for each in (exact, small)]
    right = [(each == truth).mean() for each in (exact, small)]
    figures = [(exact == small).mean(), *scores, scores[0] - scores[1], *right]
    return [f"{value:.4f}" for value in figures]


if __name__ == "__main__":
    main()
