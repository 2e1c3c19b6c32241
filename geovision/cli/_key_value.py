"""Options of the form NAME=VALUE, including the lengths of free axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

import typer

from geovision.errors import GeovisionError, OptionError

__all__ = ["AxisOption", "parse_axis_lengths", "parse_key_values"]

Value = TypeVar("Value")

AxisOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=LENGTH", help="Length of an axis of variable length. May be repeated."),
]
"""Option whose values `parse_axis_lengths` parses."""


def parse_key_values(
    texts: Iterable[str], option: str, metavar: str, parse: Callable[[str], Value]
) -> dict[str, Value]:
    """Parse texts of the form NAME=VALUE.

    Args:
        texts: Values of an option.
        option: Name of the option, such as ``"--axis"``, for the error message.
        metavar: Expected form, for the error message.
        parse: Parser of one value; raises ValueError if the value is invalid.

    Returns:
        Parsed values by name.

    Raises:
        OptionError: If a text is invalid.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            if not (name and value):
                raise ValueError
            found[name.strip()] = parse(value)
        except ValueError as error:
            reason = f" ({error})" if isinstance(error, GeovisionError) else ""
            raise OptionError(f"{option} {text!r} is invalid{reason}; expected {metavar}") from None
    return found


def parse_axis_lengths(texts: Iterable[str]) -> dict[str, int]:
    """Parse the lengths of axes.

    Args:
        texts: Values of ``--axis``: ``NAME=LENGTH``.

    Returns:
        Length of each axis, 1 or more, by name.

    Raises:
        OptionError: If a text is invalid.
    """
    return parse_key_values(texts, "--axis", "NAME=LENGTH, such as --axis time=20", _length)


def _length(text: str) -> int:
    if (length := int(text)) < 1:
        raise ValueError
    return length
