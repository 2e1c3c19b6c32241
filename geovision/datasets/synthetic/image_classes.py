"""Synthetic photos for classes other than cloud genera.

They are stored in the folder layout of any data set. A class is a choice of kinds: genera of
`geovision.datasets.synthetic.sky`, or one of

- ``"clear"``: the same sky without clouds,
- ``"mixed"``: two genera, the higher one above the lower one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geovision.datasets.synthetic.sky import render
from geovision.datasets.synthetic.sky_scene import clear_sky, compose_scene, ground, simulate_camera
from geovision.errors import StorageError

__all__ = ["ClassFolder", "render_kind", "write"]

ImageGeometry = Literal["photo", "all_sky", "patch"]

_HIGH = ("Ci", "Cc", "Cs", "Ac")
_LOW = ("Cu", "Sc", "Cb")


@dataclass(frozen=True)
class ClassFolder:
    """Folder and contents of one class.

    Args:
        path: Path under the root; ``{}`` is replaced by the number of the image, from 1.
        kinds: Kinds of images of the class; each image is one of them at random.
    """

    path: str
    kinds: tuple[str, ...]


def render_kind(kind: str, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw one image of a genus, ``"clear"`` or ``"mixed"``.

    Args:
        kind: Genus of `geovision.datasets.synthetic.sky`, ``"clear"`` or ``"mixed"``.
        rng: Random generator for everything that varies.
        size: Height and width, in pixels.

    Returns:
        sRGB image, shape (height, width, 3), dtype uint8.
    """
    if kind == "clear":
        scene = compose_scene(rng, size, horizon=0.4)
        return simulate_camera(scene, ground(scene, clear_sky(scene)))
    if kind == "mixed":
        above, below = render(str(rng.choice(_HIGH)), rng, size), render(str(rng.choice(_LOW)), rng, size)
        seam = np.linspace(-1, 1, size[0])[:, None, None] - rng.uniform(-0.3, 0.3)
        weight = 1 / (1 + np.exp(-6 * seam))
        return np.clip(above * (1 - weight) + below * weight, 0, 255).astype(np.uint8)
    return render(kind, rng, size)


def write(
    root: Path,
    n: int,
    class_folders: Sequence[ClassFolder],
    *,
    seed: int,
    size: tuple[int, int],
    frame: ImageGeometry = "photo",
) -> Path:
    """Write images of all classes in turn.

    Image i depends only on `seed` and i.

    Args:
        root: Folder of the data set; created if it does not exist.
        n: Number of images.
        class_folders: Folders and contents of the classes.
        seed: Seed of all random numbers.
        size: Height and width, in pixels.
        frame: ``"photo"``: the whole view of the camera. ``"all_sky"``: black outside the largest circle, as
            with a fisheye lens. ``"patch"``: crop of the upper half of a larger image, which seldom shows the
            ground. Default: ``"photo"``.

    Returns:
        `root`.

    Raises:
        StorageError: A file could not be written.
    """
    for index in range(n):
        folder = class_folders[index % len(class_folders)]
        rng = np.random.default_rng([seed, index])
        image = _framed(str(rng.choice(folder.kinds)), rng, size, frame)
        _save(root / folder.path.format(index // len(class_folders) + 1), image)
    return root


def _framed(
    kind: str, rng: np.random.Generator, size: tuple[int, int], frame: ImageGeometry
) -> NDArray[np.uint8]:
    height, width = size
    if frame == "patch":
        left = int(rng.integers(width + 1))
        return render_kind(kind, rng, (2 * height, 2 * width))[:height, left : left + width]
    image = render_kind(kind, rng, size)
    if frame == "all_sky":
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        image = image * (x**2 + y**2 <= 1)[..., None]
    return image


def _save(path: Path, image: NDArray[np.uint8]) -> None:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG" if path.suffix == ".png" else "JPEG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
