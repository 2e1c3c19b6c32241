"""Generated pictures for classes that are not a genus, filed in whatever layout a data set has.

A class is a choice of kinds: genera of `geovision.datasets.synthetic.sky`, or one of

- ``"clear"``: the same sky without a cloud,
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
    """Where pictures of one class go.

    Args:
        path: Path under the root; ``{}`` is filled with the number of the picture, from 1.
        kinds: What they show, one of these at random.
    """

    path: str
    kinds: tuple[str, ...]


def render_kind(kind: str, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One picture of a genus, ``"clear"`` or ``"mixed"``.

    Returns:
        ``(height, width, 3)`` of uint8, sRGB.
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
    """Write `n` pictures, the places in turn. Picture i depends on `seed` and i alone.

    Args:
        size: (height, width) in pixels.
        frame: ``"photo"``: as the camera sees it. ``"all_sky"``: black outside the largest circle,
            as a fisheye lens leaves it. ``"patch"``: cut out of the upper half of a larger picture,
            so that it seldom shows the ground.

    Returns:
        `root`.

    Raises:
        StorageError: A file could not be written.
    """
    for index in range(n):
        place = class_folders[index % len(class_folders)]
        rng = np.random.default_rng([seed, index])
        picture = _framed(str(rng.choice(place.kinds)), rng, size, frame)
        _save(root / place.path.format(index // len(class_folders) + 1), picture)
    return root


def _framed(
    kind: str, rng: np.random.Generator, size: tuple[int, int], frame: ImageGeometry
) -> NDArray[np.uint8]:
    height, width = size
    if frame == "patch":
        left = int(rng.integers(width + 1))
        return render_kind(kind, rng, (2 * height, 2 * width))[:height, left : left + width]
    picture = render_kind(kind, rng, size)
    if frame == "all_sky":
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        picture = picture * (x**2 + y**2 <= 1)[..., None]
    return picture


def _save(path: Path, picture: NDArray[np.uint8]) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG" if path.suffix == ".png" else "JPEG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
