"""The scores of a model on a data set, with where they come from, as tables, figures and files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from geovision._atomic_io import write_files
from geovision.datasets.base import GeoDataset
from geovision.metrics.bootstrap import Estimate
from geovision.provenance import data_digest, run_provenance
from geovision.spec import Task

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["MetricValue", "Report", "build_provenance", "to_metric_value", "write_text"]


class MetricValue(NamedTuple):
    """One number with the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        interval = "" if math.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


def to_metric_value(estimate: Estimate, column: int | None = None) -> MetricValue:
    """An estimate, or one column of it, as plain numbers."""
    return MetricValue(*(float(value if column is None else value[column]) for value in estimate))


@dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """Scores over all samples together (pooled), with intervals over groups.

    What a kind of answer adds to it stands in the class for that kind.

    Attributes:
        task: The task, whose first metric is the headline.
        metrics: By name.
        provenance: What gives this result again: model, weights, data, seed, version, command.
        groups: The group of each sample.
        notes: What a reader must know beside the numbers.
    """

    task: Task
    metrics: Mapping[str, MetricValue]
    provenance: Mapping[str, Any]
    groups: Sequence[str]
    notes: Sequence[str] = ()

    @property
    def headline(self) -> str:
        """Name of the metric that the task is judged by."""
        return next(name for name in self.task.metrics if name in self.metrics)

    def text(self) -> str:
        """The scores as a table for a terminal."""
        width = max(map(len, self.metrics))
        lines = [f"{name:<{width}}  {figure}" for name, figure in self.metrics.items()]
        lines += [*self._extra_text(), "", self._samples(), *self.notes]
        return "\n".join(lines)

    def _samples(self) -> str:
        interval = "" if not self.provenance.get("bootstrap") else "; 95 % intervals over groups"
        return f"{len(self.groups)} samples in {len(set(self.groups))} groups{interval}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is undefined is None."""
        return {
            "headline": self.headline,
            "metrics": {name: to_json(figure) for name, figure in self.metrics.items()},
            **self._extra_data(),
            "samples": len(self.groups),
            "groups": len(set(self.groups)),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """The figures by name.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``metrics.csv``, the answers where they are a table
        (``predictions.csv``), ``report.md`` and the figures as PNG, all of them or none.

        Raises:
            StorageError: They could not be written; what stood in `folder` is untouched.
            MissingExtraError: matplotlib is not installed.
        """
        folder, drawn = Path(folder), self.figures()
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        writers: dict[str, Callable[[Path], Any]] = {
            "metrics.json": partial(write_text, text=text + "\n"),
            "metrics.csv": self._write_metrics,
            **self._extra_files(),
            "report.md": partial(write_text, text=self.markdown(drawn)),
        }
        for name, figure in drawn.items():
            writers[f"{name}.png"] = partial(figure.savefig, format="png", dpi=130)
        write_files(folder, writers)
        return folder

    def _write_metrics(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["metric", "class", "value", "low", "high"])
            writer.writerows([name, "", *_format_cells(figure)] for name, figure in self.metrics.items())
            writer.writerows(
                [name, part, *_format_cells(figure)] for name, part, figure in self._extra_rows()
            )

    def markdown(self, image_names: Sequence[str] | Mapping[str, Any] = ()) -> str:
        """The report as a page; `image_names` are names of PNG files beside it."""
        lines = [f"# {self.provenance['model']} on {self.provenance['data']}", "", self._samples(), ""]
        lines += ["| metric | value |", "|---|---|"]
        lines += [f"| {name} | {figure} |" for name, figure in self.metrics.items()]
        lines += self._extra_markdown()
        lines += [""] + [f"- {note}" for note in self.notes]
        lines += ["", *(f"![{name}]({name}.png)\n" for name in image_names), "## Provenance", ""]
        lines += [f"- {key}: `{value}`" for key, value in self.provenance.items()]
        return "\n".join(lines) + "\n"

    # --- what a kind adds -------------------------------------------------------------------------

    def _extra_text(self) -> list[str]:
        return []

    def _extra_data(self) -> dict[str, Any]:
        return {}

    def _extra_rows(self) -> list[tuple[str, str, MetricValue]]:
        """(metric, part that it is of, number)."""
        return []

    def _extra_files(self) -> dict[str, Callable[[Path], Any]]:
        return {}

    def _extra_markdown(self) -> list[str]:
        return []


def to_json(metric_value: MetricValue) -> dict[str, float | None]:
    """For JSON."""
    return {name: None if math.isnan(value) else value for name, value in metric_value._asdict().items()}


def _format_cells(metric_value: MetricValue) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in metric_value]


def write_text(path: Path, text: str) -> None:
    """Write to this very path."""
    path.write_text(text, encoding="utf-8")


def build_provenance(
    data: GeoDataset,
    sources: Sequence[str],
    model_provenance: Mapping[str, Any],
    *,
    n_bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """What gives a result again, beside the `model_provenance` of the model."""
    return {
        **model_provenance,
        "data": data.card.name,
        "data_digest": data_digest(sources),
        "bootstrap": n_bootstrap,
        "seed": seed,
        **run_provenance(),
    }
