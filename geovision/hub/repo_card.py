"""Model card of a published model: metadata for the Hub and text for the reader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from geovision.errors import InputError, OptionError
from geovision.models.geomodel import GeoModel
from geovision.models.model_card import render
from geovision.spec import resolve

if TYPE_CHECKING:
    from geovision.datasets.base import DatasetCard

__all__ = ["CardInfo", "build_card_info", "render_card"]

MetricInterval = tuple[float, float, float]

PIPELINE_TAGS: Mapping[str, str] = {
    "class": "image-classification",
    "mask": "image-segmentation",
    "field": "image-to-image",
}
"""Pipeline tag of the Hub, by the kind of the target."""

DEFAULT_INTENDED_USE = "Learning, research and teaching. Not for aviation, and not for warnings."


@dataclass(frozen=True)
class CardInfo:
    """Information for a model card that the model does not contain.

    Args:
        license: License of the weights, an SPDX identifier.
        data: Description of the training data.
        data_license: License or terms of the training data.
        split: Description of the split into training and test data.
        metrics: Value, lower and upper bound of the 95 % interval, by name of the metric. Default: {}.
        dataset: Registry name of the dataset; empty for a dataset outside the registry. Default: "".
        intended_use: Intended use of the model. Default: `DEFAULT_INTENDED_USE`.
        limitations: Known limitations of the model. Default: "".
        citation: Citation of the model, in addition to those of the task and the data. Default: "".
    """

    license: str
    data: str
    data_license: str
    split: str
    metrics: Mapping[str, MetricInterval] = field(default_factory=dict)
    dataset: str = ""
    intended_use: str = DEFAULT_INTENDED_USE
    limitations: str = ""
    citation: str = ""


def build_card_info(
    model: GeoModel,
    *,
    license: str = "",
    data_license: str = "",
    split: str = "",
    limitations: str = "",
    intended_use: str = "",
    citation: str = "",
    report: Path | None = None,
) -> CardInfo:
    """Collect the information for a model card.

    Arguments take precedence over the training record of the model and the card of its dataset.

    Args:
        model: Trained model.
        license: License of the weights, an SPDX identifier. Default: "", that of the pretrained weights.
        data_license: License of the training data. Default: "", that of the dataset.
        split: Description of the split. Default: "", that of the dataset.
        limitations: Known limitations. Default: "", the cautions of the class cards.
        intended_use: Intended use. Default: "", `DEFAULT_INTENDED_USE`.
        citation: Citation of the model. Default: "".
        report: Folder written by `geovision evaluate`, for the metrics. Default: None, the cross-validation
            scores of the training record.

    Returns:
        Information for `render_card`.

    Raises:
        OptionError: If license, data license or split are unknown and not given.
        InputError: If the report cannot be read.
    """
    record = model.training_record
    about = _dataset_card(model)
    known = {
        "license": license or (model.weight.license if model.weight else ""),
        "data_license": data_license or (about.license if about else ""),
        "split": split or (f"by {about.split_group}; no group is in two splits" if about else ""),
    }
    if missing := [name for name, text in known.items() if not text]:
        option = missing[0].replace("_", "-")
        raise OptionError(f"the card of {model.spec.name} requires {missing[0]}; pass --{option} TEXT")
    trained_on = model.weight.trained_on if model.weight else ""
    if not trained_on:
        trained_on = f"{about.title}, {about.source}" if about else str(record.get("data", ""))
    return CardInfo(
        data=trained_on or "not trained: the parameters have their initial values",
        metrics=_metric_intervals(report) if report else _cross_validation_note(record),
        dataset=about.name if about else "",
        intended_use=intended_use or DEFAULT_INTENDED_USE,
        limitations=limitations or _known_limitations(model),
        citation=citation,
        **known,
    )


def _dataset_card(model: GeoModel) -> DatasetCard | None:
    reference = model.task.datasets.get(str(model.training_record.get("data", "")))
    return resolve(reference).card if reference else None


def _cross_validation_note(record: Mapping[str, Any]) -> dict[str, MetricInterval]:
    found = {}
    for name, figure in record.get("out_of_fold", {}).items():
        value, low, high = figure
        found[name] = (float(value), float(low), float(high))
    return found


def _metric_intervals(report: Path) -> dict[str, MetricInterval]:
    path = report / "metrics.json"
    try:
        metrics = json.loads(path.read_text("utf-8"))["metrics"]
        return {
            name: (float(figure["value"]), float(figure["low"]), float(figure["high"]))
            for name, figure in metrics.items()
            if None not in figure.values()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a report with intervals ({error}); create one with `geovision evaluate --out`"
        ) from error


def _known_limitations(model: GeoModel) -> str:
    cautions = {card.caution.en for card in model.target.cards if card.caution}
    return " ".join(sorted(cautions))


_CARD = jinja2.Template(
    """\
{{ metadata }}
# {{ spec.name }}

