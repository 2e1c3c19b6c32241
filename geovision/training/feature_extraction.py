"""Extraction of network features, and fit of the outlier score to them."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from geovision.datasets.base import GeoDataset, collate
from geovision.heads.classification import ClassScoreHead
from geovision.models.geomodel import GeoModel

__all__ = ["LEAST", "extract_features", "fit_outlier_score"]

LEAST, MOST = 50, 2048
"""Smallest and largest number of samples for the fit of the outlier score.

Fewer samples do not determine the 98th percentile; larger data sets are subsampled evenly.
"""


def fit_outlier_score(
    model: GeoModel, data: GeoDataset, validation: GeoDataset | None, *, progress: bool = True
) -> None:
    """Fit the outlier score of a trained model, in place.

    A head without such a score is unchanged, as is any head if there are fewer than `LEAST` samples. If
    `validation` has at least `LEAST` samples, it determines the threshold, because the distances of training
    samples are smaller than those of new samples.

    Args:
        model: Trained model.
        data: Training samples.
        validation: Samples that were not trained on, or None.
        progress: Whether to show a progress bar on stderr. Default: True.
    """
    if not isinstance(model.head, ClassScoreHead) or len(data) < LEAST:
        return
    own = extract_features(model, data, most=MOST, progress=progress)[0]
    new = validation is not None and len(validation) >= LEAST
    held_out = extract_features(model, validation, most=MOST, progress=progress)[0] if new else None  # type: ignore[arg-type]
    model.head.outlier.fit(own, held_out=held_out)


@torch.inference_mode()
def extract_features(
    model: GeoModel, data: GeoDataset, *, most: int | None = None, progress: bool = True
) -> tuple[Tensor, Tensor]:
    """Return features and classes of all labeled samples, on the CPU.

    Args:
        model: Model whose network computes the features.
        data: Samples.
        most: Largest number of samples; larger data sets are subsampled evenly. Default: None, no limit.
        progress: Whether to show a progress bar on stderr. Default: True.

    Returns:
        Features, shape ``(sample, feature)``, and class indices, shape ``(sample,)``.
    """
    features, labels = [], []
    model.eval()
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    samples = data.with_input(model.inputs[0])
    if most is not None and len(samples) > most:
        samples = Subset(samples, torch.linspace(0, len(samples) - 1, most).round().long().tolist())  # type: ignore[assignment]
    batches = DataLoader(samples, batch_size=32, collate_fn=collate)
    for batch in track(
        batches, "features", console=Console(stderr=True), disable=not progress, transient=True
    ):
        inputs, valid = (
            {name: value.to(device) for name, value in batch[key].items()} for key in ("inputs", "valid")
        )
        model.validate_inputs(inputs, valid=valid)
        found = model.features(inputs, valid=valid).float().cpu()
        labeled = batch["valid"].get("target", torch.ones_like(batch["target"], dtype=torch.bool))
        features.append(found[labeled])
        labels.append(batch["target"][labeled])
    return torch.cat(features), torch.cat(labels)
