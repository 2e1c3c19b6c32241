"""Public API of `import geovision`: its names, and no slow imports."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import REPOSITORY

import geovision

SLOW = ["torch", "torchvision", "timm", "numpy", "PIL", "lightning", "matplotlib", "typer", "rich"]


def modules_after(program: str) -> set[str]:
    """Return the top-level modules of a new interpreter after running `program`."""
    report = (
        f"{program}\nimport json, sys; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    result = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_geovision_imports_nothing_slow():
    assert modules_after("import geovision").isdisjoint(SLOW)


@pytest.mark.parametrize(
    "use",
    [
        "geovision.list_models('cloud-*', backbones=True)",
        "geovision.list_tasks(), geovision.list_datasets()",
        "geovision.info('cloud-convnext_tiny')",
    ],
)
def test_the_registry_is_read_without_torch(use: str):
    assert modules_after(f"import geovision; {use}").isdisjoint(SLOW)


def test_every_public_name_exists():
    for name in geovision.__all__:
        assert getattr(geovision, name) is not None
    assert set(dir(geovision)) >= set(geovision.__all__)


def test_the_functions_for_users_are_at_the_top_level():
    promised = {
        "create",
        "load",
        "load_dataset",
        "info",
        "train",
        "evaluate",
        "explain",
        "distill",
        "calibrate",
        "cross_validate",
        "predict_archive",
        "predict_scene",
        "predict_raster",
        "predict_grid",
        "export_onnx",
        "push",
        "pull",
    }
    assert promised <= set(geovision.__all__)
    assert all(callable(getattr(geovision, name)) for name in promised)


def test_type_checkers_find_the_names_that_are_imported_late():
    tree = ast.parse(Path(geovision.__file__).read_text(encoding="utf-8"))
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    declared = {
        alias.name: node.module
        for node in block.body
        for alias in node.names
        if isinstance(node, ast.ImportFrom)
    }
    assert declared == geovision._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        geovision.creat  # noqa: B018


def public_modules() -> list[str]:
    """Return every module of the package that declares `__all__`."""
    root = Path(geovision.__file__).parent
    files = [path for path in root.rglob("*.py") if "\n__all__ = [" in path.read_text(encoding="utf-8")]
    return sorted(
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in files
    )


@pytest.mark.parametrize("name", public_modules())
def test_all_lists_existing_names_once(name: str):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public), f"{name}.__all__ names {public!r}"


def test_names_that_the_makefile_imports_exist() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    imported = re.findall(r"from (geovision[\w.]*) import (\w+)", text)
    assert imported
    for module, name in imported:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
