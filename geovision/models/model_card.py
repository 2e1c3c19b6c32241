"""Card of a saved model: description, training data and published results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from geovision.models._base import BaseModel

__all__ = ["render"]

_TEMPLATE = jinja2.Template(
    """\
---
library_name: geovision
license: apache-2.0
tags: [{{ task.name }}, meteorology]
---
# {{ spec.name }}

{{ task.question }}

{{ spec.note or "No note." }} (architecture: {{ spec.evidence }})

```python
import geovision

model = geovision.load("PATH/OF/THIS/FOLDER")
model.predict("FILE")
```

## Input
{% for input in inputs %}
`{{ input.name }}` ({{ input.layout }}{% if input.size %},
{{ input.size[0] }} x {{ input.size[1] }}{% endif %}):
{% for c in input.channels %}
- {{ c.name }}, unit {{ c.unit }}, {{ c.valid_range[0] }} to {{ c.valid_range[1] }}
{%- endfor %}
{% endfor %}
{%- if classes %}

## Classes
{{ classes | join(", ") }}
{%- endif %}

## Training
{% if record %}{% for line in record %}
{{ line }}
{%- endfor %}{% else %}
The model is not trained. It has its initial parameters.
{%- endif %}

## Published results
{% for r in published %}
- {{ r.metric }} {{ r.value }} ({{ r.evidence }}; {{ r.source }}{% if r.note %}; {{ r.note }}{% endif %})
{%- else %}
None for this architecture.
{%- endfor %}
{% if task.cautions %}
Known limitations of comparisons:
{% for caution in task.cautions %}
- {{ caution }}
{%- endfor %}
{% endif %}""",
    autoescape=False,
)


def render(model: BaseModel) -> str:
    """Render the model card from the registry and the training record.

    Args:
        model: Model that the card describes.

    Returns:
        Text in Markdown, with YAML front matter.
    """
    return _TEMPLATE.render(
        task=model.task,
        spec=model.spec,
        inputs=model.inputs,
        classes=model.target.classes,
        record=list(_markdown_list(model.training_record)),
        published=[r for r in model.task.published if r.model == model.spec.name],
    )


def _markdown_list(record: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of a record as a nested Markdown list."""
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}- {key}:"
            yield from _markdown_list(value, indent + "  ")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            yield f"{indent}- {key}:"
            numbered = {str(number): each for number, each in enumerate(value, 1)}
            yield from _markdown_list(numbered, indent + "  ")
        elif isinstance(value, (list, tuple)):
            yield f"{indent}- {key}: {', '.join(map(str, value))}"
        elif value is not None:
            yield f"{indent}- {key}: {value}"
