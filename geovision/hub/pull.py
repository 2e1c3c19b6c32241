"""Download of models from the Hugging Face Hub, with verification and cache.

Four files with fixed names are downloaded; other files of the repository are ignored. The files are data: no
code is run, no pickle is opened, and no file name of the repository is used as a local path.
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
    """Download a model and verify its digest and golden prediction.

    A commit in the cache is used without a request. With ``HF_HUB_OFFLINE=1`` no request is sent, and a
    branch or tag refers to the commit of the last download.

    Args:
        repo_id: Repository and revision, ``hf:owner/repo@revision``. Default revision: ``main``.
        cache: Folder of the cache. Default: None, the cache of huggingface-hub (``HF_HOME``).
        token: Token for private and gated repositories. Default: None, the token of ``hf auth login`` or
            ``HF_TOKEN``.

    Returns:
        Folder of one commit in the cache.

    Raises:
        WeightsNotAvailableError: If the repository or revision does not exist, is not accessible, contains no
            model, or is not in the cache while the network is unavailable.
        WeightsCorruptError: If the digest of the weights or the golden prediction differs.
        DownloadError: If the connection fails, or the server sends an unexpected file.
    """
    return _pull_verified(repo_id, cache, token)[0]


def pull_model(
    repo_id: str | RepoId, *, cache: str | Path | None = None, token: str | None = None
) -> GeoModel:
    """Download, verify and return a model. See `pull`.

    Args:
        repo_id: Repository and revision, ``hf:owner/repo@revision``. Default revision: ``main``.
        cache: Folder of the cache. Default: None, the cache of huggingface-hub (``HF_HOME``).
        token: Token for private and gated repositories. Default: None, the token of ``hf auth login`` or
            ``HF_TOKEN``.

    Returns:
        Trained model.
    """
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
        # Otherwise the next call would use the same corrupt file.
        _remove_from_cache(folder)
        raise
    return folder, model


def _fetch(repo_id: RepoId, cache: str | Path | None, token: str | None) -> Path:
    """Download the four files of one commit and return their folder."""
    first = _fetch_file(repo_id, CONFIG, cache, token)
    # The commit of the first file is used for the others, in case a new commit is pushed in between.
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
    except Exception as error:  # raised by huggingface_hub, its HTTP client or the system
        raise hub_error(error, repo_id, name) from error


def hub_error(error: Exception, repo_id: RepoId, name: str = "") -> GeovisionError:
    """Convert an error of the Hub into a one-line error with a remedy.

    Args:
        error: Error raised by huggingface_hub, its HTTP client or the system.
        repo_id: Repository and revision.
        name: Name of the file or action, for the message. Default: "".

    Returns:
        `WeightsNotAvailableError` or `DownloadError`.
    """
    from huggingface_hub import errors

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    messages: dict[Any, str] = {
        errors.GatedRepoError: "the repository is gated; request access at "
        f"https://huggingface.co/{repo_id.repo}, then {log_in}",
        errors.RepositoryNotFoundError: "the repository does not exist or is private; check the name, or "
        f"{log_in}",
        errors.RevisionNotFoundError: "the repository has no such revision; omit the revision to use main",
        errors.LocalEntryNotFoundError: f"{name} is not in the cache, and the Hub is not reachable; pull the "
        "model with a network connection, and make sure that HF_HUB_OFFLINE is not set",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, but this command requires the network; unset it",
        errors.EntryNotFoundError: f"the repository contains no {name}; expected a model that was published "
        "by geovision",
        errors.HFValidationError: f"invalid repository name ({error})",
    }
    for error_type, text in messages.items():
        if isinstance(error, error_type):
            return WeightsNotAvailableError(f"{repo_id}: {text}")
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DownloadError(f"{repo_id}: {name or 'the Hub'}: {reason}; check the network and try again")


def _remove_from_cache(folder: Path) -> None:
    """Remove a corrupt model from the cache: the links and the linked files."""
    for name in (CONFIG, WEIGHTS, GOLDEN_NAME):
        path = folder / name
        for each in (path.resolve(), path):
            with contextlib.suppress(OSError):
                each.unlink()


def copy_model(folder: Path, out: Path) -> Path:
    """Copy a downloaded model to another folder; an incomplete copy is never left.

    Args:
        folder: Folder of the model in the cache.
        out: Output folder.

    Returns:
        `out`.

    Raises:
        StorageError: If a file cannot be written; existing files are unchanged.
    """
    names = (WEIGHTS, GOLDEN_NAME, CARD, CONFIG)
    _atomic_io.write_files(out, {name: partial(_copy, folder / name) for name in names})
    return out


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
