"""Saved form of a model: ``model.safetensors``, ``config.json`` and ``README.md``.

The folder contains no pickled objects and no code. The configuration names a registry entry and its
options. Arrays that do not match it exactly are rejected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import geovision
from geovision import _atomic_io
from geovision.errors import WeightsCorruptError, WeightsNotAvailableError
from geovision.models.model_card import render

if TYPE_CHECKING:
    from geovision.models._base import BaseModel

__all__ = ["CARD", "CONFIG", "FORMAT_VERSION", "WEIGHTS", "read_config", "weights_digest", "write"]

FORMAT_VERSION = 2
"""Version of the configuration format that is written and read."""

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
"""Names of the files of a saved model."""


def write(model: BaseModel, folder: Path, *, fp16: bool = False, card: str = "") -> Path:
    """Save a model to a folder; see `GeoModel.save`.

    Args:
        model: Model to save.
        folder: Output folder. It is created if missing, and a model in it is replaced.
        fp16: Store the parameters in half precision. Default: False.
        card: Text of the model card. Default: rendered from the registry and the training record.

    Returns:
        The output folder.
    """
    state = {name: _stored(name, value, model, fp16) for name, value in model.state_dict().items()}
    digest = ""

    def write_weights(path: Path) -> None:
        nonlocal digest
        try:
            save_file(state, path, metadata={"format": "pt", "geovision": geovision.__version__})
        except SafetensorError as error:  # safetensors reports a full disk as its own error
            raise OSError(str(error)) from error
        digest = _atomic_io.sha256(path)

    def write_config(path: Path) -> None:
        config = _config(model) | {"sha256": digest, "half": fp16}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")

    def write_card(path: Path) -> None:
        path.write_text(card or render(model), encoding="utf-8")

    _atomic_io.write_files(folder, {WEIGHTS: write_weights, CONFIG: write_config, CARD: write_card})
    return folder


def _stored(name: str, value: Tensor, model: BaseModel, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    # Running variances of BatchNorm can be below the smallest half-precision number. One-dimensional arrays
    # are small, so they keep their precision.
    shrinks = half and value.is_floating_point() and value.ndim > 1
    return value.half() if shrinks else value


def _config(model: BaseModel) -> dict[str, Any]:
    options = dataclasses.asdict(model.config)
    # All builder options are stored, so that a later edit of the registry cannot change a saved model.
    options["model_args"] = dict(model.spec.model_args) | dict(model.config.model_args)
    return {
        "format_version": FORMAT_VERSION,
        "geovision_version": geovision.__version__,
        "model": model.spec.name,
        "task": model.task.name,
        "config": options,
        "inputs": [dataclasses.asdict(spec) for spec in model.inputs],
        "classes": list(model.target.classes),
        "training": model.training_record,
    }


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a saved model.

    Args:
        folder: Folder of the model.

    Returns:
        The configuration, in the current format version.

    Raises:
        WeightsNotAvailableError: The folder or its configuration is missing.
        WeightsCorruptError: The configuration is invalid, or this version does not read its format.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsNotAvailableError(f"{folder} is not a saved model: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = config["format_version"]
        if version == 1:
            config, version = _upgrade(config), FORMAT_VERSION
        for name, kind in (("model", str), ("config", dict), ("sha256", str)):
            if not isinstance(config[name], kind):
                raise TypeError(f"{name} is {config[name]!r:.40}")
        if not isinstance(config.get("training", {}), dict):
            raise TypeError("training is not a mapping")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsCorruptError(f"{path} is not a geovision configuration ({error!r})") from error
    if version != FORMAT_VERSION:
        raise WeightsCorruptError(
            f"{path} has format version {version}; this version of geovision reads {FORMAT_VERSION}. "
            "Use the version of geovision that wrote the file, or a newer one."
        )
    return config


_RENAMED = {
    "arch": "model_args",
    "head_options": "head_args",
    "dropout": "drop_rate",
    "limits": "db_range",
    "plausible": "expected_quantiles",
    "slips": "unit_hints",
    "clip": "max_grad_norm",
    "flatten_prior": "logit_adjustment",
    "mark": "evidence",
}
"""Keys of format version 1, with their names in version 2."""


def _upgrade(config: Any) -> Any:
    """Convert a configuration of format version 1 to version 2."""
    if not isinstance(config, dict):
        return config
    renamed = {key: value for key, value in config.items() if key != "options"}
    return _rename_keys(renamed | {"config": config["options"], "format_version": FORMAT_VERSION})


def _rename_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [_rename_keys(each) for each in value]
    if isinstance(value, dict):
        return {_RENAMED.get(key, key): _upgrade_value(key, each) for key, each in value.items()}
    return value


def _upgrade_value(key: str, value: Any) -> Any:
    renamed = _rename_keys(value)
    if key != "arch" or not isinstance(value, dict):
        return renamed
    # Networks of fields have a builder option `dropout`, which kept its name.
    own = {"dropout": renamed.pop("drop_rate")} if "dropout" in value else {}
    return _merge_transforms(renamed | own)


def _merge_transforms(model_args: Any) -> Any:
    """Replace the builder options ``rain`` and ``others`` by transforms for each prefix."""
    if not isinstance(model_args, dict) or not {"rain", "others"} & set(model_args):
        return model_args
    kept = {key: value for key, value in model_args.items() if key not in ("rain", "others")}
    transforms = {
        "precipitation": model_args.get("rain", ["log1p", "zscore"]),
        "": model_args.get("others", ["zscore"]),
    }
    return kept | {"transforms": transforms}


def weights_digest(model: BaseModel) -> str:
    """Return the SHA-256 digest of the state of a model.

    It covers the names and values of all parameters and buffers.

    Args:
        model: Model whose state is hashed.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
