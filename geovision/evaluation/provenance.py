"""Where a result comes from: enough to get it again with one command."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import geovision
from geovision.models.geomodel import GeoModel

__all__ = ["commit", "data_digest", "origin", "weights_digest"]


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


def commit() -> str | None:
    """The git commit of this geovision, ``-dirty`` with uncommitted changes; None where it does not
    stand in a repository of its own."""
    here = Path(geovision.__file__).parent
    # An installed copy may lie inside somebody else's repository, which does not track it.
    if _git(here, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git(here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def origin() -> dict[str, str | None]:
    """The program behind a result: version, commit and command line."""
    return {"geovision": geovision.__version__, "commit": commit(), "command": shlex.join(sys.argv)}