{{ task.question }}

{{ spec.note or task.title }} (architecture: {{ spec.evidence }})

```python
import geovision

model = geovision.create("hf:{{ repo }}@REVISION")  # a commit is immutable and can be loaded offline
model.predict("FILE")
```

## Licenses

| | terms |
|---|---|
| code (geovision) | Apache-2.0 |
| these weights | {{ statement.license }} |
| training data | {{ statement.data_license }} |

## Training data

{{ statement.data }}

## Split

{{ statement.split }}

## Metrics
{% if statement.metrics %}
| metric | value | 95 % interval |
|---|---|---|
{% for name, (value, low, high) in statement.metrics.items() -%}
| {{ name }} | {{ "%.3f" | format(value) }} | {{ "%.3f" | format(low) }} to {{ "%.3f" | format(high) }} |
{% endfor %}
{%- else %}
No metrics available.
{% endif %}
## Intended use

{{ statement.intended_use }}

## Limitations

{{ statement.limitations or "No limitations are documented; this does not mean that there are none." }}

## Citation

{% for line in citations -%}
- {{ line }}
{% endfor %}
## Details

{{ body }}
""",
    autoescape=False,
)


def render_card(model: GeoModel, repo: str, card_info: CardInfo) -> str:
    """Return the text of ``README.md`` with metadata and evaluation results.

    Args:
        model: Trained model.
        repo: Repository, ``owner/name``.
        card_info: Information that the model does not contain.

    Returns:
        Markdown text with a YAML header.
    """
    from huggingface_hub import EvalResult, ModelCardData

    about = _dataset_card(model)
    results = [
        EvalResult(
            task_type=PIPELINE_TAGS[model.target.kind],
            dataset_type=card_info.dataset or "other",
            dataset_name=card_info.data,
            metric_type=name,
            metric_value=round(value, 4),
            metric_name=f"{name}, 95 % interval {low:.3f} to {high:.3f}",
            metric_config=card_info.split,
        )
        for name, (value, low, high) in card_info.metrics.items()
    ]
    metadata = ModelCardData(
        library_name="geovision",
        license=card_info.license.lower(),
        pipeline_tag=PIPELINE_TAGS[model.target.kind],
        tags=["geovision", "meteorology", model.task.name],
        model_name=repo.rpartition("/")[2],
        eval_results=results or None,
    )
    citations = [
        card_info.citation,
        model.task.citation,
        about.citation if about else "",
        "geovision: PyTorch models, datasets, recipes and metrics for clouds, aurora, polar lows, hail and "
        "precipitation",
    ]
    return _CARD.render(
        metadata=f"---\n{metadata.to_yaml()}\n---",
        spec=model.spec,
        task=model.task,
        repo=repo,
        statement=card_info,
        citations=[line for line in dict.fromkeys(citations) if line],
        body=_demote_headings(model.card or render(model)),
    )


def _demote_headings(card: str) -> str:
    """Remove metadata and title of a card and lower its headings by one level."""
    text = card.split("\n---\n", 1)[1] if card.startswith("---\n") else card
    lines = [line for line in text.strip().splitlines() if not line.startswith("# ")]
    return "\n".join(f"#{line}" if line.startswith("## ") else line for line in lines).strip()
