"""Figure aurora_keogram_themis.png: keogram of three minutes of a THEMIS camera, with predicted classes.

A small model makes the predictions; it is trained on generated frames. The frames are those of the University
of Calgary, 2014-03-10, station Gillam; they are not part of this repository.

    python examples/figures/aurora_keogram_themis.py FRAMES
"""

import sys
import tempfile
from pathlib import Path

import torch

import geovision
from geovision.allsky import FrameConfig
from geovision.allsky._keogram import keogram
from geovision.allsky.camera_calibration import calibrate_cameras
from geovision.datasets.kvammen import KvammenAurora
from geovision.inference import ExecutorConfig
from geovision.registry import find_task

IMAGES = Path(__file__).parents[2] / "docs" / "images"

SITE = {"gill": (56.38, -94.64)}
NOTE = (
    "Frames: THEMIS ASI, University of Calgary. Classes: predictions of a small model trained on generated "
    "color frames. The frames are far outside of its domain, so the classes show the layout, not the sky."
)

source, demo = Path(sys.argv[1]), find_task("aurora").demo
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    generated = KvammenAurora.synthetic(root / "frames", demo.samples)
    frames = geovision.load_dataset("kvammen", generated, size=demo.size)
    model = geovision.create(demo.model, size=demo.size)
    geovision.train(model, frames, recipe=demo.recipe)
    config = FrameConfig(channels="grey", sites=SITE)
    config = calibrate_cameras(source, config, stretch=True, circle=True).merge_into(config)
    geovision.predict_archive(
        model, source, root / "table", frame_config=config, executor_config=ExecutorConfig(0)
    )
    png, _ = keogram(root / "table").save(root / "keogram", caption=NOTE)
    IMAGES / "aurora_keogram_themis.png".write_bytes(png.read_bytes())
