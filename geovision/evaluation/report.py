"""Evaluation results with their provenance, as tables, figures and files."""

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
    """Value of a metric with the ends of its 95 % interval.

    Attributes:
        value: Value; NaN if undefined.
        low: Lower end of the interval; NaN without interval.
        high: Upper end of the interval; NaN without interval.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        interval = "" if math.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


def to_metric_value(estimate: Estimate, column: int | None = None) -> MetricValue:
    """Convert an estimate, or one column of it, to plain numbers.

    Args:
        estimate: Estimate of `geovision.metrics.bootstrap`.
        column: Index of the column, for estimates of shape (column,). Default: None, for scalars.
    """
    return MetricValue(*(float(value if column is None else value[column]) for value in estimate))


@dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """Scores pooled over all samples, with intervals over groups.

    Subclasses add the results of one kind of target.

    Attributes:
        task: Task, whose first metric is the headline.
        metrics: Values by name of the metric.
        provenance: Information that reproduces the result: model, weights, data, seed, version, command.
        groups: Group of each sample.
        notes: Remarks for the reader.
    """

    task: Task
    metrics: Mapping[str, MetricValue]
    provenance: Mapping[str, Any]
    groups: Sequence[str]
    notes: Sequence[str] = ()

    @property
    def headline(self) -> str:
        """Name of the main metric of the task."""
        return next(name for name in self.task.metrics if name in self.metrics)

    def text(self) -> str:
        """Return the scores as a table for a terminal."""
        width = max(map(len, self.metrics))
        lines = [f"{name:<{width}}  {figure}" for name, figure in self.metrics.items()]
        lines += [*self._extra_text(), "", self._samples(), *self.notes]
        return "\n".join(lines)

    def _samples(self) -> str:
        interval = "" if not self.provenance.get("bootstrap") else "; 95 % intervals over groups"
        return f"{len(self.groups)} samples in {len(set(self.groups))} groups{interval}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; undefined values are None."""
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
        """Draw the figures.

        Returns:
            Figures by name.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write the report to a folder, all files or none.

        The files are ``metrics.json``, ``metrics.csv``, ``predictions.csv`` for predictions in table form,
        ``report.md``, and the figures as PNG.

        Args:
            folder: Folder of the report.

        Returns:
            The folder.

        Raises:
            StorageError: The files could not be written; existing files in `folder` are unchanged.
            MissingExtraError: matplotlib is not installed.
        """
        folder, figures = Path(folder), self.figures()
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        writers: dict[str, Callable[[Path], Any]] = {
            "metrics.json": partial(write_text, text=text + "\n"),
            "metrics.csv": self._write_metrics,
            **self._extra_files(),
            "report.md": partial(write_text, text=self.markdown(figures)),
        }
        for name, figure in figures.items():
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
        """Return the report as a Markdown page.

        Args:
            image_names: Names of PNG files next to the page, without suffix. Default: none.
        """
        lines = [f"# {self.provenance['model']} on {self.provenance['data']}", "", self._samples(), ""]
        lines += ["| metric | value |", "|---|---|"]
        lines += [f"| {name} | {figure} |" for name, figure in self.metrics.items()]
        lines += self._extra_markdown()
        lines += [""] + [f"- {note}" for note in self.notes]
        lines += ["", *(f"![{name}]({name}.png)\n" for name in image_names), "## Provenance", ""]
        lines += [f"- {key}: `{value}`" for key, value in self.provenance.items()]
        return "\n".join(lines) + "\n"

    # --- hooks of subclasses ----------------------------------------------------------------------

    def _extra_text(self) -> list[str]:
        return []

    def _extra_data(self) -> dict[str, Any]:
        return {}

    def _extra_rows(self) -> list[tuple[str, str, MetricValue]]:
        """Return (metric, class or part, value) for the table of scores."""
        return []

    def _extra_files(self) -> dict[str, Callable[[Path], Any]]:
        return {}

    def _extra_markdown(self) -> list[str]:
        return []


def to_json(metric_value: MetricValue) -> dict[str, float | None]:
    """Convert a value to a dictionary for JSON; NaN becomes None.

    Args:
        metric_value: Value to convert.
    """
    return {name: None if math.isnan(value) else value for name, value in metric_value._asdict().items()}


def _format_cells(metric_value: MetricValue) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in metric_value]


def write_text(path: Path, text: str) -> None:
    """Write text to a file, directly and not atomically.

    Args:
        path: Path of the file.
        text: Text to write, in UTF-8.
    """
    path.write_text(text, encoding="utf-8")


def build_provenance(
    data: GeoDataset,
    sources: Sequence[str],
    model_provenance: Mapping[str, Any],
    *,
    n_bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Return the information that reproduces a result.

    Args:
        data: Dataset.
        sources: Sources of the scored samples, for the digest.
        model_provenance: Provenance of the predictions.
        n_bootstrap: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
    """
    return {
        **model_provenance,
        "data": data.card.name,
        "data_digest": data_digest(sources),
        "bootstrap": n_bootstrap,
        "seed": seed,
        **run_provenance(),
    }
