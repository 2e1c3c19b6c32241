"""Commands `geovision push` and `geovision pull` for models on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geovision.cli._key_value import AxisOption, parse_axis_lengths
from geovision.cli._model_argument import open_model
from geovision.cli._output import examples_epilog, print_status
from geovision.errors import OptionError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `push` and `pull` to the application."""
    app.command(
        "push",
        epilog=examples_epilog(
            "geovision push cloud-mobilenetv2 me/clouds",
            "geovision push runs/mine me/my-clouds --private --license CC-BY-4.0 --report runs/mine/report",
        ),
    )(push)
    app.command(
        "pull",
        epilog=examples_epilog(
            "geovision pull me/clouds",
            "geovision pull me/clouds@3f5d0cd1b0a1c7a8d0e3b1b5d4c8a2b7e9f60a12",
            "geovision predict hf:me/clouds sky.jpg",
        ),
    )(pull)


def push(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    repo: Annotated[
        str, typer.Argument(help="Repository, owner/repo or owner/repo@branch. Default branch: main.")
    ],
    license: Annotated[str, typer.Option(help="License of the weights, an SPDX identifier.")] = "",
    data_license: Annotated[str, typer.Option(help="License of the training data.")] = "",
    split: Annotated[
        str,
        typer.Option(
            help="Description of the data split. Default: the description of the dataset, if known."
        ),
    ] = "",
    report: Annotated[
        Path | None, typer.Option(help="Folder written by `geovision evaluate`, for the scores of the card.")
    ] = None,
    intended_use: Annotated[str, typer.Option(help="Intended use of the model.")] = "",
    limitations: Annotated[str, typer.Option(help="Known limitations of the model.")] = "",
    citation: Annotated[str, typer.Option(help="Citation of the model.")] = "",
    benchmark: Annotated[
        str | None,
        typer.Option(metavar="OWNER/DATASET:TASK:METRIC", help="Leaderboard of a dataset on the Hub."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Create a private repository, if it does not exist.")
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Store parameters in half precision.")] = False,
    message: Annotated[str, typer.Option(help="Commit message.")] = "",
    axis: AxisOption = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
) -> None:
    """Publish a model on the Hugging Face Hub in one commit.

    The commit contains weights, configuration, card and golden prediction. Its name,
    hf:owner/repo@commit, is printed. Log in first with `hf auth login`, or set HF_TOKEN.
    """
    leaderboard = _parse_benchmark(benchmark) if benchmark else None
    axes = parse_axis_lengths(axis or [])
    opened = open_model(model, weights)

    from geovision.hub.push import LeaderboardEntry
    from geovision.hub.push import push as publish
    from geovision.hub.repo_card import build_card_info

    statement = build_card_info(
        opened,
        license=license,
        data_license=data_license,
        split=split,
        report=report,
        intended_use=intended_use,
        limitations=limitations,
        citation=citation,
    )
    done = publish(
        opened,
        repo,
        statement,
        message=message,
        private=private,
        fp16=fp16,
        axes=axes,
        benchmark=LeaderboardEntry(*leaderboard) if leaderboard else None,
    )
    print(done)


def pull(
    repo: Annotated[str, typer.Argument(help="Repository, owner/repo or owner/repo@revision.")],
    out: Annotated[
        Path | None, typer.Option(help="Output folder of a copy. The cache also keeps the model.")
    ] = None,
) -> None:
    """Download a model from the Hugging Face Hub and verify it.

    The folder of the model is printed. A commit in the cache is used without a request.
    `geovision predict hf:owner/repo` downloads the model automatically.
    """
    from geovision.hub.pull import pull as fetch

    folder = fetch(repo)
    if out is not None:
        from geovision.hub.pull import copy_model

        folder = copy_model(folder, out)
    print_status("verified the digest of the weights and the golden prediction")
    print(folder)


def _parse_benchmark(text: str) -> list[str]:
    parts = text.split(":")
    if len(parts) != 3 or not all(parts):
        raise OptionError(f"--benchmark {text!r} is invalid; expected OWNER/DATASET:TASK:METRIC")
    return parts
