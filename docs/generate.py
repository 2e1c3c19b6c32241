"""Write the tables of the documentation from the code and from the results of the studies.

A page contains a block between ``<!-- generated: NAME -->`` and ``<!-- end -->``, where NAME is one of
``models``, ``datasets``, ``cli``, ``exceptions``, ``benchmarks`` and ``study TABLE [COLUMN...]``. The text
is committed, so that it is readable without a build.

    python docs/generate.py            # update all pages
    python docs/generate.py --check    # exit with 1 if a page is out of date
"""

from __future__ import annotations

import argparse
import ast
import csv
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from geovision import errors, registry
from geovision.cli import app as command_line
from geovision.datasets.base import DatasetCard
from geovision.spec import ModelSpec, Task, WeightSpec, resolve

__all__ = ["benchmarks", "cli", "datasets", "exceptions", "models", "pages", "study", "updated"]

DOCS = Path(__file__).resolve().parent
STUDIES = DOCS / "studies" / "data"
IMAGES = DOCS / "images"
BENCHMARKS = DOCS.parent / "benchmarks"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def linked(text: str) -> str:
    """Return the text with every digital object identifier as a link."""
    return re.sub(r"doi:(10\.[^\s,;)|]*[^\s,;)|.])", r"[doi:\1](https://doi.org/\1)", text)


# --- models -------------------------------------------------------------------------------------


def models() -> str:
    """Return one table of curated models for each task, and the published results."""
    return linked("\n\n".join(_models_of(task) for task in registry.tasks().values()))


def _models_of(task: Task) -> str:
    rows = [_model_row(registry.find_model(name)) for name in registry.list_models(task=task.name)]
    header = (
        "model",
        "parameters",
        "weights",
        "license of the weights",
        "trained on",
        "architecture",
        "note",
    )
    published = [
        (f"`{each.model}`", each.metric, f"{each.value:g}", each.evidence, each.source, each.note)
        for each in task.published
    ]
    parts = [f"## {task.title}", task.question, table(header, rows)]
    if published:
        parts += [
            f"### {task.title}: published results",
            table(("model", "metric", "value", "mark", "source", "note"), published),
        ]
    if task.cautions:
        parts += ["Known limitations of comparisons:", "\n".join(f"- {caution}" for caution in task.cautions)]
    return "\n\n".join(parts)


def _model_row(spec: ModelSpec) -> tuple[str, ...]:
    return (
        f"`{spec.name}`",
        f"{spec.num_parameters:,}" if spec.num_parameters else "",
        "; ".join(map(_weight, spec.weights)) or "none yet",
        "; ".join(weight.license for weight in spec.weights),
        "; ".join(weight.trained_on for weight in spec.weights),
        spec.evidence,
        spec.note,
    )


def _weight(weight: WeightSpec) -> str:
    figures = ", ".join(f"{metric} {value:.3g}" for metric, value in weight.metrics.items())
    return f"`.{weight.tag}`" + (f" ({figures})" if figures else "")


# --- datasets -----------------------------------------------------------------------------------


def datasets() -> str:
    """Return source, license, layout and caveats of every dataset with an adapter."""
    cards = [(name, task, card_of(name)) for name, task in _dataset_tasks()]
    rows = [
        (f"`{name}`", task, card.title, card.license, card.source, card.split_group)
        for name, task, card in cards
    ]
    # Sphinx drops text before the first heading of a directive.
    parts = [
        "## Overview",
        table(("name", "task", "title", "license", "source", "kept together by a split"), rows),
    ]
    for name, _, card in cards:
        caveats = "\n".join(f"- {caveat}" for caveat in card.caveats)
        parts += [f"## {name}", f"{card.title}. {card.citation}.", f"Layout: {card.layout}.", caveats]
    return linked("\n\n".join(part for part in parts if part))


def _dataset_tasks() -> list[tuple[str, str]]:
    return [(name, registry.dataset_reference(name)[0].name) for name in registry.list_datasets()]


def card_of(name: str) -> DatasetCard:
    """Return the card of a dataset adapter."""
    return resolve(registry.dataset_reference(name)[1]).card


# --- command line -------------------------------------------------------------------------------


def cli() -> str:
    """Return every command with its arguments, options and examples."""
    group: Any = typer.main.get_command(command_line)
    return "\n\n".join(_command(command) for command in group.commands.values())


