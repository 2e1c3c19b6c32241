"""Comparison of out-of-distribution scores that separate photos of the sky from images without sky.

    python benchmarks/cloud_outliers.py --data ../shared/data --out benchmarks/cloud_outliers

In-distribution images are out-of-fold CCSN photos, with near-duplicates kept together. Out-of-distribution
images are those of `not_skies`. Each score is fitted to the training folds alone. With `--weights` the
features are those of a pretrained backbone. With `--cross-validation FOLDER` they are those of the model of
each fold, as `geovision.evaluation.cross_validate` saves them.

The script writes ``outliers.csv`` and ``outliers.json``. The table has one row per score: area under the ROC
curve for each kind, fraction of out-of-distribution images found where 2 % of photos are flagged, and size of
the arrays.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import not_skies
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import geovision
from geovision import _atomic_io
from geovision.datasets.image_classification import ImageDataset
from geovision.evaluation import Predictions, collect_predictions
from geovision.evaluation.ood import auroc
from geovision.heads.ood import FeatureDistance
from geovision.models.geomodel import GeoModel
from geovision.provenance import data_digest, run_provenance

Score = Callable[[Tensor], Tensor]
"""Function from features to scores; larger values are farther out of distribution."""

PASS = 0.98
ELSEWHERE = "photos from elsewhere"
DOUBTFUL = "with some sky"


class Fold(NamedTuple):
    """Features on which the scores of one fold are fitted and evaluated."""

    training: Tensor
    labels: Tensor
    held_out: Tensor
    strange: Mapping[str, Tensor]
    head: Callable[[Tensor], Tensor] | None
    of: slice | None


# --- scores -------------------------------------------------------------------------------------


def logits_of(fold: Fold) -> Callable[[Tensor], Tensor]:
    """Return the head of the fold, or a logistic regression on its training features."""
    if fold.head is not None:
        return fold.head
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
    fitted.fit(fold.training.numpy(), fold.labels.numpy())
    return lambda features: torch.from_numpy(fitted.decision_function(features.numpy()))


def energy(fold: Fold) -> tuple[Score, int]:
    """Return the energy score (Liu et al. 2020, arXiv:2010.03759)."""
    logits = logits_of(fold)
    return lambda features: -logits(features).logsumexp(1), 0


def largest_probability(fold: Fold) -> tuple[Score, int]:
    """Return the maximum softmax probability (Hendrycks and Gimpel 2017, arXiv:1610.02136)."""
    logits = logits_of(fold)
    return lambda features: -logits(features).softmax(1).amax(1), 0


def plane(training: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, leading principal components and their variances."""
    mean = training.mean(0)
    _, singular, rows = torch.linalg.svd(training - mean, full_matrices=False)
    return mean, rows[:components].T, singular[:components].square() / (len(training) - 1)


def mahalanobis(fold: Fold, *, relative: bool) -> tuple[Score, int]:
    """Return the Mahalanobis distance to the nearest class in 64 components.

    The score is that of Lee et al. (2018, arXiv:1807.03888). The relative score subtracts the distance to all
    classes together (Ren et al. 2021, arXiv:2106.09022).
    """
    mean, basis, variance = plane(fold.training, 64)
    inside = (fold.training - mean) @ basis
    centers = torch.stack([inside[fold.labels == label].mean(0) for label in fold.labels.unique()])
    order = {int(label): row for row, label in enumerate(fold.labels.unique())}
    own = torch.tensor([order[int(label)] for label in fold.labels])
    inverse = torch.linalg.inv(torch.cov((inside - centers[own]).T))

    def score(features: Tensor) -> Tensor:
        projected = (features - mean) @ basis
        apart = projected[:, None] - centers
        nearest = torch.einsum("scd,de,sce->sc", apart, inverse, apart).amin(1)
        return nearest - (projected.square() / variance).sum(1) if relative else nearest

    return score, basis.numel() + centers.numel() + inverse.numel()


