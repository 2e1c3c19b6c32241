"""Figure auroras.png: generated frames of each auroral form, as in the demonstration and the tests.

python examples/figures/auroras.py
"""

from pathlib import Path

import numpy as np

from geovision.datasets.synthetic.aurora import render
from geovision.plots import plot_image_grid
from geovision.registry import find_task

IMAGES = Path(__file__).parents[2] / "docs" / "images"

NIGHTS = 2

cards = find_task("aurora").target.cards
rng = np.random.default_rng(11)
frames = [render(card.code, rng) for _ in range(NIGHTS) for card in cards]
titles = [card.name.en if night == 0 else "" for night in range(NIGHTS) for card in cards]
plot_image_grid(frames, titles, columns=len(cards)).savefig(IMAGES / "auroras.png", dpi=90)
