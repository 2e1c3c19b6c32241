"""Which source carried the decision, over plains and over ridges? The paper's Fig. 11 and two checks of it.

    python examples/hail_reasons.py

HINet is trained as in `examples/hail_study.py` and asked about test samples with hail: what each of the 16
joint maps adds to the mean logit (DeepLIFT through UCUNet alone), what the values of each source add
(integrated gradients through the whole network), and what is lost without each source. Where contributions
miss the difference that they explain by more than 5 %, the table counts it; such samples are left out of the
means, and the line says how many stayed. Writes ``reasons.csv`` and ``reasons.png``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hail_study import WHOLE, Study, arguments, write_rows
from matplotlib.figure import Figure

import geovision
from geovision.datasets.base import Sample, collate
from geovision.explanation.left_out import left_out
from geovision.models.geomodel import GeoModel
from geovision.storage import write_files

TOLERANCE = 0.05
SAMPLES = 24
"""Of each kind of terrain, at most."""

STEPS = 64
COLOURS = {"radar": "#0072b2", "fy4b": "#e69f00", "era5": "#009e73", "dem": "#cc79a7"}


def main() -> None:
    options = arguments(__doc__, "runs/hail_study")
    study = Study(options)
    study.row(WHOLE, 0)
    model = geovision.load(study.folder(WHOLE, 0))
    rows = [row for kind in ("plain", "complex") for row in explained(model, study, kind)]
    write_rows(rows, options.out / "reasons.csv")
    figure = draw([row for row in rows if row["method"] == "deeplift"], model.network.fused_channels)
    write_files(options.out, {"reasons.png": lambda path: figure.savefig(path, format="png", dpi=150)})


def explained(model: GeoModel, study: Study, kind: str) -> Iterator[dict[str, Any]]:
    """A row a method and channel, of the samples with hail over one kind of terrain."""
    chosen = [
        sample
        for index, terrain in enumerate(study.test.terrain)
        if terrain == kind and (sample := study.test[index])["target"].any()
    ][:SAMPLES]
    found: dict[str, list[tuple[dict[str, float], float]]] = defaultdict(list)
    for sample in chosen:
        asked = masked(sample)
        joint = geovision.explain(model, asked, method="deeplift", layer="mdffm")
        found["deeplift"].append((_flat(joint.contributions), _error(joint)))
        values = geovision.explain(model, asked, method="integrated-gradients", steps=STEPS)
        by_source = {name: sum(each.values()) for name, each in values.contributions.items()}
        found["integrated-gradients"].append((by_source, _error(values)))
        batch = collate([sample])
        found["left out"].append((left_out(model, batch["inputs"], valid=_inputs(batch)), 0.0))
    for method, each in found.items():
        whole = [contributions for contributions, error in each if error <= TOLERANCE]
        for name in each[0][0]:
            parts = np.array([contributions[name] for contributions in whole])
            yield {
                "terrain": kind, "method": method, "channel": name, "mean": _rounded(parts),
                "mean_size": _rounded(np.abs(parts)), "samples": len(whole), "asked": len(each),
                "incomplete": len(each) - len(whole),
                "largest_error": float(f"{max(error for _, error in each):.2g}"),
            }  # fmt: skip


def masked(sample: Sample) -> dict[str, Any]:
    """The inputs of a sample as `geovision.explain` takes them, what is missing masked."""
    return {
        name: np.ma.masked_array(values.numpy(), ~sample["valid"][name].numpy())
        for name, values in sample["inputs"].items()
    }


def _inputs(batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: mask for name, mask in batch["valid"].items() if name != "target"}


def _flat(contributions: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: value for each in contributions.values() for name, value in each.items()}


def _error(found: Any) -> float:
    return found.completeness.relative_error


def _rounded(parts: Any) -> float:
    return round(float(parts.mean()), 5) if len(parts) else float("nan")


def draw(rows: Sequence[Mapping[str, Any]], channels: Sequence[tuple[str, str]]) -> Figure:
    """Mean size of the contribution of each joint map, as shares, over plains and over ridges."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(channels))
    for shift, kind, hatch in ((-0.2, "plain", ""), (0.2, "complex", "///")):
        sizes = np.array([row["mean_size"] for row in rows if row["terrain"] == kind])
        colours = [COLOURS[source] for source, _ in channels]
        axes.bar(places + shift, sizes / sizes.sum(), 0.38, color=colours, hatch=hatch, edgecolor="white")
        axes.bar(0, 0, color="grey", hatch=hatch, edgecolor="white", label=kind)
    axes.set_xticks(places, [f"{number}" for number in places])
    short = [channel.removeprefix("brightness_temperature_") for _, channel in channels]
    names = ", ".join(f"{number} {channel}" for number, channel in enumerate(short))
    axes.set_xlabel("joint map\n" + _wrapped(names), fontsize=7)
    axes.set_ylabel("share of the contributions")
    axes.legend(frameon=False)
    return figure


def _wrapped(text: str, width: int = 90) -> str:
    lines = [""]
    for word in text.split(", "):
        lines[-1:] = [f"{lines[-1]}{word}, "] if len(lines[-1]) < width else [lines[-1], f"{word}, "]
    return "\n".join(lines).rstrip(", ")


if __name__ == "__main__":
    main()
