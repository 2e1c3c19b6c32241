"""Contribution of each source to hail predictions over plains and ridges: Fig. 11 of the paper and checks.

    python examples/studies/hail_reasons.py

HINet is trained as in `examples/studies/hail_study.py` and explained on test samples with hail, in three
ways:

- the contribution of each of the 16 joint maps to the mean logit (DeepLIFT through UCUNet alone);
- the contribution of the values of each source (integrated gradients through the whole network);
- the loss without each source, over the whole map, over cells with hail and over cells without.

If contributions miss the explained difference by more than 5 %, the table counts the sample and the means
exclude it. The script writes ``reasons.csv``, ``reasons.png`` and ``lost.csv``. A command does the same for
your samples and your model: ``geovision explain MODEL SAMPLES --method deeplift --group-by terrain``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from hail_study import WHOLE, Study, arguments, write_rows

import geovision
from geovision.attribution import AttributionSummary
from geovision.attribution.ablation import source_ablation
from geovision.datasets.base import Sample, collate
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit

SAMPLES = 24
"""Largest number of samples of each kind of terrain."""

STEPS = 64


def main() -> None:
    """Run the study."""
    options = arguments(__doc__, "runs/hail_study").parse_args()
    study = Study(options)
    study.row(WHOLE, 0)
    model = geovision.load(study.folder(WHOLE, 0))
    contributions = AttributionSummary()
    for kind in ("plain", "complex"):
        for sample in with_hail(study, kind):
            contributions.add(
                geovision.explain(model, masked(sample), method="deeplift", layer="mdffm"), kind
            )
            contributions.add(
                geovision.explain(model, masked(sample), method="integrated-gradients", steps=STEPS), kind
            )
    contributions.save(options.out, "reasons")
    write_rows(
        [lost(model, with_hail(study, kind), kind) for kind in ("plain", "complex")], options.out / "lost.csv"
    )


def with_hail(study: Study, kind: str) -> list[Sample]:
    """Return test samples with hail over one kind of terrain."""
    chosen = (study.test[index] for index, terrain in enumerate(study.test.terrain) if terrain == kind)
    return [sample for sample in chosen if sample["target"].any()][:SAMPLES]


def lost(model: GeoModel, samples: Sequence[Sample], terrain: str) -> dict[str, Any]:
    """Return the decrease of the mean logit without each source, in cells with and without hail."""
    batch = collate(samples)
    hail = batch["target"] > 0.5
    row: dict[str, Any] = {"terrain": terrain, "samples": len(samples)}
    for where, cells in {"hail": hail, "none": ~hail}.items():
        found = source_ablation(
            model,
            batch["inputs"],
            valid=batch["valid"],
            score=lambda output, cells=cells: output.values[cells].mean(),
        )
        row |= {f"{source}_{where}": round(each, 3) for source, each in found.items()}
    return row | {"commit": git_commit(), "command": " ".join(sys.argv)}


def masked(sample: Sample) -> dict[str, Any]:
    """Return the inputs of a sample for `geovision.explain`, with missing values masked."""
    return {
        name: np.ma.masked_array(values.numpy(), ~sample["valid"][name].numpy())
        for name, values in sample["inputs"].items()
    }


if __name__ == "__main__":
    main()
