"""Baseline scores for precipitation networks on winters over Iberia: NCEP reanalysis to E-OBS at 0.5 degrees.

Every method is fitted on three quarters of the winters and scored on the rest, in four folds of four complete
winters. Scores are computed over all days together. Ridge regression uses the leading principal components of
five fields of NCEP; all other methods use its precipitation alone.

    python benchmarks/rain_baselines.py --data ../shared/data

The script prints a table and writes ``benchmarks/rain_baselines.csv``. It needs the extras geo, baselines and
train.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from torch import Tensor

from geovision._atomic_io import sha256
from geovision.datasets.iberia import SOURCES
from geovision.metrics.functional import extremes, neighborhood, regression, spectra
from geovision.metrics.functional.contingency import contingency
from geovision.models.quantile_mapping import EmpiricalQuantileMapping, LinearScaling, QuantileDeltaMapping
from geovision.provenance import run_provenance
from geovision.readers.grids import open_paired, regrid, split_groups

TABLE = Path(__file__).with_suffix(".csv")
PREDICTORS = ("ncep.pr", "ncep.tas", "ncep.psl", "ncep.ta850", "ncep.hus850")
FOLDS = 4
COMPONENTS = 60
RANGE = 100.0  # mm/day, of PSNR and SSIM

Method = Callable[[np.ndarray, np.ndarray], Tensor]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains iberia/")
    root = parser.parse_args().data / "iberia"
    paired = open_paired(root, [SOURCES[name] for name in PREDICTORS], SOURCES["eobs.pr"])
    print(paired)
    *predictors, observed = paired.fields.values()
    truth = torch.tensor(observed.values)
    winter = np.array(split_groups(observed, "winter"))
    rows = [
        {"method": name, **scores(across_winters(method, winter, truth), truth)}
        for name, method in methods(predictors, observed, truth).items()
    ]
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.3f}" if isinstance(value, float) else f"{value:18}"
                for key, value in row.items()
            )
        )
    write(rows, root)


def across_winters(method: Method, winter: np.ndarray, truth: Tensor) -> Tensor:
    """Return the prediction of a method for each day, fitted on the other winters."""
    found = torch.full_like(truth, torch.nan)
    for held in np.array_split(np.unique(winter), FOLDS):
        test = np.isin(winter, held)
        found[torch.from_numpy(test)] = method(np.flatnonzero(~test), np.flatnonzero(test)).to(found)
    return found


def methods(predictors: list, observed, truth: Tensor) -> dict[str, Method]:
    """Return the methods; each is called with the days to fit on and the days to predict."""
    bilinear = torch.tensor(regrid(predictors[0], observed).values)
    nearest = torch.tensor(regrid(predictors[0], observed, "nearest").values)
    columns = np.concatenate([field.values.reshape(len(field), -1) for field in predictors], axis=1)

    def corrected(kind: type) -> Method:
        def method(fit: np.ndarray, test: np.ndarray) -> Tensor:
            correction = kind()
            correction.fit(bilinear[fit], truth[fit])
            return correction(bilinear[test])

        return method

    return {
        "climatology": lambda fit, test: truth[fit].nanmean(0).expand(len(test), -1, -1),
        "nearest": lambda fit, test: nearest[test],
        "bilinear": lambda fit, test: bilinear[test],
        "linear scaling": corrected(LinearScaling),
        "quantile mapping": corrected(EmpiricalQuantileMapping),
        "quantile delta": corrected(QuantileDeltaMapping),
        "ridge, 60 PCs": lambda fit, test: ridge(columns, truth, fit, test),
    }


def ridge(columns: np.ndarray, truth: Tensor, fit: np.ndarray, test: np.ndarray) -> Tensor:
    """Return nonnegative precipitation of each cell from principal components of all predictors."""
    scaled = (columns - columns[fit].mean(0)) / columns[fit].std(0)
    components = PCA(COMPONENTS, random_state=0).fit(scaled[fit])
    land = torch.isfinite(truth).all(0)
    ridge = Ridge(1.0).fit(components.transform(scaled[fit]), truth[fit][:, land].numpy())
    found = torch.full((len(test), *truth.shape[1:]), torch.nan)
    found[:, land] = torch.tensor(ridge.predict(components.transform(scaled[test]))).float().clamp_min(0)
    return found


def scores(prediction: Tensor, truth: Tensor) -> dict[str, float]:
    """Return the scores of a method."""
    heavy = contingency(prediction, truth, 10.0)
    found = {
        "rmse": regression.rmse(prediction, truth),
        "mae": regression.mae(prediction, truth),
        "bias": regression.bias(prediction, truth),
        "r": regression.correlation(prediction, truth),
        "r_in_time": regression.correlation(prediction, truth, over="time").nanmean(),
        "psnr_range_100": regression.psnr(prediction, truth, data_range=RANGE),
        "ssim_range_100": regression.ssim(prediction, truth, data_range=RANGE),
        "p95_bias": extremes.quantile_bias(prediction, truth, 0.95),
        "p99_bias": extremes.quantile_bias(prediction, truth, 0.99),
        "p999_bias": extremes.quantile_bias(prediction, truth, 0.999),
        "r01_bias": extremes.index_bias(extremes.r01, prediction, truth),
        "sdii_bias": extremes.index_bias(extremes.sdii, prediction, truth),
        "rx1day_bias": extremes.index_bias(extremes.rx1day, prediction, truth),
        "csi_10mm": heavy.critical_success_index,
        "ets_10mm": heavy.equitable_threat_score,
        "fss_10mm_5_cells": neighborhood.fss(prediction, truth, 10.0, 5),
        "ralsd_db": spectra.ralsd(prediction, truth),
        "wasserstein": regression.wasserstein(prediction, truth),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def write(rows: list[dict], root: Path) -> None:
    """Write the rows with their provenance."""
    digests = ",".join(sha256(root / SOURCES[name].file)[:12] for name in (*PREDICTORS, "eobs.pr"))
    stamp = {**run_provenance(), "data": digests, "folds": FOLDS}
    with TABLE.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *stamp], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **stamp} for row in rows)


if __name__ == "__main__":
    main()
