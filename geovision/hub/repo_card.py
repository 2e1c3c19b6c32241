"""The card of a published model: what the Hub reads of it, and what its reader should know."""

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
"""What the Hub calls a task, by the kind of the target."""

DEFAULT_INTENDED_USE = "Learning, research and teaching. Not for aviation, and not for warnings."


@dataclass(frozen=True)
class CardInfo:
    """What a card has to say that a model does not know of itself.

    Args:
        license: Of the weights, an SPDX identifier.
        data: The set that it was trained on, in words.
        data_license: Terms of these data.
        split: How samples were kept apart, and who was asked about which.
        metrics: Name to value and both ends of its 95 % interval.
        dataset: Its name in the registry; empty: another.
        intended_use, limitations: What it is for, and where it fails.
        citation: How it is to be cited, beside the task's source and the data's.
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
    """A statement from what is known: the model's record, its data set's card, a report; and from what is
    given, which goes before.

    Args:
        report: Folder of an evaluation that `geovision evaluate` wrote, for its figures.

    Raises:
        OptionError: Something that a card has to say is neither known nor given.
        InputError: The report cannot be read.
    """
    record = model.training_record
    about = _dataset_card(model)
    known = {
        "license": license or (model.weight.license if model.weight else ""),
        "data_license": data_license or (about.license if about else ""),
        "split": split or (f"by {about.split_group}, so that none stands on both sides" if about else ""),
    }
    if lacking := [name for name, text in known.items() if not text]:
        option = lacking[0].replace("_", "-")
        raise OptionError(f"the card of {model.spec.name} has to say its {lacking[0]}; give --{option} TEXT")
    told = model.weight.trained_on if model.weight else ""
    trained_on = told or (f"{about.title}, {about.source}" if about else str(record.get("data", "")))
    return CardInfo(
        data=trained_on or "not trained: the parameters are as initialised",
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
            f"{path}: no report with intervals ({error}); geovision evaluate writes one"
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

model = geovision.create("hf:{{ repo }}@REVISION")  # a commit: then it never changes, and is used offline
model.predict("FILE")
```

## Licences

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
None were measured.
{% endif %}
## Intended use

{{ statement.intended_use }}

## Limits

{{ statement.limitations or "None are stated, which does not mean that there are none." }}

## Citation

{% for line in citations -%}
- {{ line }}
{% endfor %}
## In full

{{ body }}
""",
    autoescape=False,
)


def render_card(model: GeoModel, repo: str, card_info: CardInfo) -> str:
    """The text of ``README.md``: metadata with the evaluation results, and what a reader should know."""
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
        "geovision, a model zoo for the sky, the ice edge and the rain",
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
    """A card within another: without its metadata and title, its headings one step lower."""
    text = card.split("\n---\n", 1)[1] if card.startswith("---\n") else card
    lines = [line for line in text.strip().splitlines() if not line.startswith("# ")]
    return "\n".join(f"#{line}" if line.startswith("## ") else line for line in lines).strip()
