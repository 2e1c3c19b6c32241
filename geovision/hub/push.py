"""Upload of models to the Hugging Face Hub, with card, golden prediction and results."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geovision.errors import OptionError
from geovision.hub.golden import GOLDEN_NAME, write_golden
from geovision.hub.pull import hub_error
from geovision.hub.repo_card import CardInfo, render_card
from geovision.hub.repo_id import RepoId
from geovision.models.geomodel import GeoModel
from geovision.models.loading import read
from geovision.models.serialization import CARD, CONFIG, WEIGHTS, write

__all__ = ["LeaderboardEntry", "push"]


@dataclass(frozen=True)
class LeaderboardEntry:
    """Entry of the leaderboard of a dataset on the Hub.

    Args:
        dataset: Name of the dataset, ``owner/name``.
        task: Name of a task in the ``eval.yaml`` of the dataset.
        metric: Name of a metric in `CardInfo.metrics`.
    """

    dataset: str
    task: str
    metric: str


def push(
    model: GeoModel,
    repo_id: str | RepoId,
    card_info: CardInfo,
    *,
    message: str = "",
    private: bool = False,
    fp16: bool = False,
    axes: Mapping[str, int] | None = None,
    benchmark: LeaderboardEntry | None = None,
    token: str | None = None,
) -> RepoId:
    """Publish a model in one commit.

    Args:
        model: Trained model.
        repo_id: Repository ``owner/repo``, or ``owner/repo@branch``. Default branch: ``main``. A missing
            repository is created.
        card_info: Information for the card that the model does not contain.
        message: Commit message. Default: "", a message with the name of the model.
        private: Whether a new repository is private. Default: False.
        fp16: Whether to store parameters in half precision, at half the size. Default: False.
        axes: Lengths of axes of variable length, by name, for the golden prediction. Default: None.
        benchmark: Leaderboard entry of one metric. Default: None.
        token: Access token. Default: None, the token of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        Repository with the new commit as revision.

    Raises:
        OptionError: If the metric of `benchmark` is unknown, or the length of an axis is missing.
        WeightsNotAvailableError: If access is denied.
        DownloadError: If the connection fails.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    wanted = RepoId.parse(repo_id) if isinstance(repo_id, str) else repo_id
    if benchmark and benchmark.metric not in card_info.metrics:
        raise OptionError(f"unknown metric {benchmark.metric!r}; known: {', '.join(card_info.metrics)}")
    api = HfApi(token=token, library_name="geovision")
    with tempfile.TemporaryDirectory() as temporary:
        folder = write(model, Path(temporary), fp16=fp16, card=render_card(model, wanted.repo, card_info))
        # The golden prediction is computed with the stored weights, because half precision rounds them.
        write_golden(read(folder), folder / GOLDEN_NAME, axes=axes)
        files = [CONFIG, WEIGHTS, GOLDEN_NAME, CARD]
        if benchmark:
            files.append(_write_benchmark_result(folder, benchmark, card_info))
        try:
            api.create_repo(wanted.repo, private=private or None, exist_ok=True)
            done = api.create_commit(
                wanted.repo,
                [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files],
                commit_message=message or f"{model.spec.name}, written by geovision",
                revision=wanted.revision,
            )
        except Exception as error:  # raised by huggingface_hub, its HTTP client or the system
            raise hub_error(error, wanted, "the commit") from error
    return RepoId(wanted.repo, done.oid)


def _write_benchmark_result(folder: Path, benchmark: LeaderboardEntry, card_info: CardInfo) -> str:
    """Write the leaderboard entry of one metric and return its name in the repository."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    value, low, high = card_info.metrics[benchmark.metric]
    entry = EvalResultEntry(
        dataset_id=benchmark.dataset,
        task_id=benchmark.task,
        value=value,
        notes=f"{benchmark.metric}, 95 % interval {low:.4g} to {high:.4g}; {card_info.split}",
    )
    name = f".eval_results/{benchmark.dataset.rpartition('/')[2]}.yaml"
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml_dump(eval_result_entries_to_yaml([entry])), "utf-8")
    return name
