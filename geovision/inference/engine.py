"""Many pieces of work, done once each, by processes that may die: the loop around Dask.

Nothing here knows what a piece is. Any task hands in pieces with a key and a function of one piece;
what a piece leaves behind has to be the same however often it is done.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from geovision.errors import GeovisionError, MissingExtraError, OptionError

__all__ = ["Done", "Workers", "run"]

Piece = TypeVar("Piece")

AHEAD = 3
"""Pieces under way for each worker: one at work, the others on their way to it."""

DEATHS = 4
"""A piece whose workers died so often is given up, and the others go on."""


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Args:
        count: Processes on this machine; 0: this very process, one piece after the other.
        scheduler: Address of a Dask scheduler instead, such as ``tcp://10.0.0.1:8786``.
        memory: What a local worker may use before it is started anew, such as ``"4 GiB"``.
        threads: Threads of PyTorch in each worker.
    """

    count: int = 0
    scheduler: str | None = None
    memory: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Done(Generic[Piece]):
    """One piece, done or given up.

    Attributes:
        piece: As it was handed in.
        result: What the function gave; None where it was given up.
        error: Why it was given up.
    """

    piece: Piece
    result: Any = None
    error: str | None = None


def run(work: Callable[[Any], Any], pieces: Iterable[Piece], workers: Workers) -> Iterator[Done[Piece]]:
    """Do every piece, and give each as soon as it is done, in no order.

    `pieces` may be a generator of any length: only a few for each worker are taken at a time.

    Args:
        work: Importable by its name on the workers. A `GeovisionError` of it ends the run, any other
            error or the death of its worker gives up the piece after some trials.

    Raises:
        OptionError: The scheduler cannot be reached, or has no workers.
        MissingExtraError: dask is not installed.
    """
    if not workers.count and not workers.scheduler:
        for piece in pieces:
            yield _tried(work, piece)
        return
    with _client(workers) as (client, count):
        yield from _gather(client, work, iter(pieces), count * AHEAD)


def _tried(work: Callable[[Any], Any], piece: Piece) -> Done[Piece]:
    try:
        return Done(piece, work(piece))
    except GeovisionError:
        raise
    except Exception as error:
        return Done(piece, error=f"{type(error).__name__}: {error}")


def _gather(
    client: Any, work: Callable[[Any], Any], pieces: Iterator[Piece], ahead: int
) -> Iterator[Done[Piece]]:
    from distributed import as_completed

    waiting: dict[str, Piece] = {}

    def submit(some: Iterable[Piece]) -> list[Any]:
        futures = []
        for piece in some:
            future = client.submit(work, piece, pure=False)
            waiting[future.key] = piece
            futures.append(future)
        return futures

    running = as_completed(submit(itertools.islice(pieces, ahead)))
    for future in running:
        piece = waiting.pop(future.key)
        error = future.exception() if future.status == "error" else None
        done = Done(piece, future.result()) if error is None else Done(piece, error=_reason(error))
        future.release()
        if isinstance(error, GeovisionError):
            raise error
        for following in submit(itertools.islice(pieces, 1)):
            running.add(following)
        yield done


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return (
            f"its worker died {DEATHS} times, for want of memory or by a damaged file; "
            "give the workers more memory, or look at the files"
        )
    return f"{type(error).__name__}: {error}"


# --- the cluster --------------------------------------------------------------------------------


@contextmanager
def _client(workers: Workers) -> Iterator[tuple[Any, int]]:
    """A client, and how many workers there are."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError("dask", "scale") from error
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.worker.daemon": True,
        "logging.distributed": "error",
    }
    with dask.config.set(settings):
        if workers.scheduler:
            with _joined(distributed, workers.scheduler) as client:
                yield client, sum(client.nthreads().values())
            return
        # Set before the workers begin, for the libraries read it when they are loaded.
        environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(workers.threads))
        names = ("distributed.nanny.environ", "distributed.nanny.pre-spawn-environ")
        with (
            dask.config.set(dict.fromkeys(names, environment)),
            distributed.LocalCluster(
                n_workers=workers.count, threads_per_worker=1, processes=True, dashboard_address=None,
                memory_limit=workers.memory or "auto",
            ) as cluster,
            distributed.Client(cluster) as client,
        ):  # fmt: skip
            yield client, workers.count


@contextmanager
def _joined(distributed: Any, address: str) -> Iterator[Any]:
    try:
        client = distributed.Client(address, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise OptionError(
            f"no Dask scheduler answers at {address} ({type(error).__name__}); "
            "start one, or leave out --scheduler"
        ) from error
    with client:
        if not client.nthreads():
            raise OptionError(f"the Dask scheduler at {address} has no workers; start some, or wait for them")
        yield client


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
