"""Mean contributions of each channel over many explanations, by group."""

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
"""Value of the column ``method`` in rows that contain source ablations."""

MAX_COMPLETENESS_ERROR = 0.05
"""Largest relative error of completeness with which an explanation enters a mean."""

_BAR_HEIGHT = 0.11  # inches
_HATCHES = ("", "///", "...", "xxx")


class AttributionSummary:
    """Mean contributions of one or more groups, such as kinds of terrain.

    Explanations are added one by one, and only their numbers are kept. An explanation whose contributions
    miss the explained difference by more than 5 % is counted but excluded from the means.
    """

    def __init__(self) -> None:
        self._contributions: dict[tuple[str, str], list[tuple[dict[str, float], float]]] = {}
        self._first_method = ""  # ablations are the same for all methods and are counted for one only

    def add(self, explanation: Explanation, group: str = "") -> None:
        """Add one explanation.

        Contributions are counted only for methods whose contributions add up. Source ablations are counted
        for the first method only, because they do not depend on the method.

        Args:
            explanation: Explanation of one sample.
            group: Name of the group of the sample. Default: a single group without a name.
        """
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
        """Number of samples with contributions or ablations, complete or not."""
        each = Counter(method for (_, method), parts in self._contributions.items() for _ in parts)
        return max(each.values(), default=0)

    @property
    def groups(self) -> list[str]:
        """Sorted names of the groups."""
        return sorted({group for group, _ in self._contributions})

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per group, method and channel.

        ``mean`` is the mean contribution, in units of the logit or of the field. ``mean_size`` is the mean
        absolute contribution, in which positive and negative contributions do not cancel. ``samples`` is the
        number of samples in the means, and ``asked`` the number of all samples. ``incomplete`` is the number
        of excluded samples, and ``largest_error`` the largest relative error of completeness. A source is
        counted only in samples that contain it.

        Returns:
            The rows, sorted by group and method. Both means are None if no sample is complete.
        """
        rows = []
        for (group, method), parts in sorted(self._contributions.items()):
            for name in dict.fromkeys(name for each, _ in parts for name in each):
                pairs = [(each[name], error) for each, error in parts if name in each]
                values = np.array([value for value, error in pairs if error <= MAX_COMPLETENESS_ERROR])
                rows.append(
                    {
                        "group": group,
                        "method": method,
                        "channel": name,
                        "mean": float(values.mean()) if len(values) else None,
                        "mean_size": float(np.abs(values).mean()) if len(values) else None,
                        "samples": len(values),
                        "asked": len(pairs),
                        "incomplete": len(pairs) - len(values),
                        "largest_error": max(error for _, error in pairs),
                    }
                )
        return rows

    def plot(self) -> Figure:
        """Draw one panel of bars per method.

        For contributions a bar is the mean absolute contribution of a channel, as a share of the sum over
        channels. For ablations it is the mean drop of the score. Channels of one source have one color, and
        groups are side by side.

        Returns:
            The figure.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        rows = self.rows()
        methods = list(dict.fromkeys(row["method"] for row in rows))
        most = max(len({row["channel"] for row in rows if row["method"] == each}) for each in methods)
        figure = new_figure(4.2 * len(methods), _BAR_HEIGHT * most * (len(self.groups) + 0.5) + 1.2)
        for axes, method in zip(figure.subplots(1, len(methods), squeeze=False)[0], methods, strict=True):
            self._draw(axes, [row for row in rows if row["method"] == method], method)
            axes.set_ylim(most - 0.5, -0.5)  # the same bar height in all panels
        return figure

    def _draw(self, axes: Axes, rows: Sequence[Mapping[str, Any]], method: str) -> None:
        names = list(dict.fromkeys(row["channel"] for row in rows))
        sources = list(dict.fromkeys(name.split()[0] for name in names))
        height = 0.8 / len(self.groups)
        for place, group in enumerate(self.groups):
            own = [row for row in rows if row["group"] == group and row["samples"]]
            if not own:
                continue
            colors = [f"C{sources.index(row['channel'].split()[0])}" for row in own]
            values = np.array([row["mean" if method == ABLATION else "mean_size"] for row in own])
            if method != ABLATION:
                values = values / (values.sum() or 1.0)
            at = np.array([names.index(row["channel"]) for row in own]) - 0.4 + height * (place + 0.5)
            hatch = _HATCHES[place % len(_HATCHES)]
            axes.barh(at, values, height, color=colors, hatch=hatch, edgecolor="white")
            if group:
                axes.barh(
                    0,
                    0,
                    color="gray",
                    hatch=hatch,
                    edgecolor="white",
                    label=f"{group}, {max(row['samples'] for row in own)} samples",
                )
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.tick_params(labelsize=6)
        title = "drop of the score without each source" if method == ABLATION else f"share by {method}"
        axes.set_title(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if any(self.groups):
            axes.legend(frameon=False, fontsize=7, loc="lower right")

    def save(self, folder: str | Path, name: str = "means") -> tuple[Path, Path]:
        """Write ``NAME.csv`` and ``NAME.png``, both or neither.

        Args:
            folder: Folder of the two files.
            name: Name of the files without extension. Default: ``"means"``.

        Returns:
            Paths of the table and of the figure.

        Raises:
            StorageError: The files could not be written; existing files are unchanged.
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
    """Return the contribution of each channel by ``"source channel"``.

    Channels of a layer already contain the name of their source.
    """
    if explanation.config.method == "deeplift":
        (by_channel,) = explanation.contributions.values()
        return dict(by_channel)
    return {
        f"{source} {channel}": value
        for source, each in explanation.contributions.items()
        for channel, value in each.items()
    }
