"""Find wording in Python files and documents that `CONTRIBUTING.md` rejects.

Run ``python -m helpers.wording PATH...`` from ``tests`` for a list of the findings below PATH.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

__all__ = ["findings"]

_SPEECH = r"say|says|said|saying|tell|tells|told|telling|ask|asks|asked|asking|hear|hears|heard|hearing"
_ANSWERS = r"answer|answers|answered|answering|unanswered"
_POSES = r"stand|stands|stood|standing"
_WORDS = re.compile(
    rf"(?<![-\w])({_SPEECH}|{_ANSWERS}|{_POSES}|one['\u2019]s\sown|nor)(?![-\w])", re.IGNORECASE
)
_OPENING = re.compile(r"(?:^|[.!?:]\s+)(Of|What|Where|Whose|Nor)\s")
_ENTRY = re.compile(r"^\s*[\w*, ]+: (Of|What|Where|Whose|As of|As in|Is\stold)\b")
_IDENTIFIER = re.compile(rf"(?:^|_)({_SPEECH}|{_ANSWERS})(?:$|_)")
_CODE = re.compile(r"``[^`]*``|`[^`]*`|https?://\S+|<[^>]*>")


def findings(path: Path) -> list[str]:
    """Return one line for each rejected word, with file, line and text."""
    text = path.read_text(encoding="utf-8")
    parts = _python_parts(text) if path.suffix == ".py" else _document_parts(text)
    found = []
    for line, kind, content in parts:
        if kind == "name":
            words = _IDENTIFIER.findall(content)
        else:
            plain = _CODE.sub("``", content)
            words = _WORDS.findall(plain)
            if kind == "prose":
                words += _OPENING.findall(plain) + _ENTRY.findall(plain)
        found += [f"{path}:{line}: {word!r} in {content.strip()[:100]!r}" for word in words]
    return found


def _python_parts(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, kind, text) of comments, docstrings, other strings and defined names."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], "prose", token.string.lstrip("#: ")
    tree = ast.parse(text)
    docstrings = set()
    for node in ast.walk(tree):
        for statement in getattr(node, "body", None) if isinstance(getattr(node, "body", None), list) else ():
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                docstrings.add(id(statement.value))
                for number, line in enumerate(statement.value.value.split("\n")):
                    if not line.lstrip().startswith((">>>", "...")):
                        yield statement.value.lineno + number, "prose", line
        if isinstance(node, ast.arg):
            yield node.lineno, "name", node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, "name", node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, "name", node.id
    for node in ast.walk(tree):
        # A single word is a key or a value, not a sentence.
        is_text = (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        )
        if is_text and " " in node.value.strip():
            yield node.lineno, "message", node.value


def _document_parts(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, kind, text) of a document's lines outside of code blocks."""
    fenced = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            yield number, "prose", line.lstrip("#>-* ")


def main() -> None:
    """Print the findings below the given paths."""
    total = 0
    for root in map(Path, sys.argv[1:]):
        files = [root] if root.is_file() else sorted([*root.rglob("*.py"), *root.rglob("*.md")])
        for path in files:
            for line in findings(path):
                print(line)
                total += 1
    print(f"{total} findings")


if __name__ == "__main__":
    main()
