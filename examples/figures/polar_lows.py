"""Figure polar_lows.png: generated radar images of each kind, as in the demonstration and the tests.

python examples/figures/polar_lows.py
"""

from pathlib import Path

import numpy as np

from geovision.datasets.synthetic.sar_sea import KINDS, render_single
from geovision.plots import plot_image_grid

IMAGES = Path(__file__).parents[2] / "docs" / "images"

TIMES = 2

rng = np.random.default_rng(4)
scenes = [render_single(kind, rng, pixel_size=2000.0) for _ in range(TIMES) for kind in KINDS]
# As in the published images, red and green contain the cross-polarized channel, and blue the other.
images = [np.moveaxis(scene.counts[[0, 0, 1]], 0, -1) for scene in scenes]
titles = [kind if time == 0 else "" for time in range(TIMES) for kind in KINDS]
plot_image_grid(images, titles, columns=len(KINDS)).savefig(IMAGES / "polar_lows.png", dpi=90)
