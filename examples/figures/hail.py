"""Figure hail_captains_flat.png: hail products of the storm of Captains Flat, New South Wales, 2018-12-20.

The data are two volumes of the radar AU40 of the Bureau of Meteorology, as distributed in wradlib-data. The
heights of 0 and -20 degrees Celsius are assumed, not measured.

    python examples/figures/hail.py --data ../shared/data/radar
"""

import argparse
from pathlib import Path

from geovision.datasets.hail_label_plot import plot_hail_maps
from geovision.physics import hail
from geovision.readers.radar import grid_volume, read_volume

IMAGES = Path(__file__).parents[2] / "docs" / "images"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument(
    "--data", type=Path, default=Path("../shared/data/radar"), help="folder of the radar volumes"
)
data = parser.parse_args().data

products = [
    hail.hail_products(grid_volume(read_volume(path)), freezing_level=3200, minus20_level=6300, cap_dbz=None)
    for path in sorted(data.glob("40_20181220_06*.pvol.h5"))
]
labels = hail.hail_labels(hail.join_volumes(products), hail.TwoStageRule(height=4000))
figure = plot_hail_maps(labels.sel(x=slice(-20_000, 150_000), y=slice(-20_000, 150_000)))
figure.savefig(IMAGES / "hail_captains_flat.png", dpi=80)
