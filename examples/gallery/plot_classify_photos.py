"""
Classify photos of clouds
=========================

The shipped weights of ``cloud-mobilenetv2`` classify a photo into ten cloud genera and contrails. This
example classifies generated photos, so that it needs no data set. The model has learned from real photos;
the flag ``not_a_sky`` marks images that differ from them.
"""

# %%
# Write generated photos. ``CCSN.synthetic`` uses the folder layout of the CCSN data set: one folder for
# each class.
import tempfile
from pathlib import Path

import geovision
from geovision.datasets.ccsn import CCSN
from geovision.plots import plot_image_grid

folder = tempfile.TemporaryDirectory()
root = CCSN.synthetic(Path(folder.name), 22, seed=1)
data = geovision.load_dataset("ccsn", root, size=(160, 160))
print(len(data), "photos of", len(data.target.classes), "classes")

# %%
# Load the model and predict. ``predict`` takes paths, arrays, tensors and folders, and returns one
# prediction for each photo, in order.
model = geovision.create("cloud-mobilenetv2", pretrained=True)
shown = list(range(0, 22, 2))
predictions = list(model.predict([data.paths[index] for index in shown]))

first = predictions[0]
print("class:         ", first.label)
print("confidence:    ", f"{first.confidence:.2f}", f"({first.word})")
print("top 3 classes: ", {name: round(value, 2) for name, value in first.top(3)})
print("flags:         ", first.flags)

# %%
# Show each photo with its prediction; an asterisk marks a flag.
images = [data.pixels(index).transpose(1, 2, 0) for index in shown]
titles = [f"{each.label} {each.confidence:.0%}{' *' if each.flags else ''}" for each in predictions]
figure = plot_image_grid(images, titles, columns=4)
figure
