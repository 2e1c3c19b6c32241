"""Bias correction of winter precipitation over Iberia on the E-OBS grid, for a reanalysis and climate models.

    python examples/studies/iberia_bias_correction.py --data ../shared/data --test-winters 1996-1998

NCEP has the same days as E-OBS: networks and statistical methods correct its precipitation and are scored day
by day. CMIP5 and CORDEX are free-running models, so none of their days corresponds to a day of E-OBS. The
quantile methods are fitted on their own distributions, a network on the precipitation of NCEP. Both are
scored by distributions alone, never by RMSE or correlation. Everything is fitted on the winters before the
first test winter; precipitation is the only predictor.

The script writes table.csv, free_running.csv and two figures to --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rain_study import (
    Entry,
    baselines,
    compare,
    draw,
    fitted,
    networks,
    quantiles,
    rounded,
    whole,
    write_table,
)

import geovision
from geovision.datasets.iberia import SOURCES, IberiaCorrection
from geovision.metrics.functional import extremes, regression
from geovision.models.geomodel import GeoModel

FREE = ("cmip5", "cordex")
UNPAIRED = ("bilinear", "linear-scaling", "quantile-mapping", "quantile-delta")


def main() -> None:
    """Run the study."""
    options = arguments()
    root = options.data / "iberia"
    small = {"model_args": {"widths": [8, 16, 32]}}
    entries = [
        *baselines("biascorrect"),
        Entry("ridge", "biascorrect-ridge"),
        Entry("maunet-residual", "biascorrect-maunet-residual", small),
        *networks("biascorrect", (8, 16, 32), 1),
    ]
    training, test = winters(root, options.test_winters, "ncep")
    rows, points, lines = [], {}, {}
    for entry, row, line in compare(entries, training, test, options.out / "ncep"):
        rows.append(row)
        points[entry.label] = (row["rmse"], row["p99_bias"])
        lines[entry.label] = line
    facts = {"test_winters": options.test_winters, "seed": 0}
    write_table(options.out / "table.csv", rows, files(root, ["ncep"]), **facts)
    shown = {name: line for name, line in lines.items() if name in (*UNPAIRED, "ridge", "maunet-residual")}
    draw(options.out / "figure.png", points, shown)
    network = next(entry for entry in entries if entry.label == "maunet-residual")
    model, _ = fitted(network, training, options.out / "ncep")
    free_rows, free_points, free_lines = free_running(root, options, (network, model))
    write_table(options.out / "free_running.csv", free_rows, files(root, FREE), **facts)
    draw(options.out / "free_running.png", free_points, free_lines, across="Wasserstein distance")


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains iberia/")
    parser.add_argument("--test-winters", default="1996-1998", metavar="FIRST-LAST", help="or one year")
    parser.add_argument("--out", type=Path, default=Path("runs/iberia_bias_correction"), help="output folder")
    return parser.parse_args()


def winters(root: Path, test: str, source: str) -> tuple[IberiaCorrection, IberiaCorrection]:
    """Return the winters before the first test winter, and the test winters."""
    every = IberiaCorrection(root, origin=source, synchronous=source == "ncep")
    years = [int(group.split()[-1]) for group in every.groups]
    first, _, last = test.partition("-")
    begin, end = int(first), int(last or first)
    return (
        every.subset([day for day, year in enumerate(years) if year < begin]),
        every.subset([day for day, year in enumerate(years) if begin <= year <= end]),
    )


def files(root: Path, sources: Any) -> list[Path]:
    """Return the files of E-OBS and of the sources."""
    return [root / SOURCES[f"{name}.pr"].file for name in ("eobs", *sources)]


def free_running(root: Path, options: Any, network: tuple[Entry, GeoModel]) -> tuple[list, dict, dict]:
    """Return rows scored by distributions alone, and points and lines of the figure."""
    rows: list[dict[str, Any]] = []
    points, lines = {}, {}
    for source in FREE:
        training, test = winters(root, options.test_winters, source)
        models = {}
        for name in UNPAIRED:
            entry = Entry(name, f"biascorrect-{name}")
            models[name], _ = fitted(entry, training, options.out / source)
        models["maunet-residual, trained on ncep"] = moved(*network, test)
        for name, model in models.items():
            prediction, truth = whole(model, test)
            rows.append(distributions(f"{source}, {name}", prediction, truth))
            points[rows[-1]["method"]] = (rows[-1]["wasserstein"], rows[-1]["p99_bias"])
            lines[rows[-1]["method"]] = quantiles(prediction, truth)
            print(rows[-1], flush=True)
    return rows, points, lines


def moved(entry: Entry, model: GeoModel, data: IberiaCorrection) -> GeoModel:
    """Return the network for data on another input grid; the network operates on the output grid."""
    other = geovision.create(entry.model, **{**data.model_kwargs(), **entry.options})
    other.load_state_dict(model.state_dict())
    return other


def distributions(label: str, prediction: Any, truth: Any) -> dict[str, Any]:
    """Return scores of days that do not correspond to the observed days."""
    found = {
        "bias": regression.bias(prediction, truth),
        "p95_bias": extremes.quantile_bias(prediction, truth, 0.95),
        "p99_bias": extremes.quantile_bias(prediction, truth, 0.99),
        "p999_bias": extremes.quantile_bias(prediction, truth, 0.999),
        "r01_bias": extremes.index_bias(extremes.r01, prediction, truth),
        "sdii_bias": extremes.index_bias(extremes.sdii, prediction, truth),
        "rx1day_bias": extremes.index_bias(extremes.rx1day, prediction, truth),
        "wasserstein": regression.wasserstein(prediction, truth),
    }
    return {"method": label, **rounded({name: float(value) for name, value in found.items()})}


if __name__ == "__main__":
    main()
