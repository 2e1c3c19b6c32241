"""Duration of hail products and labels of one large volume of generated storms.

The volume has 1000 x 1000 points on 21 levels, with echo in every column within the range of the radar. This
is more than in real volumes. Each duration is the median of several turns. A lower bound is also measured:
one power of ten of every value, `10 ** (dbz / 10)` of the whole volume in NumPy.

    python benchmarks/hail_labels.py [--repeats 5] [--size 1000] [--levels 21]

The script prints a table and appends its rows to ``benchmarks/hail_labels.csv``.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray

from geovision.physics import hail
from geovision.provenance import git_commit

TABLE = Path(__file__).with_suffix(".csv")
SEED = 5


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="number of turns")
    parser.add_argument("--size", type=int, default=1000, help="points along each side")
    parser.add_argument("--levels", type=int, default=21, help="number of levels")
    given = parser.parse_args()
    volume = storms(given.size, given.levels)
    rows = measured(volume, given.repeats)
    shape = "x".join(map(str, volume.shape))
    for what, value, bound in rows:
        print(f"{shape} {what:52} {value:8.3f}   {bound and f'at most {bound}'}")
    append(rows, shape)


def storms(size: int, levels: int) -> xarray.DataArray:
    """Return generated cells with a core aloft in wide rain, float32 dBZ, without echo elsewhere."""
    rng = np.random.default_rng(SEED)
    heights = np.linspace(500.0, 19500.0, levels)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    dbz = np.full((levels, size, size), -np.inf, np.float32)
    for _ in range(60):
        row, column, width = (*rng.uniform(0, size, 2), rng.uniform(15, 60))
        top, peak = rng.uniform(8000, 16000), rng.uniform(45, 68)
        away = ((y - row) ** 2 + (x - column) ** 2) / width**2
        for k, height in enumerate(heights):
            layer = peak - 4 * away - 30 * max(0.0, (height - 6000) / (top - 6000))
            np.maximum(dbz[k], np.where(layer > 0, layer, -np.inf), out=dbz[k])
    dbz[:, (x - size / 2) ** 2 + (y - size / 2) ** 2 > (size / 2) ** 2] = np.nan
    return xarray.DataArray(dbz, dims=("level", "y", "x"), coords={"level": heights}, attrs={"units": "dBZ"})


def measured(volume: xarray.DataArray, repeats: int) -> list[tuple[str, float, float | str]]:
    """Return name, value and bound of each measurement."""
    dbz = volume.values
    echo = float(np.isfinite(dbz).any(axis=0).mean())

    def products() -> xarray.Dataset:
        return hail.hail_products(volume, freezing_level=3200, minus20_level=6300)

    two = [
        products().assign_coords(time=np.datetime64("2024-01-01T00:00", "ns") + k * MINUTES) for k in (0, 6)
    ]
    joined = hail.join_volumes(two)
    power = seconds(repeats, lambda: 10 ** (dbz / 10))
    formulas = seconds(repeats, products)
    both = seconds(repeats, lambda: hail.hail_labels(joined)) / 2
    return [
        ("share of columns with echo", echo, ""),
        ("10 ** (dbz / 10) of the volume, s", power, ""),
        ("hail_products, s", formulas, ""),
        ("hail_labels a volume, s", both, ""),
        ("products and labels a volume, s", formulas + both, 2.0),
        ("products and labels / power of ten", (formulas + both) / power, ""),
    ]


MINUTES = np.timedelta64(60 * 10**9, "ns")


def seconds(repeats: int, work: Callable[[], object]) -> float:
    """Return the median duration in s, after one turn that is not counted."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def append(rows: list[tuple[str, float, float | str]], shape: str) -> None:
    """Append the rows to the table."""
    new = not TABLE.exists()
    with TABLE.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(
                ["date", "commit", "volume", "what", "value", "at_most", "cores", "numpy", "seed"]
            )
        for what, value, bound in rows:
            day = datetime.date.today().isoformat()
            writer.writerow(
                [
                    day,
                    git_commit() or "",
                    shape,
                    what,
                    round(value, 3),
                    bound,
                    os.cpu_count(),
                    np.__version__,
                    SEED,
                ]
            )


if __name__ == "__main__":
    main()
