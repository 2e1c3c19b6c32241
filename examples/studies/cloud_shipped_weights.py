"""Train the weights that geovision ships for `cloud-mobilenetv2`, and measure them honestly.

    python examples/studies/cloud_shipped_weights.py --data CCSN \
        --backbone-weights mobilenetv2_100.safetensors

Five grouped folds first: every photo is answered by a model that saw neither it nor a near-duplicate
of it, and is calibrated on the other folds. Then one model on all photos, with the same recipe and a
temperature fitted to the out-of-fold answers. What is finished is not done again, so a killed run
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import geovision
from geovision.datasets.audit import audit
from geovision.datasets.ccsn import CCSN
from geovision.evaluation import Predictions, Report, calibrate_classes, collect_predictions, cross_validate
from geovision.evaluation.ood import fit_ood_score
from geovision.models.geomodel import GeoModel
from geovision.models.model_card import render

NAME = "cloud-mobilenetv2"
FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CCSN, as its authors ship it")
    parser.add_argument("--backbone-weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/cloud-mobilenetv2.ccsn"))
    parser.add_argument("--only", choices=("folds", "model"), help="one of the two trainings alone")
    options = parser.parse_args()
    data = geovision.load_dataset("ccsn", options.data, size=geovision.info(NAME).inputs[0].size)
    assert isinstance(data, CCSN)
    if options.only != "model":
        report = cross_validate(
            NAME,
            data,
            out=options.out / "folds",
            folds=FOLDS,
            seed=0,
            backbone_weights=options.backbone_weights,
        )
        print(report.text())
    if options.only != "folds":
        model = train_on_all(data, options.backbone_weights, options.out / "all")
    if options.only is None:
        folder = options.out / "model"
        model.save(folder, fp16=True)
        model = geovision.load(folder)  # rounded to half precision, as it will be used
        finish(model, data, report, options.out)
        model.save(folder, fp16=True, card=card(model, data, report))
        print(folder)


def train_on_all(data: CCSN, backbone_weights: Path, out: Path) -> GeoModel:
    """The model that is shipped, before it is calibrated."""
    if (out / "model").is_dir():
        return geovision.load(out / "model")
    torch.manual_seed(0)
    model = geovision.create(NAME, backbone_weights=backbone_weights)
    return geovision.train(model, data, out=out, resume=True)


def finish(model: GeoModel, data: CCSN, report: Report, out: Path) -> None:
    """Set temperature and outlier threshold by answers of models that had not seen the photos."""
    folds = [Predictions.load(path) for path in sorted((out / "folds").glob("fold-*/predictions.npz"))]
    temperature = calibrate_classes(model, Predictions.join(folds))
    fit_ood_score(model, collect_predictions(model, data, features=True).features)
    # New photos lie farther out than those trained on; by how much, a fold tells.
    farther = _farther(out / "folds" / "fold-0", data)
    model.head.outlier.threshold.mul_(farther)
    model.training_record |= {
        "temperature": round(temperature, 4),
        "outlier_threshold": "98th percentile of the training photos times "
        f"{farther:.3f}, the ratio of held-out to training percentiles on the first fold",
        "out_of_fold": {name: [round(v, 4) for v in figure] for name, figure in report.metrics.items()},
        "command": "python examples/studies/cloud_shipped_weights.py --data CCSN \
        --backbone-weights FILE",
    }


def _farther(fold: Path, data: CCSN) -> float:
    """The 98th percentile of a fold's held-out photos over that of its training photos."""
    model = geovision.load(fold / "training" / "model")
    held_out = Predictions.load(fold / "predictions.npz")
    assert held_out.features is not None
    assert held_out.positions is not None
    trained_on = sorted(set(range(len(data))) - set(held_out.positions.tolist()))
    training = collect_predictions(model, data.subset(trained_on), features=True, progress=True).features
    score = model.head.outlier
    fit_ood_score(model, training)
    near = score.threshold.item()
    fit_ood_score(model, training, held_out=held_out.features)
    return score.threshold.item() / near


# --- the card -----------------------------------------------------------------------------------

OUTLIERS = Path(__file__).parents[2] / "benchmarks" / "cloud_outliers" / "shipped" / "outliers.json"

