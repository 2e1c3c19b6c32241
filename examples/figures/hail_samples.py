"""Figures hail_sample.png and terrain.png: a generated sample over ridges, and terrain channels.

The terrain channels are computed from SRTM tiles around Pico, Azores (public domain).

    python examples/figures/hail_samples.py --data ../shared/data/dem
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from geovision.datasets.hail_collocation import terrain_channels
from geovision.datasets.hail_samples import HailSamples
from geovision.plots import new_figure
from geovision.readers.elevation import elevation_on_grid

IMAGES = Path(__file__).parents[2] / "docs" / "images"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("../shared/data/dem"), help="folder of SRTM tiles")
tiles = sorted(parser.parse_args().data.glob("*.hgt.zip"))

with tempfile.TemporaryDirectory() as folder:
    data = HailSamples(HailSamples.synthetic(Path(folder), 8, seed=7, size=(128, 128), windows=20))
    sevens = [
        index for index in range(len(data)) if data.read(index).attributes["title"].endswith("sample 7")
    ]
    data.plot(data[sevens[0]]).savefig(IMAGES / "hail_sample.png", dpi=80)

latitude, longitude = np.arange(38.36, 38.60, 0.002), np.arange(-28.56, -28.20, 0.002)
ground = terrain_channels(elevation_on_grid(tiles, latitude, longitude), latitude, longitude)
ground[1:, ground[0] <= 0.5] = np.nan  # the sea
figure = new_figure(13.5, 4.6)
panels = (
    ("elevation, m", "terrain", None),
    ("slope, degrees", "viridis", (0, 45)),
    ("curvature, 1/km", "RdBu_r", (-3, 3)),
    ("aspect, degrees", "twilight", (0, 360)),
    ("flow direction, degrees", "twilight", (0, 360)),
)
for axes, plane, (title, colors, limits) in zip(figure.subplots(2, 3).ravel(), ground, panels, strict=False):
    shown = plane * (1000 if title.startswith("curvature") else 1)
    low, high = limits or (0, float(np.nanmax(plane)))
    drawn = axes.imshow(
        shown,
        origin="lower",
        cmap=colors,
        vmin=low,
        vmax=high,
        aspect=1.28,
        extent=(longitude[0], longitude[-1], latitude[0], latitude[-1]),
    )
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    axes.set_title(title, fontsize="medium")
next(axes for axes in figure.axes if not axes.has_data()).set_visible(False)
figure.savefig(IMAGES / "terrain.png", dpi=80)
