"""Where the files of a data set lie, as data beside its adapter; `geovision.hub` fetches them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DataverseRecord", "RemoteFile"]


@dataclass(frozen=True)
class RemoteFile:
    """One file on a server.

    Args:
        name: Where it goes under the data set's folder: a relative path with ``/``. What ends in
            ``.zip`` is unpacked and not kept.
        url: Its address, http or https.
        size: Bytes; None where not known beforehand.
        checksum: ``"sha256:HEX"``, ``"md5:HEX"`` or another algorithm of hashlib; empty: not known.
        strip_top_level: The archive holds everything in one folder that is left out when it is unpacked.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str = ""
    strip_top_level: bool = False


@dataclass(frozen=True)
class DataverseRecord:
    """A published data set in a Dataverse repository, whose record lists files with size and digest.

    Args:
        server: Address of the repository.
        doi: Persistent identifier, with ``doi:``.
        patterns: Wildcards over file names; the files that match the first pattern with any match
            are fetched.
        strip_top_level: As in `RemoteFile`, for the archives among them.
    """

    server: str
    doi: str
    patterns: tuple[str, ...] = ("*",)
    strip_top_level: bool = False

    @property
    def landing_page(self) -> str:
        """Where a person finds it."""
        return f"https://doi.org/{self.doi.removeprefix('doi:')}"
