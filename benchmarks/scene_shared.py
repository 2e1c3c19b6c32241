"""Speed and error of the small Xception over a whole tile instead of over each of its windows.

Windows that overlap by one half share three quarters of their cells with others. A convolutional network
could process these cells once; the features of a window would be means over its part of the last map. But
each convolution pads the edge of its input, the edges of the windows are elsewhere, and the last map has few
cells. The error is given as a fraction of the spread between windows.

    OMP_NUM_THREADS=1 python benchmarks/scene_shared.py

The script appends rows to ``scene_shared.csv`` in its folder.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rows import append

import geovision
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit

TABLE = Path(__file__).with_suffix(".csv")

BATCH = 16


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--models", nargs="*", default=["polarlow-xception", "polarlow-tiny"], help="names in the registry"
    )
    for name in parser.parse_args().models:
        torch.manual_seed(0)
        append(TABLE, shared(geovision.create(name)), show=True)


@torch.inference_mode()
def shared(model: GeoModel) -> dict[str, object]:
    """Return speed and error of features from one pass over a tile.

    The features of a window are means over its part of the last map. The reference is the network on each
    window.
    """
    network = model.network
    size = model.inputs[0].size
    assert size is not None
    stride = 2 ** (1 + len(network.blocks))
    cells = size[0] // stride
    side = 4 * size[0]
    coarse = torch.randn(1, 2, side // 16, side // 16, generator=torch.Generator().manual_seed(0))
    tile = torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bicubic").sigmoid()
    starts = range(0, side - size[0] + 1, size[0] // 2)
    batch = torch.cat([tile[..., r : r + size[0], c : c + size[0]] for r in starts for c in starts])

    def maps(x: torch.Tensor) -> torch.Tensor:
        x = x.index_select(1, network.channels)
        x = network.blocks(network.activation(network.batch_normalization(network.conv2d(x))))
        return network.activation_last(network.batch_normalization_last(network.separable_conv2d(x)))

    def by_tile() -> torch.Tensor:
        whole = maps(tile)
        places = [(r // stride, c // stride) for r in starts for c in starts]
        return torch.cat([whole[..., r : r + cells, c : c + cells].mean((2, 3)) for r, c in places])

    def by_window() -> torch.Tensor:
        return torch.cat([maps(part).mean((2, 3)) for part in batch.split(BATCH)])

    by_tile(), by_window()
    times = {
        name: min(seconds(work) for _ in range(3))
        for name, work in (("tile", by_tile), ("window", by_window))
    }
    own, of_tile = by_window(), by_tile()
    off = float((of_tile - own).norm() / (own - own.mean(0)).norm())
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit() or "",
        "model": model.spec.name,
        "windows": len(batch),
        "tile_windows_per_s": round(len(batch) / times["tile"], 2),
        "window_windows_per_s": round(len(batch) / times["window"], 2),
        "error_over_spread_of_windows": round(off, 3),
        "cells_of_the_last_map": cells,
        "threads": torch.get_num_threads(),
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of a call in s."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
