"""A model from the Hub: verified, kept in the cache, and used from there.

Four files are asked for by name and nothing else is fetched, whatever the repository holds. They are
data: no code is run, no pickle is opened, and no name of the repository becomes a path here.
"""

from __future__ import annotations

import contextlib
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from geovision import _atomic_io
from geovision.errors import DownloadError, GeovisionError, WeightsCorruptError, WeightsNotAvailableError
from geovision.hub.golden import GOLDEN_NAME, check_golden
from geovision.hub.repo_id import RepoId
from geovision.models.geomodel import GeoModel
from geovision.models.loading import read
from geovision.models.serialization import CARD, CONFIG, WEIGHTS

__all__ = ["copy_model", "pull", "pull_model"]


def pull(repo_id: str | RepoId, *, cache: str | Path | None = None, token: str | None = None) -> Path:
    """Fetch a model, and see that it is what its publisher wrote down.

    A commit that is in the cache is used without a request. With ``HF_HUB_OFFLINE=1`` nothing is asked,
    and a branch or a tag means what it meant last.

    Args:
        repo_id: ``hf:owner/repo@revision``; ``main`` where no revision is named.
        cache: Folder; None: where huggingface-hub keeps its files (``HF_HOME``).
        token: For private and gated repositories; None: that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The folder in the cache, of one commit.

    Raises:
        WeightsNotAvailableError: No such repository or revision, no access, no model in it, or not in the
            cache
            and no network.
        WeightsCorruptError: The digest of the weights or the golden answer is another.
        DownloadError: The connection fails, or the server sends something else than it promised.
    """
    return _pull_verified(repo_id, cache, token)[0]


def pull_model(
    repo_id: str | RepoId, *, cache: str | Path | None = None, token: str | None = None
) -> GeoModel:
    """The model itself. See `pull`."""
    return _pull_verified(repo_id, cache, token)[1]


def _pull_verified(
    repo_id: str | RepoId, cache: str | Path | None, token: str | None
) -> tuple[Path, GeoModel]:
    wanted = RepoId.parse(repo_id) if isinstance(repo_id, str) else repo_id
    folder = _fetch(wanted, cache, token)
    try:
        model = read(folder)
        check_golden(model, folder / GOLDEN_NAME)
    except WeightsCorruptError:
        # Or the same file would be found again.
        _remove_from_cache(folder)
        raise
    return folder, model


def _fetch(repo_id: RepoId, cache: str | Path | None, token: str | None) -> Path:
    """The four files of one commit."""
    first = _fetch_file(repo_id, CONFIG, cache, token)
    # Whatever is pushed meanwhile, the rest is of the same commit.
    commit = RepoId(repo_id.repo, first.parent.name)
    for name in (WEIGHTS, GOLDEN_NAME, CARD):
        _fetch_file(commit, name, cache, token)
    return first.parent


def _fetch_file(repo_id: RepoId, name: str, cache: str | Path | None, token: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(
                repo_id.repo,
                name,
                revision=repo_id.revision,
                cache_dir=cache,
                token=token,
                library_name="geovision",
            )
        )
    except Exception as error:  # of the library, of its HTTP client, of the system
        raise hub_error(error, repo_id, name) from error


def hub_error(error: Exception, repo_id: RepoId, name: str = "") -> GeovisionError:
    """What went wrong with the Hub, in one line that says what to do."""
    from huggingface_hub import errors

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    told: dict[Any, str] = {
        errors.GatedRepoError: "access is given on request; ask for it at "
        f"https://huggingface.co/{repo_id.repo}, then {log_in}",
        errors.RepositoryNotFoundError: f"no such repository, or a private one; check the name, or {log_in}",
        errors.RevisionNotFoundError: "the repository has no such revision; leave it out for main",
        errors.LocalEntryNotFoundError: f"{name} is not in the cache, and the Hub is not reached; pull it "
        "where there is network, and see that HF_HUB_OFFLINE is not set",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and this needs the network",
        errors.EntryNotFoundError: f"holds no {name}, so it is no model that geovision published",
        errors.HFValidationError: f"no address of a repository ({error})",
    }
    for kind, text in told.items():
        if isinstance(error, kind):
            return WeightsNotAvailableError(f"{repo_id}: {text}")
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DownloadError(f"{repo_id}: {name or 'the Hub'}: {reason}; check the network and run it again")


def _remove_from_cache(folder: Path) -> None:
    """Take what was found wrong out of the cache: the files and what they are links to."""
    for name in (CONFIG, WEIGHTS, GOLDEN_NAME):
        path = folder / name
        for each in (path.resolve(), path):
            with contextlib.suppress(OSError):
                each.unlink()


def copy_model(folder: Path, out: Path) -> Path:
    """A pulled model in a folder of one's own, whole or not at all.

    Raises:
        StorageError: It could not be written; what stood there is untouched.
    """
    names = (WEIGHTS, GOLDEN_NAME, CARD, CONFIG)
    _atomic_io.write_files(out, {name: partial(_copy, folder / name) for name in names})
    return out


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
