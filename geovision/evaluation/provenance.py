"""What a result was made of: digests of the model and of the data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geovision.models.geomodel import GeoModel

__all__ = ["data_digest", "weights_digest"]


def weights_digest(model: GeoModel) -> str:
    """sha256 over the names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def data_digest(sources: Sequence[str]) -> str:
    """sha256 over the names and sizes of the files that samples were read from, in their order.

    Names are taken below the folder that all files share, so that the digest is the same on every
    machine. What is no file counts by its name.
    """
    paths = [Path(source).absolute() for source in sources]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{path.relative_to(root).as_posix()} {size}\n".encode())
    return digest.hexdigest()
