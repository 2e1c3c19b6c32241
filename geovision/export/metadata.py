"""Metadata of an exported file, sufficient to read inputs and show predictions without geovision."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import geovision
from geovision.export.tracing import mask_input_name
from geovision.heads.prediction import LIKELIHOOD_TERMS
from geovision.heads.protocols import HasTemperature
from geovision.models.geomodel import GeoModel
from geovision.models.model_card import render
from geovision.models.serialization import weights_digest
from geovision.spec import Channel, ClassCard, ClassTarget, FieldTarget, InputSpec

__all__ = ["FORMAT_VERSION", "METADATA_KEY", "build_metadata"]

METADATA_KEY = "geovision"
"""Key of the JSON text in the metadata of an ONNX file."""

FORMAT_VERSION = 2


def build_metadata(model: GeoModel) -> dict[str, Any]:
    """Describe a model as plain data for the metadata of an exported file.

    Args:
        model: Model to describe.

    Returns:
        Dictionary with ``format_version``, ``geovision_version``, ``model``, ``task`` (name, title, question,
        citation), ``inputs``, ``target``, ``temperature``, ``license``, ``trained_on``, ``figures``
        (metrics), ``sha256`` of the weights and ``card``. Texts in two languages are
        ``{"en": …, "zh": …}``.
    """
    temperature = model.head.temperature if isinstance(model.head, HasTemperature) else None
    weight = model.weight
    chinese = model.task.chinese or ("", "")
    return {
        "format_version": FORMAT_VERSION,
        "geovision_version": geovision.__version__,
        "model": model.spec.name,
        "task": {
            "name": model.task.name,
            "title": _bilingual_text(model.task.title, chinese[0]),
            "question": _bilingual_text(model.task.question, chinese[1]),
            "citation": model.task.citation,
        },
        "inputs": [_describe_input(spec) for spec in model.inputs],
        "target": _describe_target(model),
        "temperature": None if temperature is None else float(temperature),
        "license": weight.license if weight else "",
        "trained_on": weight.trained_on if weight else str(model.training_record.get("data", "")),
        "figures": dict(weight.metrics) if weight else {},
        "sha256": weights_digest(model),
        "card": model.card or render(model),
    }


def _bilingual_text(english: str, chinese: str) -> dict[str, str]:
    """Return a text in two languages, in English where Chinese is missing."""
    return {"en": english, "zh": chinese or english}


def _describe_input(spec: InputSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "valid": mask_input_name(spec) or None,
        "layout": spec.layout,
        "size": list(spec.size) if spec.size else None,
        "resize": spec.resize,
        # Description of an image file; other inputs are read from arrays.
        "picture": dataclasses.asdict(spec.picture) if spec.picture else None,
        "pixel_size": spec.pixel_size,
        "integers": spec.integers,
        "optional": spec.optional,
        "channels": [
            _describe_channel(channel) | {"bands": list(channel.rgb_bands)} for channel in spec.channels
        ],
    }


def _describe_channel(channel: Channel) -> dict[str, Any]:
    return {
        "name": channel.name,
        "unit": channel.unit,
        "valid_range": [limit if math.isfinite(limit) else None for limit in channel.valid_range],
        "mean": channel.mean,
        "unit_hints": [dataclasses.asdict(hint) for hint in channel.unit_hints if math.isfinite(hint.upto)],
    }


def _describe_target(model: GeoModel) -> dict[str, Any]:
    target = model.target
    if isinstance(target, FieldTarget):
        return {"kind": target.kind, "channel": _describe_channel(target.channel)}
    if not isinstance(target, ClassTarget):
        return {"kind": target.kind, "name": target.name, "threshold": target.threshold}
    return {
        "kind": target.kind,
        "classes": list(target.classes),
        "cards": [_describe_card(card) for card in target.cards],
        "positive": target.positive,
        "told_by_colour": list(target.color_dependent),
        "outlier": {"flag": target.outlier_flag, "threshold": 1.0},
        "words": [{"from": bound, "en": word.en, "zh": word.zh} for bound, word in LIKELIHOOD_TERMS],
    }


def _describe_card(card: ClassCard) -> dict[str, Any]:
    return {
        "code": card.code,
        "name": dataclasses.asdict(card.name),
        "level": card.level,
        "facts": [dataclasses.asdict(fact) for fact in card.facts],
        "caution": dataclasses.asdict(card.caution) if card.caution else None,
    }
