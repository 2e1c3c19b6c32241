"""Provenance of a result: version, commit and command line, and a digest of the data."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import geovision

__all__ = ["data_digest", "git_commit", "run_provenance"]


def git_commit() -> str | None:
    """Return the git commit of this geovision, with ``-dirty`` for uncommitted changes.

    Returns:
        None for a copy that is not in its own repository.
    """
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


def run_provenance() -> dict[str, str | None]:
    """Return version, commit and command line, to be stored with a result."""
    return {"geovision": geovision.__version__, "commit": git_commit(), "command": shlex.join(sys.argv)}


def data_digest(sources: Sequence[str]) -> str:
    """Return the sha256 of the names and sizes of the source files of samples.

    Names are relative to the common folder of all files, so the digest is the same on every machine. A source
    that is not a file counts by its name.

    Args:
        sources: Paths or names, in the order of the samples.
    """
    paths = [Path(source).absolute() for source in sources]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{path.relative_to(root).as_posix()} {size}\n".encode())
    return digest.hexdigest()
