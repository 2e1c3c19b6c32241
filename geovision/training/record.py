"""How a model came to its weights, in a form that is stored with them."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import timm
import torch

import geovision
from geovision.datasets.base import GeoDataset
from geovision.spec import Recipe
from geovision.training.run_folder import plain

__all__ = ["training_record"]


def training_record(
    data: GeoDataset, recipe: Recipe | None, *, seconds: float, epochs: int = 0, steps: int = 0,
    last: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What was trained on what, how, with which versions.

    Args:
        recipe: None for a model without one.
        seconds: Wall time, all parts of an interrupted training together.
        last: The last row of the log.
    """
    return plain({
        "data": data.card.name,
        "samples": len(data),
        "recipe": dataclasses.asdict(recipe) if recipe else None,
        "seed": recipe.seed if recipe else None,
        "epochs": epochs,
        "steps": steps,
        "seconds": round(seconds, 1),
        "last_epoch": last or {},
        "versions": _versions(),
        "commit": _commit(),
        "command": shlex.join(sys.argv),
    })  # fmt: skip


def _versions() -> dict[str, str]:
    return {
        "geovision": geovision.__version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }


def _commit() -> str:
    """The commit of geovision's own source tree; "" where it is installed without one."""
    home = Path(geovision.__file__).parents[1]
    if not (home / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=home, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
