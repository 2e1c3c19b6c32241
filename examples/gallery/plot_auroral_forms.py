"""
Compare auroral forms
=====================

The aurora task has seven classes, after Kvammen et al. (2020). This example shows generated all-sky frames
of each form from two nights; the demonstration and the tests use the same generator.
"""

# %%
import numpy as np

from geovision.datasets.synthetic.aurora import render
from geovision.plots import plot_image_grid
from geovision.registry import find_task

target = find_task("aurora").target
images, titles = [], []
for night in range(2):
    for number, name in enumerate(target.classes):
        rng = np.random.default_rng([night, number])
        images.append(render(name, rng, size=(160, 160)))
        titles.append(f"{target.cards[number].name.en}, night {night + 1}")

figure = plot_image_grid(images, titles, columns=7)
figure
