"""The documentation lists every entry, its generated tables are up to date, and its names exist."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest
from helpers.paths import DOCS

from geovision import errors, registry
from geovision.cli import app

sys.path.insert(0, str(DOCS))

import generate

PAGES = generate.pages()


def rows(markdown: str) -> set[str]:
    """Return the first cells of all tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", markdown, re.MULTILINE))


def page_id(path: Path) -> str:
    return str(path.relative_to(DOCS.parent))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_generated_tables_are_up_to_date(page: Path):
    assert generate.updated(page) == page.read_text(encoding="utf-8"), "run python docs/generate.py"


def test_every_page_is_in_the_table_of_contents():
    contents = (DOCS / "_toc.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"(?:root|file): (\S+)", contents)) - {"gallery/index"}
    assert listed == {
        str(page.relative_to(DOCS).with_suffix(""))
        for page in [*PAGES, *DOCS.glob("reference/*.rst")]
        if page.is_relative_to(DOCS)
    }


def test_every_model_has_a_row():
    assert set(registry.models()) <= rows(generate.models())


def test_every_dataset_has_a_row_with_its_license_and_caveats():
    page = generate.datasets()
    assert set(registry.list_datasets()) <= rows(page)
    for name in registry.list_datasets():
        card = generate.card_of(name)
        assert card.license in page
        assert all(caveat in page for caveat in card.caveats)


def test_every_command_and_option_is_described():
    page = generate.cli()
    for command in app.registered_commands:
        assert f"## geovision {command.name}\n" in page
    assert "`--backbone-weights`" in page


def test_every_exception_is_in_the_tree():
    page = generate.exceptions()
    kinds = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert sorted(re.findall(r"- `(\w+)`", page)) == sorted(kinds)


def test_every_benchmark_with_rows_is_shown():
    page = generate.benchmarks()
    for path in (DOCS.parent / "benchmarks").glob("*.csv"):
        assert f"## {path.stem}.py\n" in page
        with path.open(encoding="utf-8", newline="") as stream:
            *_, last = csv.reader(stream)
        assert last[0] in page


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_models_of_a_page_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    commands = {command.name for command in app.registered_commands}
    assert set(re.findall(r"^\$ geovision ([a-z-]+)", text, re.MULTILINE)) <= commands
    for name in re.findall(r"create\(\s*\"([\w.-]+)\"", text):
        if name not in ("cloud-resnet5",):  # the page on errors shows a wrong name
            registry.find_model(name)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_of_a_page_exist(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_a_page_shows_no_directive_on_github(page: Path):
    assert re.findall(r"^(?:```|:::)\{.*", page.read_text(encoding="utf-8"), re.MULTILINE) == []
