"""What a result was made of: a digest of the data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["data_digest"]


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
