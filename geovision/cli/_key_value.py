"""Options of the form NAME=VALUE, and the one for axes that a model leaves open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

import typer

from geovision.errors import GeovisionError, OptionError

__all__ = ["AxisOption", "parse_axis_lengths", "parse_key_values"]

Value = TypeVar("Value")

AxisOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=LENGTH", help="Of an axis that the model leaves open; may be repeated."),
]
"""The option that `parse_axis_lengths` reads."""


def parse_key_values(
    texts: Iterable[str], option: str, metavar: str, parse: Callable[[str], Value]
) -> dict[str, Value]:
    """Name to value.

    Args:
        option: As it is typed, such as ``"--axis"``.
        metavar: What was expected, for the message.
        parse: Raises ValueError where it does not understand a value.

    Raises:
        OptionError: A text that cannot be understood.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            if not (name and value):
                raise ValueError
            found[name.strip()] = parse(value)
        except ValueError as error:
            why = f" ({error})" if isinstance(error, GeovisionError) else ""
            raise OptionError(f"{option} {text!r} is not understood{why}; give {metavar}") from None
    return found


def parse_axis_lengths(texts: Iterable[str]) -> dict[str, int]:
    """Axis to length, 1 or more.

    Raises:
        OptionError: One that cannot be understood.
    """
    return parse_key_values(texts, "--axis", "NAME=LENGTH, such as --axis time=20", _length)


def _length(text: str) -> int:
    if (length := int(text)) < 1:
        raise ValueError
    return length
