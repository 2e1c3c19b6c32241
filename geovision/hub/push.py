"""A model to the Hub: weights, configuration, a golden answer, a card, and evaluation results."""

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
    """A data set on the Hub that a figure stands for on its leaderboard.

    Args:
        dataset: ``owner/name``.
        task: One of those that the data set names in its ``eval.yaml``.
        metric: Name of the figure, among those of the statement.
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
        model: With its weights.
        repo_id: ``owner/repo``, with ``@branch`` for another branch than ``main``; a repository that is
            missing is made.
        card_info: What the card says that the model does not know of itself.
        message: Of the commit.
        private: A repository that is made can be seen by its owner alone.
        fp16: Parameters in half precision, at half the size.
        axes: Lengths of axes that its inputs leave open, for the golden answer.
        benchmark: The leaderboard that a figure is for.
        token: None: that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The address of the commit, pinned.

    Raises:
        OptionError: The statement lacks what a card has to say, or an axis has no length.
        WeightsNotAvailableError: No access.
        DownloadError: The connection fails.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    wanted = RepoId.parse(repo_id) if isinstance(repo_id, str) else repo_id
    if benchmark and benchmark.metric not in card_info.metrics:
        raise OptionError(
            f"no figure is called {benchmark.metric!r}; there are {', '.join(card_info.metrics)}"
        )
    api = HfApi(token=token, library_name="geovision")
    with tempfile.TemporaryDirectory() as temporary:
        folder = write(model, Path(temporary), fp16=fp16, card=render_card(model, wanted.repo, card_info))
        # Of the weights as they are written: half precision rounds.
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
        except Exception as error:  # of the library, of its HTTP client, of the system
            raise hub_error(error, wanted, "the commit") from error
    return RepoId(wanted.repo, done.oid)


def _write_benchmark_result(folder: Path, benchmark: LeaderboardEntry, card_info: CardInfo) -> str:
    """The Hub's record of one figure; its name in the repository."""
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
