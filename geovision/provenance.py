"""The program behind a result: version, commit and command line."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import geovision

__all__ = ["commit", "origin"]


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
    """Version, commit and command line, as they stand beside a result."""
    return {"geovision": geovision.__version__, "commit": commit(), "command": shlex.join(sys.argv)}
