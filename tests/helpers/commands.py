"""The command line in this process, for tests."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from geovision.cli import main

__all__ = ["Ran", "ran"]


class Ran(NamedTuple):
    """Exit code and both output streams of a command."""

    code: int
    out: str
    err: str


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run one command; the arguments may be paths and numbers."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return Ran(int(ended.value.code or 0), streams.out, streams.err)
