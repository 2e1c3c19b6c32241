"""Which source carried the decision, over plains and over ridges? The paper's Fig. 11 and two checks of it.

    python examples/studies/hail_reasons.py

HINet is trained as in `examples/studies/hail_study.py` and asked about test samples with hail: what each of
the 16 joint maps adds to the mean logit (DeepLIFT through UCUNet alone), what the values of each source add
(integrated gradients through the whole network), and what is lost without each source, over the whole map
and apart where hail is and where none is. Where contributions miss the difference that they explain by more
than 5 %, the table counts it; such samples are left out of the means. Writes ``reasons.csv``,
``reasons.png`` and ``lost.csv``. For samples and a model of one's own the command does the
same: ``geovision explain MODEL SAMPLES --method deeplift --group-by terrain``.
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
"""Of each kind of terrain, at most."""

STEPS = 64


def main() -> None:
    options = arguments(__doc__, "runs/hail_study").parse_args()
    study = Study(options)
    study.row(WHOLE, 0)
    model = geovision.load(study.folder(WHOLE, 0))
    tally = AttributionSummary()
    for kind in ("plain", "complex"):
        for sample in with_hail(study, kind):
            tally.add(geovision.explain(model, masked(sample), method="deeplift", layer="mdffm"), kind)
            tally.add(
                geovision.explain(model, masked(sample), method="integrated-gradients", steps=STEPS), kind
            )
    tally.save(options.out, "reasons")
    write_rows(
        [lost(model, with_hail(study, kind), kind) for kind in ("plain", "complex")], options.out / "lost.csv"
    )


def with_hail(study: Study, kind: str) -> list[Sample]:
    """Test samples over one kind of terrain that have hail."""
    chosen = (study.test[index] for index, terrain in enumerate(study.test.terrain) if terrain == kind)
    return [sample for sample in chosen if sample["target"].any()][:SAMPLES]


def lost(model: GeoModel, samples: Sequence[Sample], terrain: str) -> dict[str, Any]:
    """By how much the mean logit of cells with hail, and of the others, falls without each source."""
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
    """The inputs of a sample as `geovision.explain` takes them, what is missing masked."""
    return {
        name: np.ma.masked_array(values.numpy(), ~sample["valid"][name].numpy())
        for name, values in sample["inputs"].items()
    }


if __name__ == "__main__":
    main()
