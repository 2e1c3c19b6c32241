"""How a model came to its weights, in a form that is stored with them."""

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
    """What was trained on what, how, with which versions.

    Args:
        recipe: None for a model without one.
        seconds: Wall time, all parts of an interrupted training together.
        last: The last row of the log.
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
