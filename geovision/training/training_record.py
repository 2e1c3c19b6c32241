"""Training record that is saved with the weights of a model."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

import timm
import torch

from geovision.datasets.base import GeoDataset
from geovision.provenance import run_provenance
from geovision.spec import Recipe
from geovision.training.run_dir import to_json_types

__all__ = ["build_training_record"]


def build_training_record(
    data: GeoDataset,
    recipe: Recipe | None,
    *,
    seconds: float,
    epochs: int = 0,
    steps: int = 0,
    last: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of a training: data, recipe, results and versions.

    Args:
        data: Training samples.
        recipe: Training recipe; None for a model without one.
        seconds: Duration in s, over all parts of an interrupted training.
        epochs: Number of epochs. Default: 0.
        steps: Number of steps. Default: 0.
        last: Last row of the log. Default: None.
    """
    return to_json_types(
        {
            "data": data.card.name,
            "samples": len(data),
            "recipe": dataclasses.asdict(recipe) if recipe else None,
            "seed": recipe.seed if recipe else None,
            "epochs": epochs,
            "steps": steps,
            "seconds": round(seconds, 1),
            "last_epoch": last or {},
            "versions": _versions(),
            **run_provenance(),
        }
    )


def _versions() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
