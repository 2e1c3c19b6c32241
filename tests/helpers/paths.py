"""Folders that several tests read."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["DATA", "DOCS", "GOLDEN", "REPOSITORY", "TESTS"]

TESTS = Path(__file__).parents[1]
REPOSITORY = TESTS.parent
GOLDEN = TESTS / "golden"
DOCS = REPOSITORY / "docs"
DATA = Path(os.environ.get("GEOVISION_DATA", REPOSITORY.parent / "shared" / "data"))
