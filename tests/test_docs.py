"""The documentation's tables hold every entry, and what it shows of commands and names exists."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest
from helpers.paths import DOCS

from geovision import errors, registry
from geovision.cli import app

sys.path.insert(0, str(DOCS / "_extensions"))

import from_the_code

PAGES = sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"])


def rows(markdown: str) -> set[str]:
    """First cells of all tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", markdown, re.MULTILINE))


def test_every_model_has_a_row():
    assert set(registry.models()) <= rows(from_the_code.models())


def test_every_data_set_has_a_row_with_its_licence_and_its_traps():
    page = from_the_code.datasets()
    assert set(registry.list_datasets()) <= rows(page)
    for name in registry.list_datasets():
        card = from_the_code.card_of(name)
        assert card.license in page
        assert all(trap in page for trap in card.caveats)


def test_every_command_and_option_is_described():
    page = from_the_code.cli()
    for command in app.registered_commands:
        assert f"## geovision {command.name}\n" in page
    assert "`--backbone-weights`" in page


def test_every_exception_stands_in_the_tree():
    page = from_the_code.exceptions()
    kinds = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert sorted(re.findall(r"- `(\w+)`", page)) == sorted(kinds)


def test_every_benchmark_that_left_rows_is_shown():
    page = from_the_code.benchmarks()
    for path in (DOCS.parent / "benchmarks").glob("*.csv"):
        assert f"## {path.stem}.py\n" in page
        with path.open(encoding="utf-8", newline="") as stream:
            *_, last = csv.reader(stream)
        assert last[0] in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_and_models_that_a_page_names_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    commands = {command.name for command in app.registered_commands}
    assert set(re.findall(r"^\$ geovision ([a-z-]+)", text, re.MULTILINE)) <= commands
    for name in re.findall(r"create\(\s*\"([\w.-]+)\"", text):
        if name not in ("cloud-resnet5",):  # the page on errors shows a wrong one
            registry.find_model(name)
