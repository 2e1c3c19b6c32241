"""Addresses of models on the Hub: ``hf:owner/repo@revision``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from geovision.errors import OptionError

__all__ = ["PREFIX", "RepoId"]

PREFIX = "hf:"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPO_ID = re.compile(rf"(?:{PREFIX})?({_NAME}/{_NAME})(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class RepoId:
    """A repository, and one of its revisions.

    Args:
        repo: ``owner/name``.
        revision: Commit, tag or branch.
    """

    repo: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> RepoId:
        """An address as it is written, with or without ``hf:``.

        Raises:
            OptionError: It is none.

        >>> Address.parse("hf:sky/clouds@v1")
        Address(repo='sky/clouds', revision='v1')
        """
        found = _REPO_ID.fullmatch(text)
        if not found or ".." in text:
            raise OptionError(f"{text!r} is no address of a model; expected hf:owner/repo@revision")
        return cls(found[1], found[2] or "main")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return bool(_COMMIT.fullmatch(self.revision))

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}@{self.revision}"
