"""Names in docstrings are names in the code."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import REPOSITORY

_PACKAGE = REPOSITORY / "geovision"
_FILES = sorted(_PACKAGE.rglob("*.py"))
_SECTION = re.compile(r"^ *(Args|Attributes|Returns|Raises|Yields|Shape|Note|Example|Examples):\s*$")
_REFERENCE = re.compile(r"`(geovision(?:\.\w+)+)`")


def _ident(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _parameters(node: ast.FunctionDef) -> set[str]:
    arguments = node.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    return {argument.arg for argument in every if argument is not None}


def _members(node: ast.ClassDef) -> set[str]:
    """Return the names that a docstring of a class may list: fields, attributes, methods and parameters."""
    names: set[str] = set()
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.add(statement.target.id)
        elif isinstance(statement, ast.Assign):
            names |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.FunctionDef):
            names.add(statement.name)
            if statement.name in ("__init__", "__new__"):
                names |= _parameters(statement)
            names |= {
                part.attr
                for part in ast.walk(statement)
                if isinstance(part, ast.Attribute)
                and isinstance(part.value, ast.Name)
                and part.value.id == "self"
                and isinstance(part.ctx, ast.Store)
            }
    return names


def _bases(tree: ast.Module, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    classes = {part.name: part for part in tree.body if isinstance(part, ast.ClassDef)}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            yield classes[base.id]
            yield from _bases(tree, classes[base.id])


def _listed(docstring: str) -> Iterator[str]:
    """Yield the names that the entries of ``Args`` and ``Attributes`` begin with."""
    section, indent = "", 0
    for line in docstring.split("\n"):
        if match := _SECTION.match(line):
            section, indent = match[1], len(line) - len(line.lstrip())
        elif section in ("Args", "Attributes"):
            depth = len(line) - len(line.lstrip())
            entry = re.match(r"^ *(\*{0,2}[a-z_A-Z]\w*(?:, \*{0,2}\w+)*):(?: |$)", line)
            if entry and depth == indent + 4:
                yield from (name.strip().lstrip("*") for name in entry[1].split(","))


@pytest.mark.parametrize("path", _FILES, ids=_ident)
def test_listed_parameters_exist(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node, clean=False) or ""
        if isinstance(node, ast.FunctionDef):
            names = _parameters(node)
        else:
            names = _members(node).union(*map(_members, _bases(tree, node)))
        wrong += [f"{node.name}: {name}" for name in _listed(docstring) if name not in names]
    assert not wrong


@pytest.mark.parametrize("path", _FILES, ids=_ident)
def test_referenced_objects_exist(path: Path) -> None:
    missing = [
        reference
        for reference in _REFERENCE.findall(path.read_text(encoding="utf-8"))
        if not _exists(reference)
    ]
    assert not missing


def _exists(reference: str) -> bool:
    parts = reference.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for name in parts[split:]:
            if name in getattr(found, "__dataclass_fields__", {}):
                return True
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False
