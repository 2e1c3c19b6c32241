"""What each channel adds on the mean of many samples, group by group: the bars of many explanations."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovision._atomic_io import write_files
from geovision.attribution.result import Explanation
from geovision.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ABLATION", "AttributionSummary"]

ABLATION = "ablation"
"""Stands in the column of the method where it is told what is lost without a source."""

MAX_COMPLETENESS_ERROR = 0.05
"""By what part of it contributions may miss the difference from the baseline, and still enter a mean."""

_BAR_HEIGHT = 0.11  # inches
_HATCHES = ("", "///", "...", "xxx")


class AttributionSummary:
    """Means of contributions over samples of one or more groups, such as kinds of terrain.

    Explanations come one by one, and nothing but their numbers is kept. Those whose contributions miss by
    more than 5 % what they explain are counted and left out of the means.
    """

    def __init__(self) -> None:
        self._contributions: dict[tuple[str, str], list[tuple[dict[str, float], float]]] = {}
        self._first_method = (
            ""  # method: what is lost without a source is the same for all of them, and counts once
        )

    def add(self, explanation: Explanation, group: str = "") -> None:
        """Count one explanation in; one of a method whose values do not add up has nothing to count but
        what is lost without each source."""
        self._first_method = self._first_method or explanation.config.method
        if explanation.completeness is not None and explanation.contributions:
            error = explanation.completeness.relative_error
            self._contributions.setdefault((group, explanation.config.method), []).append(
                (_channel_contributions(explanation), error)
            )
        if explanation.ablation and explanation.config.method == self._first_method:
            self._contributions.setdefault((group, ABLATION), []).append((dict(explanation.ablation), 0.0))

    @property
    def num_samples(self) -> int:
        """How many have something to count, whether it adds up or not."""
        each = Counter(method for (_, method), parts in self._contributions.items() for _ in parts)
        return max(each.values(), default=0)

    @property
    def groups(self) -> list[str]:
        return sorted({group for group, _ in self._contributions})

    def rows(self) -> list[dict[str, Any]]:
        """A row a group, method and channel: the mean of what it adds, in units of the logit or of the
        field; the mean of its size, since what speaks for and against would cancel; samples in the means
        and asked about, incomplete ones, and the largest error of completeness. A source counts in the
        samples that have it."""
        rows = []
        for (group, method), parts in sorted(self._contributions.items()):
            for name in dict.fromkeys(name for each, _ in parts for name in each):
                asked = [(each[name], error) for each, error in parts if name in each]
                values = np.array([value for value, error in asked if error <= MAX_COMPLETENESS_ERROR])
                rows.append(
                    {
                        "group": group,
                        "method": method,
                        "channel": name,
                        "mean": float(values.mean()) if len(values) else None,
                        "mean_size": float(np.abs(values).mean()) if len(values) else None,
                        "samples": len(values),
                        "asked": len(asked),
                        "incomplete": len(asked) - len(values),
                        "largest_error": max(error for _, error in asked),
                    }
                )
        return rows

    def plot(self) -> Figure:
        """A panel a method: of contributions the mean size of each channel's, as a share of all; of sources
        left out the mean of what is lost. Channels of one source in one colour, groups side by side.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        rows = self.rows()
        methods = list(dict.fromkeys(row["method"] for row in rows))
        most = max(len({row["channel"] for row in rows if row["method"] == each}) for each in methods)
        figure = new_figure(4.2 * len(methods), _BAR_HEIGHT * most * (len(self.groups) + 0.5) + 1.2)
        for axes, method in zip(figure.subplots(1, len(methods), squeeze=False)[0], methods, strict=True):
            self._draw(axes, [row for row in rows if row["method"] == method], method)
            axes.set_ylim(most - 0.5, -0.5)  # bars of one height in all panels
        return figure

    def _draw(self, axes: Axes, rows: Sequence[Mapping[str, Any]], method: str) -> None:
        names = list(dict.fromkeys(row["channel"] for row in rows))
        sources = list(dict.fromkeys(name.split()[0] for name in names))
        height = 0.8 / len(self.groups)
        for place, group in enumerate(self.groups):
            own = [row for row in rows if row["group"] == group and row["samples"]]
            if not own:
                continue
            colours = [f"C{sources.index(row['channel'].split()[0])}" for row in own]
            values = np.array([row["mean" if method == ABLATION else "mean_size"] for row in own])
            if method != ABLATION:
                values = values / (values.sum() or 1.0)
            at = np.array([names.index(row["channel"]) for row in own]) - 0.4 + height * (place + 0.5)
            hatch = _HATCHES[place % len(_HATCHES)]
            axes.barh(at, values, height, color=colours, hatch=hatch, edgecolor="white")
            if group:
                axes.barh(
                    0,
                    0,
                    color="grey",
                    hatch=hatch,
                    edgecolor="white",
                    label=f"{group}, {max(row['samples'] for row in own)} samples",
                )
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.tick_params(labelsize=6)
        axes.set_title(
            "what is lost without each" if method == ABLATION else f"share by {method}", fontsize=9
        )
        axes.spines[["top", "right"]].set_visible(False)
        if any(self.groups):
            axes.legend(frameon=False, fontsize=7, loc="lower right")

    def save(self, folder: str | Path, name: str = "means") -> tuple[Path, Path]:
        """Write ``NAME.csv`` and ``NAME.png``, both or neither.

        Raises:
            StorageError: They could not be written; what stood there is untouched.
            MissingExtraError: matplotlib is not installed.
        """
        rows, figure, folder = self.rows(), self.plot(), Path(folder)

        def write_table(path: Path) -> None:
            with path.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                for row in rows:
                    writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})

        write_files(
            folder,
            {
                f"{name}.csv": write_table,
                f"{name}.png": lambda path: figure.savefig(path, format="png", dpi=130),
            },
        )
        return folder / f"{name}.csv", folder / f"{name}.png"


def _channel_contributions(explanation: Explanation) -> dict[str, float]:
    """What each channel adds, by ``"source channel"``. Channels of a layer name their sources themselves."""
    if explanation.config.method == "deeplift":
        (by_channel,) = explanation.contributions.values()
        return dict(by_channel)
    return {
        f"{source} {channel}": value
        for source, each in explanation.contributions.items()
        for channel, value in each.items()
    }
