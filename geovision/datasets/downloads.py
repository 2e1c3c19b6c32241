"""Addresses of dataset files, declared next to each adapter and downloaded by `geovision.hub`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DataverseRecord", "RemoteFile"]


@dataclass(frozen=True)
class RemoteFile:
    """One file on a server.

    Args:
        name: Relative path in the folder of the dataset, with ``/``. A file that ends in ``.zip`` is
            extracted and then removed.
        url: Address, http or https.
        size: Size in bytes. Default: None, unknown.
        checksum: ``"sha256:HEX"``, ``"md5:HEX"`` or another algorithm of hashlib. Default: "", unknown.
        strip_top_level: Whether to remove the top-level folder of the archive when it is extracted. Default:
            False.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str = ""
    strip_top_level: bool = False


@dataclass(frozen=True)
class DataverseRecord:
    """Published dataset in a Dataverse repository, whose record lists files, sizes and digests.

    Args:
        server: Address of the repository.
        doi: Persistent identifier, with ``doi:``.
        patterns: Wildcards for file names. The files that match the first pattern with any match are
            downloaded. Default: all files.
        strip_top_level: Whether to remove the top-level folder of archives when they are extracted. Default:
            False.
    """

    server: str
    doi: str
    patterns: tuple[str, ...] = ("*",)
    strip_top_level: bool = False

    @property
    def landing_page(self) -> str:
        """Address of the web page of the dataset."""
        return f"https://doi.org/{self.doi.removeprefix('doi:')}"
