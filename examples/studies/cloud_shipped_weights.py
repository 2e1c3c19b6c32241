"""Training and evaluation of the weights of `cloud-mobilenetv2` that are part of geovision.

    python examples/studies/cloud_shipped_weights.py --data CCSN \
        --backbone-weights mobilenetv2_100.safetensors

First come five grouped folds. Every photo is predicted by a model that was trained without it and without its
near-duplicates, and that was calibrated on the other folds. Then one model is trained on all photos, with the
same recipe and a temperature that is fitted to the out-of-fold predictions. Finished steps are not repeated,
so a killed run is resumed.
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
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of CCSN, as published by its authors"
    )
    parser.add_argument("--backbone-weights", type=Path, required=True, help="file of ImageNet weights")
    parser.add_argument("--out", type=Path, default=Path("runs/cloud-mobilenetv2.ccsn"), help="output folder")
    parser.add_argument("--only", choices=("folds", "model"), help="only one of the two trainings")
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
        model = geovision.load(folder)  # rounded to half precision, as in the package
        finish(model, data, report, options.out)
        model.save(folder, fp16=True, card=card(model, data, report))
        print(folder)


def train_on_all(data: CCSN, backbone_weights: Path, out: Path) -> GeoModel:
    """Return the model of all photos, before its calibration."""
    if (out / "model").is_dir():
        return geovision.load(out / "model")
    torch.manual_seed(0)
    model = geovision.create(NAME, backbone_weights=backbone_weights)
    return geovision.train(model, data, out=out, resume=True)


def finish(model: GeoModel, data: CCSN, report: Report, out: Path) -> None:
    """Set temperature and outlier threshold by predictions for unseen photos."""
    folds = [Predictions.load(path) for path in sorted((out / "folds").glob("fold-*/predictions.npz"))]
    temperature = calibrate_classes(model, Predictions.join(folds))
    fit_ood_score(model, collect_predictions(model, data, features=True).features)
    # The distances of new photos are larger than those of training photos; a fold gives the ratio.
    ratio = _distance_ratio(out / "folds" / "fold-0", data)
    model.head.outlier.threshold.mul_(ratio)
    model.training_record |= {
        "temperature": round(temperature, 4),
        "outlier_threshold": "98th percentile of the training photos times "
        f"{ratio:.3f}, the ratio of held-out to training percentiles on the first fold",
        "out_of_fold": {name: [round(v, 4) for v in figure] for name, figure in report.metrics.items()},
        "command": "python examples/studies/cloud_shipped_weights.py --data CCSN --backbone-weights FILE",
    }


def _distance_ratio(fold: Path, data: CCSN) -> float:
    """Return the 98th percentile of held-out photos of a fold, divided by that of training photos."""
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
- Outlier score of images without sky ({count}: photos and drawings, radar, SAR, terrain, rain maps) against
  photos of the held-out fold: area under the ROC curve {auroc:.3f}. At a threshold that {flagged:.0f} %
  of the photos exceed, {found:.0f} % of the images are flagged. Measured on {folds}
  trained by the same recipe."""

BODY = """
## Evaluation

Out-of-fold predictions for {photos} photos of CCSN, in five folds that keep near-duplicates together. The
weights of each fold are trained without its photos. Brackets are 95 % bootstrap intervals over groups of
near-duplicates. The recipe was chosen on the first two of these folds. The weights in this folder are trained
on all of these photos with the same recipe, so no number measures these weights alone.

{metrics}

{classes}

## Data set

- {groups} groups of near-duplicates with {members} photos; **{disagree} groups ({disagreeing} photos)
  contain one photo under different labels**, so no unbiased score can be close to 1.
- Most frequent conflicts of labels: {pairs}.

## Limitations

- Weakest genera (F1): {weakest}.
- Most frequent errors (true class as predicted class): {mistakes}.
- Photos that differ from CCSN: night, fisheye, views from above, several genera in one photo.
- Outlier score of an image of uniform noise: {noise:.2f}; scores above 1 are flagged `not_a_sky`.
{outliers}
- {caution}

## Intended use

Learning to recognize clouds, and preselecting photos for review. Not for aviation, and not for warnings.

## License

Code and weights: Apache-2.0. The backbone was initialized with ImageNet weights (Apache-2.0). Photos: CCSN
(Zhang et al. 2018, {source}), {license}; none of them is part of this package.
"""


def card(model: GeoModel, data: CCSN, report: Report) -> str:
    """Return the card of the shipped weights, with all numbers computed from the results."""
    found = audit(data)
    counts = found.to_dict()
    duplicates, disagree = counts["near_duplicates"], counts["labels_disagree"]
    pairs = Counter(found.conflicting_label_pairs).most_common(3)
    codes = list(report.per_class)
    f1 = sorted((row["f1"].value, code) for code, row in report.per_class.items())
    wrong = Counter(
        {
            f"{true} as {predicted}": int(report.confusion[i, j])
            for i, true in enumerate(codes)
            for j, predicted in enumerate(codes)
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
        outliers=_outlier_lines(),
        caution=model.target.cards[0].caution.en,
        source=data.card.source,
        license=data.card.license,
    )


def _outlier_lines() -> str:
    """Return the results of `benchmarks/cloud_outliers.py --cross-validation OUT/folds`."""
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
