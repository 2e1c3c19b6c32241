"""Figure skies.png: a generated sky of each class, as in the demonstration and the tests.

python examples/figures/skies.py
"""

import tempfile
from pathlib import Path

import numpy as np

from geovision.datasets.ccsn import CCSN
from geovision.plots import plot_image_grid

IMAGES = Path(__file__).parents[2] / "docs" / "images"

with tempfile.TemporaryDirectory() as folder:
    skies = CCSN(CCSN.synthetic(Path(folder), 66, seed=1), size=(160, 160))
    shown = [int(np.flatnonzero(skies.labels == label)[0]) for label in range(len(skies.target.classes))]
    shown.append(int(np.flatnonzero(skies.labels == 2)[1]))  # twelve panels for eleven classes
    titles = [skies.target.cards[skies.labels[index]].name.en for index in shown]
    images = [skies.pixels(index).transpose(1, 2, 0) for index in shown]
    plot_image_grid(images, titles, columns=6).savefig(IMAGES / "skies.png", dpi=90)