OUTLIER_LINES = """\
- Pictures that are certainly no sky ({count}: photos and drawings, radar, SAR, terrain, rain maps) are told
  from photos of the fold held out with an area under the ROC curve of {auroc:.3f}; {found:.0f} % of them lie
  beyond where {flagged:.0f} % of the photos do. Measured on {folds} trained by the same recipe."""

BODY = """

## Measured

Out of fold on {photos} photos of CCSN, in five folds that keep near-duplicates together, the weights of
each fold trained without it; brackets are 95 % bootstrap intervals over groups of near-duplicates.
The recipe was chosen on the first two of these folds. The weights here are trained on all of these
photos with that recipe, so no figure is theirs alone.

{metrics}

{classes}

## What the data set holds

- {groups} groups of near-duplicates with {members} photos; **{disagree} groups ({disagreeing} photos)
  hold one picture under different labels**, so that no honest score comes near 1.
- Most frequent disagreements: {pairs}.

## What it is bad at

- Weakest genera (F1): {weakest}.
- Most frequent mistakes (true as answered): {mistakes}.
- Photos unlike CCSN's: night, fisheye, views from above, several genera in one picture.
- Outlier score of a picture of uniform noise: {noise:.2f}; above 1 it would be flagged `not_a_sky`.
{told}
- {caution}

## Intended use

Learning the clouds and sorting photos for a closer look. Not for aviation, and not for warnings.

## Terms

Code and these weights: Apache-2.0. The backbone began from ImageNet weights (Apache-2.0). Photos: CCSN
(Zhang et al. 2018, {source}), {licence}; none of them is part of this package.
"""


def card(model: GeoModel, data: CCSN, report: Report) -> str:
    """The card of the shipped weights; every number in it is computed here."""
    found = audit(data)
    counts = found.to_dict()
    duplicates, disagree = counts["near_duplicates"], counts["labels_disagree"]
    pairs = Counter(found.conflicting_label_pairs).most_common(3)
    codes = list(report.per_class)
    f1 = sorted((row["f1"].value, code) for code, row in report.per_class.items())
    wrong = Counter(
        {
            f"{true} as {answered}": int(report.confusion[i, j])
            for i, true in enumerate(codes)
            for j, answered in enumerate(codes)
            if i != j
        }
    )
    return render(model) + BODY.format(
        photos=len(data),
        metrics=_table(report),
        classes=_class_table(report),
        groups=duplicates["groups_of_two_or_more"],
        members=duplicates["photos_in_them"],
        disagree=disagree["groups"],
        disagreeing=disagree["photos"],
        pairs=", ".join(f"{a} and {b} ({count})" for (a, b), count in pairs),
        weakest=", ".join(f"{code} {value:.2f}" for value, code in f1[:3]),
        mistakes=", ".join(f"{pair} ({count})" for pair, count in wrong.most_common(5)),
        noise=_noise_score(model),
        told=_told_apart(),
        caution=model.target.cards[0].caution.en,
        source=data.card.source,
        licence=data.card.license,
    )


def _told_apart() -> str:
    """What `benchmarks/cloud_outliers.py --cross-validation OUT/folds` found of this recipe."""
    found = json.loads(OUTLIERS.read_text(encoding="utf-8"))
    row = found["table"]["residual (geovision)"]
    counts = found["pictures"]
    strange = sum(counts[kind] for kind in counts if kind not in ("with some sky", "photos from elsewhere"))
    folds = "the first fold, whose model is" if found["folds"] == 1 else "all folds, whose models are"
    return OUTLIER_LINES.format(
        count=strange,
        auroc=row["all"],
        found=100 * row["found"],
        flagged=100 - 100 * found["passed"],
        folds=folds,
    )


def _noise_score(model: GeoModel) -> float:
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8)
    return model.predict(noise)[0].outlier_score


def _table(report: Report) -> str:
    rows = [f"| {name} | {figure} |" for name, figure in report.metrics.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def _class_table(report: Report) -> str:
    names = ("precision", "recall", "f1")
    rows = [
        f"| {code} | {count} | " + " | ".join(str(row[name]) for name in names) + " |"
        for (code, row), count in zip(report.per_class.items(), report.confusion.sum(1), strict=True)
    ]
    return "\n".join(["| class | photos | precision | recall | F1 |", "|---|---|---|---|---|", *rows])


if __name__ == "__main__":
    main()
