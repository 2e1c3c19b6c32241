"""Text and names use the terms of the field; software does not talk."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.paths import REPOSITORY
from helpers.wording import findings

FOLDERS = ("geovision", "docs", "examples", "benchmarks", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
# Names that an interface of Python prescribes: a stream has a method `tell`.
ALLOWED = ("'tell' in 'tell'",)
# The list of rejected words itself.
EXEMPT = {"tests/helpers/wording.py", "tests/test_wording.py"}


def files() -> list[Path]:
    found = [
        path
        for folder in FOLDERS
        for pattern in ("*.py", "*.md")
        for path in sorted((REPOSITORY / folder).rglob(pattern))
        if not {"_build", "gallery", "ort", "golden"} & set(path.relative_to(REPOSITORY).parts)
        or path.is_relative_to(REPOSITORY / "examples")
    ]
    return [
        path
        for path in [*found, *(REPOSITORY / page for page in PAGES)]
        if str(path.relative_to(REPOSITORY)) not in EXEMPT
    ]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_wording(path: Path) -> None:
    assert [line for line in findings(path) if not line.endswith(ALLOWED)] == []


def test_rejected_words_are_found(tmp_path: Path) -> None:
    """The check itself: words of speech in a docstring, a message, a comment and a name."""
    path = tmp_path / "module.py"
    path.write_text(
        'def answer_all(x):\n    """Tell the model what is missing."""\n'
        '    raise ValueError("the file says no")  # asked twice\n'
        'FACING = "the satellite looks down"\n'
    )
    words = {line.split("'")[1].lower() for line in findings(path)}
    assert words == {"answer", "tell", "says", "asked"}
