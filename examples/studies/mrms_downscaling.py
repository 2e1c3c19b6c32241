"""Downscaling of radar rain rates over the western United States from 0.16 to 0.04 degrees, split by place.

    python examples/studies/mrms_downscaling.py --data ../shared/data --test-east-of -104

The coarse rate is the area mean of 4 x 4 cells of MRMS. The map is cut into squares of 64 x 64 cells. Squares
with their western edge east of --test-east-of are scored, the others are fitted on, so no place is in both.
The times are twelve minutes apart within one hour, so they are one sample of the weather. The study measures
whether the detail of one place resembles that of another. Squares that are mostly dry or not covered are
excluded. MAUNet, a plain U-Net of equal parameter count and SRCNN are trained with three seeds. The script
writes a table and a figure to --out.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from rain_study import (
    baselines,
    compare,
    draw,
    like_maunet,
    over_seeds,
    rounded,
    whole,
    write_table,
)

from geovision import registry
from geovision.datasets.base import DatasetCard, GeoDataset, Sample
from geovision.metrics.functional.neighborhood import fss
from geovision.models.geomodel import GeoModel
from geovision.readers.grids import coarsen, open_grid

FILE = "precip_rate_0p04deg_west.nc"
FACTOR, SIDE = 4, 64
HEAVY = 120.0  # mm/day, 5 mm/h
WET, COVERED = 0.05, 0.9  # smallest fraction of a square


class Squares(GeoDataset):
    """Squares of a precipitation map in mm/day with their coarse version; a place is a group.

    Args:
        file: NetCDF file of MRMS rain rates.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="squares",
        title="Squares of MRMS",
        source="NOAA MRMS",
        license="public domain",
        citation="Zhang et al. 2016, doi:10.1175/BAMS-D-14-00174.1",
        split_group="place",
        layout=FILE,
    )
    task: ClassVar[str] = "downscale"

    def __init__(self, file: Path) -> None:
        self.target = registry.find_task("downscale").target
        fine = open_grid(file, "precipitation")
        height, width = (fine.sizes[axis] // SIDE * SIDE for axis in ("lat", "lon"))
        fine = fine.isel(lat=slice(0, height), lon=slice(0, width))
        coarse = coarsen(fine, FACTOR)
        west = fine["lon"].values[::SIDE]
        truth, given = cut(fine.values, SIDE), cut(coarse.values, SIDE // FACTOR)
        rows = height // SIDE
        kept = [
            number
            for number, square in enumerate(truth)
            if np.isfinite(square).mean() >= COVERED and np.nanmean(square > 2.4) >= WET  # 0.1 mm/h
        ]
        self.truth, self.given = truth[kept], given[kept]
        place = np.array(kept) % (rows * len(west))
        self.west = west[place % len(west)]
        self.places = [f"place {number}" for number in place]
        self.numbers: Sequence[int] = range(len(kept))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def groups(self) -> Sequence[str]:
        """Place of each square."""
        return [self.places[number] for number in self.numbers]

    def read_sample(self, index: int) -> Sample:
        """Return a square and its coarse version."""
        number = self.numbers[index]
        given = torch.from_numpy(self.given[number]).float()[None]
        truth = torch.from_numpy(self.truth[number]).float()[None]
        return Sample(
            inputs={"fields": given.nan_to_num(0.0)},
            valid={"fields": torch.isfinite(given), "target": torch.isfinite(truth)},
            target=truth.nan_to_num(0.0),
            group=self.places[number],
            source=f"square {number}",
        )

    def subset(self, indices: Sequence[int]) -> Self:
        """Return the squares at some positions."""
        other = copy.copy(self)
        other.numbers = [self.numbers[index] for index in indices]
        return other

    def with_predictors(self, names: Sequence[str]) -> Self:
        """Return the data unchanged, because precipitation is the only channel."""
        return self

    def plot(self, sample: Sample, prediction: Any = None) -> Any:
        """Plot the coarse field, the prediction and the target."""
        from geovision.plots.fields import plot_fields

        predicted = None if prediction is None else prediction.values
        return plot_fields(
            sample["inputs"]["fields"][0].numpy(),
            predicted,
            sample["target"][0].numpy(),
            unit=self.target.channel.unit,
            levels=self.target.contour_levels,
        )

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Raise an error, because there are no generated squares."""
        raise NotImplementedError("Squares have no generated samples; pass a file of MRMS")


def cut(fields: np.ndarray, side: int) -> np.ndarray:
    """Cut fields, shape (time, y, x), into squares, shape (time * rows * columns, side, side)."""
    times, height, width = fields.shape
    squares = fields.reshape(times, height // side, side, width // side, side).swapaxes(2, 3)
    return squares.reshape(-1, side, side)


def heavy(model: GeoModel, test: GeoDataset) -> dict[str, Any]:
    """Return the fractions skill score of heavy precipitation."""
    return rounded({"fss_120_5": float(fss(*whole(model, test), HEAVY, 5))})


def main() -> None:
    """Run the study."""
    options = arguments()
    source = options.data / "mrms" / FILE
    data = Squares(source)
    east = data.west > options.test_east_of
    training, test = (data.subset(np.flatnonzero(east == which).tolist()) for which in (False, True))
    print(
        f"{len(training)} squares of {len(set(training.groups))} places to fit on, "
        f"{len(test)} of {len(set(test.groups))} to score"
    )
    entries = [
        *(entry for entry in baselines("downscale") if entry.label in ("nearest", "bilinear", "bicubic")),
        *like_maunet((8, 16, 32), FACTOR, seeds=options.seeds, epochs=options.epochs, batch_size=8),
    ]
    rows, lines = [], {}
    for entry, row, line in compare(entries, training, test, options.out, heavy):
        rows.append(row)
        lines[entry.label] = line
    rows += over_seeds(rows)
    points = {row["method"]: (row["rmse"], row["p99_bias"]) for row in rows if " seed " not in row["method"]}
    facts = {"test_east_of": options.test_east_of, "epochs": options.epochs}
    write_table(options.out / "table.csv", rows, [source], **facts)
    shown = ("bilinear", "bicubic", "maunet seed 0", "unet seed 0", "srcnn seed 0")
    draw(options.out / "figure.png", points, {name: lines[name] for name in shown})


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains mrms/")
    parser.add_argument(
        "--test-east-of", type=float, default=-104.0, metavar="DEGREES", help="western limit of test squares"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of training seeds")
    parser.add_argument(
        "--epochs", type=int, default=60, help="training epochs; default: best on held-back training places"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mrms_downscaling"), help="output folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
