"""
Map polar lows in a radar scene
===============================

A classifier of Sentinel-1 images becomes a map by sliding windows over a whole scene. A tiny network is
trained on generated images for half a minute, and applied to a generated scene with one polar low between
two areas of open sea.
"""

# %%
# Train on generated images. Both polarizations are in decibels; ``db_range`` maps them to the counts of the
# images.
import tempfile
from pathlib import Path

import torch

import geovision
from geovision.datasets.synthetic import sar_scene, sar_sea
from geovision.physics.backscatter import DEFAULT_DB_RANGES
from geovision.registry import find_task
from geovision.sar import SceneConfig, predict_scene

folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
sar_sea.write(root / "images", 100, seed=11, pixel_size=4000.0)
data = geovision.load_dataset("polar-lows", root / "images", split="train", pixel_size=4000.0)
test = geovision.load_dataset("polar-lows", root / "images", split="test", pixel_size=4000.0)

torch.manual_seed(0)
db_range = {name: (each.low, each.high) for name, each in DEFAULT_DB_RANGES.items()}
model = geovision.create("polarlow-tiny", db_range=db_range, pixel_size=4000.0)
geovision.train(model, data, recipe=find_task("polarlow").demo.recipe.with_epochs(15), progress=False)
report = geovision.evaluate(model, test, n_bootstrap=0)
print({name: round(report.metrics[name].value, 2) for name in ("positive_f1", "roc_auc")})

# %%
# Write a scene in decibels and predict it. The result is a GeoTIFF with the probability, a GeoJSON file
# with the detections, and a quick look.
sar_scene.write(root / "scene.tif", ("open-sea", "polar-low", "open-sea"), seed=7, pixel_size=1000.0)
found = predict_scene(model, root / "scene.tif", root / "map", SceneConfig("db"), overlap=0.75, min_valid=0.5)
for detection in found.detections:
    print(f"{detection.latitude:.1f} N, {detection.longitude:.1f} E, probability {detection.probability:.2f}")

# %%
# Show the quick look.
import matplotlib.image
import matplotlib.pyplot as plt

plt.figure(figsize=(9, 5))
plt.imshow(matplotlib.image.imread(found.files["picture"]))
plt.axis("off")
plt.tight_layout()
