"""`geovision push` and `geovision pull`: models to and from the Hub."""

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
    repo: Annotated[str, typer.Argument(help="owner/repo, with @branch for another than main.")],
    license: Annotated[str, typer.Option(help="License of the weights, an SPDX name.")] = "",
    data_license: Annotated[str, typer.Option(help="License of the training data.")] = "",
    split: Annotated[str, typer.Option(help="How samples were kept apart; known of known sets.")] = "",
    report: Annotated[
        Path | None, typer.Option(help="Folder that `geovision evaluate` wrote, for the figures.")
    ] = None,
    intended_use: Annotated[str, typer.Option(help="What it is for.")] = "",
    limitations: Annotated[str, typer.Option(help="Known limitations of the model.")] = "",
    citation: Annotated[str, typer.Option(help="How it is to be cited.")] = "",
    benchmark: Annotated[
        str | None,
        typer.Option(metavar="OWNER/DATASET:TASK:METRIC", help="Leaderboard of a data set on the Hub."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new one is its owner's alone.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Store parameters in half precision.")] = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "",
    axis: AxisOption = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
) -> None:
    """Publish a model on the Hugging Face Hub, in one commit: weights, configuration, card, golden answer.

    The address of the commit is written to standard output. Log in first: `hf auth login`, or HF_TOKEN.
    """
    asked = _parse_benchmark(benchmark) if benchmark else None
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
        benchmark=LeaderboardEntry(*asked) if asked else None,
    )
    print(done)


def pull(
    repo: Annotated[str, typer.Argument(help="owner/repo@revision.")],
    out: Annotated[Path | None, typer.Option(help="Folder to copy it to; it stays in the cache too.")] = None,
) -> None:
    """Fetch a model from the Hugging Face Hub and verify it; its folder is written to standard output.

    A commit that is in the cache is used without a request. `geovision predict hf:owner/repo` fetches by
    itself.
    """
    from geovision.hub.pull import pull as fetch

    folder = fetch(repo)
    if out is not None:
        from geovision.hub.pull import copy_model

        folder = copy_model(folder, out)
    print_status("verified: the digest of its weights, and its golden answer")
    print(folder)


def _parse_benchmark(text: str) -> list[str]:
    parts = text.split(":")
    if len(parts) != 3 or not all(parts):
        raise OptionError(f"--benchmark {text!r} is not understood; give OWNER/DATASET:TASK:METRIC")
    return parts
