"""What a network makes of samples: what heads are fitted to, and what strange inputs are told by."""

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
"""Of fewer samples nobody knows the 98th percentile; of more, evenly spaced ones do."""


def fit_outlier_score(
    model: GeoModel, data: GeoDataset, validation: GeoDataset | None, *, progress: bool = True
) -> None:
    """Have the head of a trained model know what it was trained on, so that it can tell what is unlike it.

    Of heads without such a score, and of fewer than `LEAST` samples, nothing is fitted. The threshold is
    set by `validation` where that has as many: samples that were trained on are nearer than new ones.
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
    """What the network makes of each sample ``(sample, feature)``, and the classes ``(sample,)``, of those
    that have one, on the CPU.

    Args:
        most: Of more samples than this, so many that are evenly spaced.
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
        known = batch["valid"].get("target", torch.ones_like(batch["target"], dtype=torch.bool))
        features.append(found[known])
        labels.append(batch["target"][known])
    return torch.cat(features), torch.cat(labels)
