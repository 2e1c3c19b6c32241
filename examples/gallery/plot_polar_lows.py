"""
See polar lows in radar images
==============================

Sentinel-1 measures the roughness of the sea, so a polar low shows as a spiral of wind around a calm eye. This
example renders generated images of each kind of scene. Red and green show the cross-polarized channel, blue
the co-polarized one, as in the published data set of Grahn and Bianchi (2022).
"""

# %%
# Render two images of each kind at a pixel size of 2 km.
import numpy as np

from geovision.datasets.synthetic.sar_sea import KINDS, render_single
from geovision.plots import plot_image_grid

rng = np.random.default_rng(4)
scenes = [render_single(kind, rng, pixel_size=2000.0) for _ in range(2) for kind in KINDS]

# %%
# ``counts`` holds the cross-polarized and the co-polarized channel, shape (2, y, x); 0 marks missing data.
images = [np.moveaxis(scene.counts[[0, 0, 1]], 0, -1) for scene in scenes]
titles = [*KINDS, *[""] * len(KINDS)]
figure = plot_image_grid(images, titles, columns=len(KINDS))
figure
