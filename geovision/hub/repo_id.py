"""Identifiers of models on the Hugging Face Hub: ``hf:owner/repo@revision``."""

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
    """Repository and revision of a model.

    Args:
        repo: Repository, ``owner/name``.
        revision: Commit, tag or branch. Default: ``"main"``.
    """

    repo: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> RepoId:
        """Parse ``owner/repo@revision``, with or without ``hf:``.

        Args:
            text: Identifier. Default revision: ``main``.

        Returns:
            Repository and revision.

        Raises:
            OptionError: If the text has another form.

        >>> RepoId.parse("hf:sky/clouds@v1")
        RepoId(repo='sky/clouds', revision='v1')
        """
        found = _REPO_ID.fullmatch(text)
        if not found or ".." in text:
            raise OptionError(f"{text!r} is not a model on the Hub; expected hf:owner/repo@revision")
        return cls(found[1], found[2] or "main")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which is immutable."""
        return bool(_COMMIT.fullmatch(self.revision))

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}@{self.revision}"
