"""Models, datasets, recipes and metrics for clouds, aurora, polar lows, hail and precipitation.

>>> import geovision
>>> "cloud-mobilenetv2" in geovision.list_models("cloud-*")
True

Public names are imported when first used (PEP 562), so that `import geovision` costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Set before ONNX Runtime is imported, which otherwise sends usage data: see geovision.onnx_runtime.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "create": "geovision.api",
    "load": "geovision.api",
    "load_dataset": "geovision.api",
    "info": "geovision.api",
    "train": "geovision.api",
    "distill": "geovision.api",
    "evaluate": "geovision.api",
    "calibrate": "geovision.api",
    "cross_validate": "geovision.api",
    "explain": "geovision.api",
    "predict_archive": "geovision.api",
    "read_table": "geovision.api",
    "predict_scene": "geovision.sar",
    "predict_raster": "geovision.inference",
    "predict_grid": "geovision.inference",
    "export_onnx": "geovision.export",
    "push": "geovision.hub.push",
    "pull": "geovision.hub.pull",
    "list_models": "geovision.registry",
    "list_tasks": "geovision.registry",
    "list_datasets": "geovision.registry",
    "GeovisionError": "geovision.errors",
    "GeoModel": "geovision.models.geomodel",
    "Output": "geovision.models.geomodel",
    "Prediction": "geovision.heads.prediction",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from geovision.api import (
        calibrate,
        create,
        cross_validate,
        distill,
        evaluate,
        explain,
        info,
        load,
        load_dataset,
        predict_archive,
        read_table,
        train,
    )
    from geovision.errors import GeovisionError
    from geovision.export import export_onnx
    from geovision.heads.prediction import Prediction
    from geovision.hub.pull import pull
    from geovision.hub.push import push
    from geovision.inference import predict_grid, predict_raster
    from geovision.models.geomodel import GeoModel, Output
    from geovision.registry import list_datasets, list_models, list_tasks
    from geovision.sar import predict_scene


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geovision' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
