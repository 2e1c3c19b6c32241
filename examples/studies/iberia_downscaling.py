"""Downscaling of winter precipitation over Iberia from the NCEP reanalysis to 0.5 degrees, by all models.

    python examples/studies/iberia_downscaling.py --data ../shared/data --test-winters 1996-1998

Everything is fitted on the winters before the first test winter, and scored on the test winters. These may be
any winters of the files; a winter has the year of its January. Networks get five fields of NCEP and the
moisture flux, of the day and of the adjacent days, and so do two of the ridge regressions. The first ridge
regression gets the five fields of the day. Interpolation and correction methods get precipitation alone.

The prediction of the ensemble is the mean of its members with a weight of a quantile mapping. The rows below
it contain the results of other weights, and of the pooled members. The script writes a table and a figure to
--out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rain_study import Entry, baselines, basic, compare, draw, networks, whole, with_predictors, write_table
from torch import Tensor

from geovision.datasets.iberia import SOURCES, IberiaWinters
from geovision.metrics.functional import extremes
from geovision.models.geomodel import GeoModel
from geovision.models.residual_learning import ResidualHead

FIELDS = ("air_temperature", "air_pressure_at_mean_sea_level", "air_temperature_850", "specific_humidity_850")
SHARES = (0.0, 0.2, 0.4, 0.5, 0.55, 0.6, 0.8, 1.0)


def main() -> None:
    """Run the study."""
    options = arguments()
    root = options.data / "iberia"
    training, test = winters(root, options.test_winters)
    print(
        f"{len(set(training.groups))} winters to fit on, {len(set(test.groups))} to score, {len(test)} days"
    )
    rows, points, lines, curves = [], {}, {}, {}
    for entry, row, line in compare(chosen(options.models), training, test, options.out, around):
        others = row.pop("others", [])
        rows += [row | {"predictors": len(with_predictors(test, entry).channels)}, *others]
        points[entry.label] = (row["rmse"], row["p99_bias"])
        if entry.label.startswith(("ridge", "maunet", "quantile-mapping")):
            lines[entry.label] = line
        if others:
            shares = [each for each in others if "share" in each["method"]]
            name = f"{entry.label}, share of the mapping 0 to 1"
            curves[name] = [each["rmse"] for each in shares], [each["p99_bias"] for each in shares]
    files = [root / SOURCES[name].file for name in ("eobs.pr", *(f"ncep.{field}" for field in NCEP))]
    write_table(options.out / "table.csv", rows, files, test_winters=options.test_winters, seed=0)
    draw(options.out / "figure.png", points, lines, curves=curves)


NCEP = ("pr", "tas", "psl", "ta850", "hus850")


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains iberia/")
    parser.add_argument("--test-winters", default="1996-1998", metavar="FIRST-LAST", help="or one year")
    parser.add_argument("--models", nargs="*", metavar="ROW", help="rows of the table; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/iberia_downscaling"), help="output folder")
    return parser.parse_args()


def winters(root: Path, test: str) -> tuple[IberiaWinters, IberiaWinters]:
    """Return the winters before the first test winter, and the test winters."""
    every = IberiaWinters(root)
    years = [int(group.split()[-1]) for group in every.groups]
    first, _, last = test.partition("-")
    begin, end = int(first), int(last or first)
    return (
        every.subset([day for day, year in enumerate(years) if year < begin]),
        every.subset([day for day, year in enumerate(years) if begin <= year <= end]),
    )


def chosen(names: list[str] | None) -> list[Entry]:
    """Return the entries with the given labels. None: all entries."""
    entries = [
        *baselines("downscale"),
        Entry("ridge", "downscale-ridge", predictors=FIELDS),
        Entry("ridge, all predictors", "downscale-ridge"),
        Entry(
            "ridge, all, stronger", "downscale-ridge", {"model_args": {"components": 100, "penalty": 300.0}}
        ),
        Entry("maunet-residual", "downscale-maunet-residual"),
        Entry("maunet-ensemble", "downscale-maunet-ensemble"),
        *networks("downscale", (16, 32, 64), 2),
    ]
    return [entry for entry in entries if not names or entry.label in names]


def around(model: GeoModel, test: IberiaWinters) -> dict[str, Any]:
    """Return rows of other mapping weights and of the pooled members; empty for other models."""
    head = model.head
    if not isinstance(head, ResidualHead):
        return {}
    own, rows = head.mapping_weight, []
    for share in SHARES:
        head.mapping_weight = share
        prediction, truth = whole(model, test)
        rows.append(basic(f"  of it, share {share:g}", prediction, truth))
    head.mapping_weight = own
    return {"others": [*rows, pooled(model, test)] if len(head.convolution.weight) > 1 else rows}


def pooled(model: GeoModel, test: IberiaWinters) -> dict[str, Any]:
    """Return the P99 bias of the pooled days of all members, without the mapping."""
    members, truths = [], []
    for sample in (test[day] for day in range(len(test))):
        inputs = {name: values[None] for name, values in sample["inputs"].items()}
        valid = {name: mask[None] for name, mask in sample["valid"].items() if name in inputs}
        with torch.no_grad():
            members.append(model.head.members(model(inputs, valid=valid).values)[0])
        truths.append(sample["target"].where(sample["valid"]["target"], torch.nan))
    predicted, truth = torch.stack(members), torch.stack(truths)
    every = predicted.transpose(0, 1).flatten(0, 1)[:, None]
    tail = p99(every, truth) - p99(truth, truth)
    return {"method": "  of it, members pooled", "p99_bias": round(float(tail), 4)}


def p99(field: Tensor, truth: Tensor) -> Tensor:
    """Return the mean 99th percentile of the cells with observations."""
    return extremes.quantile(field, 0.99)[torch.isfinite(truth).any(0)].nanmean()


if __name__ == "__main__":
    main()