def principal_distance(fold: Fold) -> tuple[Score, int]:
    """Return the Mahalanobis distance in 64 components, plus the residual scaled by its variance."""
    mean, basis, variance = plane(fold.training, 64)
    total = (fold.training - mean).square().sum(1).mean()
    rest = (total - variance.sum()) / (len(mean) - 64)

    def score(features: Tensor) -> Tensor:
        centered = features - mean
        projected = centered @ basis
        residual = centered.square().sum(1) - projected.square().sum(1)
        return (projected.square() / variance).sum(1) + residual / rest

    return score, basis.numel()


def neighbor(fold: Fold, *, bank: int | None) -> tuple[Score, int]:
    """Return the distance to a nearest neighbor (Sun et al. 2022, arXiv:2204.06507).

    The neighbor is the fifth of all training features, or the first of `bank` of them.
    """
    known = torch.nn.functional.normalize(fold.training, dim=1)
    if bank:
        known = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[:bank]]
    rank = 1 if bank else 5

    def score(features: Tensor) -> Tensor:
        apart = torch.cdist(torch.nn.functional.normalize(features, dim=1), known)
        return apart.kthvalue(rank, dim=1).values

    return score, known.numel()


def residual(fold: Fold) -> tuple[Score, int]:
    """Return the score of geovision: the residual outside 100 components of normalized features.

    The network names the features to use.
    """
    distance = FeatureDistance(fold.training.shape[1], feature_slice=fold.of)
    distance.fit(fold.training.float(), held_out=fold.held_out.float())
    return lambda features: distance(features.float()), distance.basis.numel()


SCORES: dict[str, Callable[[Fold], tuple[Score, int]]] = {
    "energy": energy,
    "largest probability": largest_probability,
    "Mahalanobis to classes": lambda fold: mahalanobis(fold, relative=False),
    "relative Mahalanobis": lambda fold: mahalanobis(fold, relative=True),
    "principal distance": principal_distance,
    "neighbour, all photos": lambda fold: neighbor(fold, bank=None),
    "neighbour, 100 photos": lambda fold: neighbor(fold, bank=100),
    "residual (geovision)": residual,
}


# --- data ---------------------------------------------------------------------------------------


def features_of(model: GeoModel, pictures: list[np.ndarray]) -> Tensor:
    """Return features of images, shape (y, x, 3), resized to the model's input size."""
    height, width = model.inputs[0].size or (224, 224)
    found = []
    for picture in pictures:
        resized = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
        with torch.no_grad():
            found.append(model.features(torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255))
    return torch.cat(found).double()


def strange_pictures(root: Path) -> dict[str, list[np.ndarray]]:
    """Return images of all kinds, and for comparison images with some sky and clouds of other sources."""
    kinds = {kind: [values for _, values in some] for kind, some in not_skies.pictures(root).items()}
    kinds[DOUBTFUL] = [values for _, values in not_skies.doubtful(root)]
    photos = sorted((root / "cloud_photos").glob("*.jpg"))
    kinds[ELSEWHERE] = [np.asarray(Image.open(path).convert("RGB")) for path in photos]
    return kinds


def of_backbone(model: GeoModel, data: ImageDataset, pictures: dict[str, list[np.ndarray]]) -> Iterator[Fold]:
    """Yield five folds of the features of a network that was not trained on photos of the sky."""
    known = collect_predictions(model, data, features=True, progress=True)
    assert known.features is not None
    features = known.features.double()
    strange = {kind: features_of(model, some) for kind, some in pictures.items()}
    for training, test in data.folds(k=5, seed=0):
        of = getattr(model.network, "outlier_features", None)
        yield Fold(features[training], known.labels[training], features[test], strange, None, of)


