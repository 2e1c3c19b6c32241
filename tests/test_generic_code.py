"""Generic code contains no names of tasks, quantities or units.

A generic module that needs one of them needs a method of the specification or of the dataset
instead. Docstrings, help texts and examples of commands may name tasks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import REPOSITORY

from geovision import registry

PACKAGE = REPOSITORY / "geovision"
# Modules that serve one task, or formats and formulas of one field. All others are generic.
SPECIFIC = {
    "tasks",
    "allsky",
    "sar",
    "physics",
    "datasets",
    "readers",
    "weights",
    "cli/_frame_options.py",
    "cli/_sar_options.py",
    "cli/archive.py",
    "cli/hail.py",
    "cli/hail_samples.py",
    "cli/keogram.py",
    "cli/occurrence.py",
    "cli/polar_low_samples.py",
    "cli/scene.py",
    "cli/grid.py",
    "grid_channels.py",
    # Networks of one publication.
    "models/hinet.py",
    "models/tmc.py",
    "models/maunet.py",
    "models/bilinear_pooling.py",
    # Lists of the public functions and of the commands.
    "__init__.py",
    "cli/__init__.py",
}
GENERIC_DATASETS = (
    "base",
    "splits",
    "audit",
    "duplicates",
    "downloads",
    "image_classification",
    "image_folder",
)

NAMES = re.compile(
    r"cloud|aurora|polar_?low|(?<![a-z])hail|(?<![a-z])rains?(?![a-z])|downscal|biascorrect|precip|radar|satellite"
    r"|sentinel|(?<![a-z])sar(?![a-z])|dbz|decibel|(?<![a-z])sky(?![a-z])|reflectiv|kelvin|celsius"
    r"|mm day|mm/day|m s-1|km/h"
    # Tasks that are not listed above.
    + "".join(rf"|(?<![a-z]){re.escape(name)}(?![a-z])" for name in registry.list_tasks())
)
# A file of version 1 has the old keys, the logarithmic spectral distance is defined in decibels, and bias
# correction is the name of a family of methods.
ALLOWED = {
    ("models/serialization.py", "rain"),
    ("models/serialization.py", "precipitation"),
    ("metrics/functional/spectra.py", "decibels"),
    ("models/field_baselines.py", "BiasCorrection"),
}


def generic_files() -> list[Path]:
    files = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if str(relative) not in SPECIFIC and relative.parts[0] not in SPECIFIC:
            files.append(path)
    return files + [PACKAGE / "datasets" / f"{name}.py" for name in GENERIC_DATASETS]


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of names, and of strings that are values: those without spaces, or compared."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[\w/ .-]{1,24}", node.value) and " " not in node.value.strip():
                yield node.lineno, node.value
        elif isinstance(node, ast.Compare):
            for part in [node.left, *node.comparators]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


@pytest.mark.parametrize("path", generic_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_generic_code_names_no_task_and_no_quantity(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    found = {
        f"{line}: {text}"
        for line, text in words(ast.parse(path.read_text(encoding="utf-8")))
        if NAMES.search(text.lower()) and (relative, text) not in ALLOWED
    }
    assert not found


def test_the_words_are_found() -> None:
    """The search itself: names and compared values are seen, sentences and other words are not."""
    code = ast.parse('if channel.unit == "mm day-1":\n    radar = train(skyline, "a hail map of the day")')
    assert [text for _, text in words(code) if NAMES.search(text.lower())] == ["mm day-1", "radar"]
