"""Downscaling of daily monsoon precipitation over the upper Bhima, India, from 0.4 to 0.1 degrees.

    python examples/studies/bhima_downscaling.py --data ../shared/data --test-from 2021-08-01

The coarse precipitation is the area mean of 4 x 4 cells of MSWEP, so networks learn detail and no bias. Days
before --test-from are fitted on, those from that day on are scored. MAUNet, a plain U-Net of equal parameter
count and SRCNN are trained with three seeds; the table contains their mean and range. The script writes a
table and a figure to --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rain_study import baselines, compare, draw, like_maunet, over_seeds, write_table

import geovision
from geovision._atomic_io import write_text
from geovision.datasets.rain_grids import GRIDS_FILE
from geovision.readers.grids import coarsen, open_grid, write_grid

FILE = "pr_MSWEP28_010deg.nc"
FACTOR = 4


def main() -> None:
    """Run the study."""
    options = arguments()
    source = options.data / "bhima" / FILE
    data = pairs(source, options.out / "grids")
    training, test = (
        data.subset([n for n, date in enumerate(data.dates) if first <= date < last])
        for first, last in ((options.fit_from, options.test_from), (options.test_from, "9999"))
    )
    print(f"{len(training)} days to fit on, {len(test)} to score")
    entries = [
        *(entry for entry in baselines("downscale") if entry.label not in ("climatology", "quantile-delta")),
        *like_maunet((12, 24, 48), FACTOR, seeds=options.seeds, epochs=options.epochs, batch_size=8),
    ]
    rows, points, lines = [], {}, {}
    for entry, row, line in compare(entries, training, test, options.out):
        rows.append(row)
        lines[entry.label] = line
    rows += over_seeds(rows)
    points = {row["method"]: (row["rmse"], row["p99_bias"]) for row in rows if " seed " not in row["method"]}
    write_table(options.out / "table.csv", rows, [source], test_from=options.test_from, epochs=options.epochs)
    shown = ("bilinear", "bicubic", "maunet seed 0", "unet seed 0", "srcnn seed 0")
    draw(options.out / "figure.png", points, {name: lines[name] for name in shown})


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains bhima/")
    parser.add_argument(
        "--fit-from",
        default="2021-05-01",
        metavar="DATE",
        help="first day to fit on; dry months contain little information",
    )
    parser.add_argument("--test-from", default="2021-08-01", metavar="DATE", help="first day to score")
    parser.add_argument("--seeds", type=int, default=3, help="number of training seeds")
    parser.add_argument(
        "--epochs", type=int, default=120, help="training epochs; default: best on July after May and June"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bhima_downscaling"), help="output folder")
    return parser.parse_args()


def pairs(source: Path, folder: Path) -> Any:
    """Return precipitation and its coarse version as a data set of the layout `rain-grids`."""
    if not (folder / GRIDS_FILE).is_file():
        fine = open_grid(source, "precipitation")
        write_grid(fine, folder / "fine.nc")
        write_grid(coarsen(fine, FACTOR), folder / "coarse.nc")
        write_text(
            folder / GRIDS_FILE, '[target]\nfile = "fine.nc"\n\n[given.precipitation]\nfile = "coarse.nc"\n'
        )
    return geovision.load_dataset("rain-grids", folder)


if __name__ == "__main__":
    main()