def _command(command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(["geovision", command.name, *(_argument(each) for each in arguments), "[OPTIONS]"])
    examples = [line.strip() for line in (command.epilog or "").split("\n\n")[1:]]
    parts = [
        f"## geovision {command.name}",
        inspect.cleandoc(command.help or ""),
        f"```\n{usage}\n```",
        _parameters("argument", arguments),
        _parameters("option", options),
        "Examples:\n\n" + "\n".join(f"- {_example(line)}" for line in examples),
    ]
    return "\n\n".join(part for part in parts if part)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _example(line: str) -> str:
    return f"`{line}`" if line.startswith("geovision") else line


def _parameters(kind: str, parameters: Sequence[Any]) -> str:
    if not parameters:
        return ""
    rows = [(_names(each, kind), _default(each), each.help or "") for each in parameters]
    return table((kind, "default", "meaning"), rows)


def _names(parameter: Any, kind: str) -> str:
    if kind == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    return "" if value is None or value is False or callable(value) else f"`{value}`"


# --- exceptions ---------------------------------------------------------------------------------


def exceptions() -> str:
    """Return the tree of exceptions with the first line of each docstring."""
    return "\n".join(_branch(errors.GeovisionError, 0))


def _branch(kind: type[Exception], depth: int) -> list[str]:
    also = [base.__name__ for base in kind.__bases__ if not issubclass(base, errors.GeovisionError)]
    beside = f" (also `{'`, `'.join(also)}`)" if depth and also else ""
    line = f"{'  ' * depth}- `{kind.__name__}`{beside}: {inspect.getdoc(kind).splitlines()[0]}"
    children = sorted(
        (child for child in kind.__subclasses__() if child.__name__ in errors.__all__),
        key=lambda each: each.__name__,
    )
    return [line, *(line for child in children for line in _branch(child, depth + 1))]


# --- benchmarks ---------------------------------------------------------------------------------

# Columns of benchmarks that the tables omit, because they would be too wide.
_IN_THE_FILE = (
    "commit",
    "versions",
    "torch",
    "threads",
    "ratio_lowest_turn",
    "ratio_highest_turn",
    "command",
)


def benchmarks() -> str:
    """Return the rows of each benchmark as they are in its file."""
    return "\n\n".join(_benchmark(path) for path in sorted(BENCHMARKS.glob("*.csv")))


def _benchmark(path: Path) -> str:
    script = path.with_suffix(".py")
    description = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in rows[0] if name not in _IN_THE_FILE]
    header = [name.replace("_", " ") for name in columns]
    body = [[row[name] for name in columns] for row in rows]
    return "\n\n".join(
        (f"## {script.name}", description.partition("\n\n")[0].replace("\n", " "), table(header, body))
    )


# --- studies ------------------------------------------------------------------------------------


def study(page: Path, name: str, *columns: str) -> str:
    """Return the table of a study, its command, and its figure.

    Args:
        page: Page that shows the table; the path of the figure is relative to it.
        name: Name of the file in ``docs/studies/data``, without suffix.
        *columns: Names of the columns to show. Default: all.
    """
    with (STUDIES / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    shown = [each for each in columns if each in rows[0]] or list(rows[0])
    body = table([each.replace("_", " ") for each in shown], [[row[each] for each in shown] for row in rows])
    command = f"`python {rows[0]['command']}`, at commit {rows[0]['commit'][:10]}."
    figure = IMAGES / f"{name}.png"
    parts = [body, command]
    if figure.is_file():
        parts.append(f"![{name.replace('_', ' ')}]({os.path.relpath(figure, page.parent)})")
    return "\n\n".join(parts)


# --- pages --------------------------------------------------------------------------------------

_BLOCK = re.compile(r"(<!-- generated: ([^\n]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_WRITERS: dict[str, Callable[[], str]] = {
    "models": models,
    "datasets": datasets,
    "cli": cli,
    "exceptions": exceptions,
    "benchmarks": benchmarks,
}


def updated(page: Path) -> str:
    """Return the text of a page with its generated blocks updated.

    Args:
        page: Page in Markdown.
    """

    def write(match: re.Match[str]) -> str:
        name, *arguments = match[2].split()
        text = study(page, *arguments) if name == "study" else _WRITERS[name]()
        return f"{match[1]}\n{text}\n\n{match[4]}"

    return _BLOCK.sub(write, page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """Return all pages of the documentation and the README."""
    inside = [
        path for path in DOCS.rglob("*.md") if not {"_build", "gallery"} & set(path.relative_to(DOCS).parts)
    ]
    return sorted([*inside, DOCS.parent / "README.md"])


def main() -> None:
    """Update the pages, or report those that are out of date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="Write nothing; exit with 1 if a page is out of date."
    )
    check = parser.parse_args().check
    stale = [page for page in pages() if updated(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(f"{page.relative_to(DOCS.parent)}: {'out of date' if check else 'updated'}", file=sys.stderr)
        if not check:
            page.write_text(updated(page), encoding="utf-8")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