def of_folds(folder: Path, data: ImageDataset, pictures: dict[str, list[np.ndarray]]) -> Iterator[Fold]:
    """Yield the finished folds of a cross-validation, each with its model."""
    for path in sorted(folder.glob("fold-*/predictions.npz")):
        model = geovision.load(path.parent / "training" / "model")
        held_out = Predictions.load(path)
        assert held_out.features is not None
        assert held_out.positions is not None
        rest = sorted(set(range(len(data))) - set(held_out.positions.tolist()))
        known = collect_predictions(model, data.subset(rest), features=True, progress=True)
        assert known.features is not None
        strange = {kind: features_of(model, some) for kind, some in pictures.items()}

        def head(features: Tensor, model: GeoModel = model) -> Tensor:
            with torch.no_grad():
                return model.head(features.float()).double()

        of = getattr(model.network, "outlier_features", None)
        yield Fold(known.features.double(), known.labels, held_out.features.double(), strange, head, of)


# --- the table ----------------------------------------------------------------------------------


def judge(fold: Fold, make: Callable[[Fold], tuple[Score, int]]) -> dict[str, float]:
    """Return one row: areas by kind, found and flagged fractions at the threshold, and size."""
    score, numbers = make(fold)
    ordinary = score(fold.held_out)
    threshold = ordinary.quantile(PASS)
    row = {kind: auroc(ordinary, score(features)) for kind, features in fold.strange.items()}
    everything = score(torch.cat([fold.strange[kind] for kind in not_skies.KINDS]))
    elsewhere = score(fold.strange[ELSEWHERE])
    return row | {
        "all": auroc(ordinary, everything),
        "found": float((everything > threshold).double().mean()),
        "flagged elsewhere": float((elsewhere > threshold).double().mean()),
        "kB": 2 * numbers / 1000,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of all data sets")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--model", default="cloud-mobilenetv2", help="name in the registry")
    parser.add_argument("--weights", type=Path, help="backbone weights; default: those in --data/imagenet")
    parser.add_argument("--cross-validation", type=Path, help="folder of a cross-validation to use instead")
    parser.add_argument("--scores", nargs="+", choices=SCORES, default=list(SCORES), help="scores to compare")
    options = parser.parse_args()

    data = geovision.load_dataset("ccsn", options.data / "ccsn")
    pictures = strange_pictures(options.data)
    if options.cross_validation:
        folds = of_folds(options.cross_validation, data, pictures)
    else:
        weights = options.weights or options.data / "imagenet" / "mobilenetv2_100.safetensors"
        folds = of_backbone(geovision.create(options.model, backbone_weights=weights), data, pictures)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in options.scores}
    for fold in folds:
        for name, own in rows.items():
            own.append(judge(fold, SCORES[name]))
    table = {
        name: {key: float(np.mean([row[key] for row in found])) for key in found[0]}
        for name, found in rows.items()
    }
    write(
        options.out,
        table,
        {
            "model": options.model,
            "features": str(options.cross_validation or "backbone as it comes"),
            "folds": len(next(iter(rows.values()))),
            "photos": len(data),
            "data_digest": data_digest([str(path) for path in data.paths]),
            "pictures": {kind: len(some) for kind, some in pictures.items()},
            "passed": PASS,
            **run_provenance(),
        },
    )


def write(folder: Path, table: dict[str, dict[str, float]], facts: dict) -> None:
    """Write the table as CSV and JSON, and print it."""
    columns = list(next(iter(table.values())))
    lines = [
        ["score", *columns],
        *([name, *(f"{row[key]:.4f}" for key in columns)] for name, row in table.items()),
    ]

    def write_csv(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(lines)

    def write_json(path: Path) -> None:
        path.write_text(json.dumps(facts | {"table": table}, indent=2) + "\n", encoding="utf-8")

    _atomic_io.write_files(folder, {"outliers.csv": write_csv, "outliers.json": write_json})
    for line in lines:
        print(
            "  ".join(
                f"{cell[:22]:>22}" if place == 0 else f"{cell[:9]:>9}" for place, cell in enumerate(line)
            )
        )


if __name__ == "__main__":
    main()
