"""Many pieces of work, done once each, by processes that may die: the loop around Dask.

Nothing here knows what a piece is. Any task hands in pieces with a key and a function of one piece;
what a piece leaves behind has to be the same however often it is done.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from geovision._logging import suppress_logging
from geovision.errors import GeovisionError, MissingExtraError, OptionError

__all__ = ["ExecutorConfig", "ItemResult", "run"]

Item = TypeVar("Item")

MAX_WORKER_DEATHS = 3
"""A piece whose workers died so often is given up, and the others go on."""


CONNECT_TIMEOUT = 5
"""Seconds in which a scheduler has to answer."""

MAX_INITIAL_FAILURES = 3
"""So many pieces given up for dead workers before the first is done, and the run ends."""


@dataclass(frozen=True)
class ExecutorConfig:
    """Who does the work.

    Args:
        num_workers: Processes on this machine; 0: this very process, one piece after the other.
        scheduler: Address of a Dask scheduler instead, such as ``tcp://10.0.0.1:8786``.
        memory_limit: Memory of a local worker before it is restarted, such as ``"4 GiB"``; None: no limit.
        threads: Threads of PyTorch in each worker.
    """

    num_workers: int = 0
    scheduler: str | None = None
    memory_limit: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class ItemResult(Generic[Item]):
    """One piece, done or given up.

    Attributes:
        item: As it was handed in.
        result: What the function gave; None where it was given up.
        error: Why it was given up.
    """

    item: Item
    result: Any = None
    error: str | None = None


def run(
    work: Callable[[Any], Any], items: Iterable[Item], config: ExecutorConfig
) -> Iterator[ItemResult[Item]]:
    """Do every piece, and give each as soon as it is done, in no order.

    `items` may be a generator of any length: only as many are taken as there are workers. A piece that
    waited behind another one would be blamed for the death of their worker too.

    Args:
        work: Importable by its name on the workers. A `GeovisionError` of it ends the run, any other
            error or the death of its worker gives up the piece after some trials.

    Raises:
        OptionError: The scheduler cannot be reached, or has no workers.
        MissingExtraError: dask is not installed.
    """
    if not config.num_workers and not config.scheduler:
        for piece in items:
            yield _run_item(work, piece)
        return
    items = iter(items)
    first = list(itertools.islice(items, 1))
    if first:  # otherwise no process is worth starting
        with _client(config) as (client, count), _connection_lost_error():
            yield from _gather(client, work, itertools.chain(first, items), count)


def _run_item(work: Callable[[Any], Any], item: Item) -> ItemResult[Item]:
    try:
        return ItemResult(item, work(item))
    except GeovisionError:
        raise
    except Exception as error:
        return ItemResult(item, error=f"{type(error).__name__}: {error}")


def _gather(
    client: Any, work: Callable[[Any], Any], items: Iterator[Item], max_pending: int
) -> Iterator[ItemResult[Item]]:
    from distributed import as_completed

    waiting: dict[str, Item] = {}
    finished, deaths = 0, 0

    def submit(some: Iterable[Item]) -> list[Any]:
        futures = []
        for piece in some:
            future = client.submit(work, piece, pure=False)
            waiting[future.key] = piece
            futures.append(future)
        return futures

    running = as_completed(submit(itertools.islice(items, max_pending)))
    for future in running:
        piece = waiting.pop(future.key)
        if future.status not in ("finished", "error"):  # cancelled, or lost with the scheduler
            raise ConnectionError(future.status)
        error = future.exception() if future.status == "error" else None
        done = (
            ItemResult(piece, future.result())
            if error is None
            else ItemResult(piece, error=_format_error(error))
        )
        future.release()
        if isinstance(error, GeovisionError):
            raise error
        finished += error is None
        deaths += _worker_died(error)
        if deaths == MAX_INITIAL_FAILURES and not finished:
            raise OptionError(
                f"nothing was done: of the first {MAX_INITIAL_FAILURES} pieces, for each {done.error}"
            )
        for following in submit(itertools.islice(items, 1)):
            running.add(following)
        yield done


def _worker_died(error: BaseException | None) -> bool:
    return type(error).__name__ == "KilledWorker"


def _format_error(error: BaseException) -> str:
    if _worker_died(error):
        return (
            f"its worker died {MAX_WORKER_DEATHS} times, for want of memory or by a damaged file; "
            "give the workers more memory, or look at the files"
        )
    return f"{type(error).__name__}: {error}"


# --- the cluster --------------------------------------------------------------------------------


_DASK_CONFIG = {
    "distributed.scheduler.allowed-failures": MAX_WORKER_DEATHS - 1,
    # What fills a worker is no data that could be kept on disk instead, and a worker that pauses until
    # there is room would wait for ever: it goes on, or dies.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}


@contextmanager
def _client(config: ExecutorConfig) -> Iterator[tuple[Any, int]]:
    """A client, and how many pieces its workers do at once."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError("dask", "scale") from error
    # Set before the workers begin, for the libraries read it when they are loaded.
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(config.threads))
    environments = dict.fromkeys(
        ("distributed.nanny.environ", "distributed.nanny.pre-spawn-environ"), environment
    )
    with _suppress_cluster_logs(), dask.config.set(_DASK_CONFIG | environments):
        if config.scheduler:
            with _connect(distributed, config.scheduler) as client:
                yield client, sum(client.nthreads().values())
            return
        with (
            distributed.LocalCluster(
                n_workers=config.num_workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",
                memory_limit=_parse_memory_limit(config.memory_limit),
                silence_logs=logging.CRITICAL,
                preload=[__name__],
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client, config.num_workers


@contextmanager
def _connect(distributed: Any, address: str) -> Iterator[Any]:
    try:
        client = distributed.Client(address, timeout=CONNECT_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise OptionError(
            f"no Dask scheduler answers at {address} ({type(error).__name__}); "
            "start one, or leave out --scheduler"
        ) from error
    with client:
        if not client.nthreads():
            raise OptionError(f"the Dask scheduler at {address} has no workers; start some, or wait for them")
        yield client


@contextmanager
def _connection_lost_error() -> Iterator[None]:
    try:
        yield
    except GeovisionError:
        raise
    except OSError as error:  # all that Dask says of broken connections
        raise OptionError(
            f"the Dask scheduler has gone ({type(error).__name__}); what is done stays. "
            "Start it, and this again, to go on"
        ) from error


def _parse_memory_limit(memory_limit: str | None) -> int:
    """Bytes for each worker, 0 for no limit; refused where it would die before its first piece, and
    again, for ever."""
    if not memory_limit:
        return 0
    import psutil
    from dask.utils import format_bytes, parse_bytes

    try:
        limit = parse_bytes(memory_limit)
    except ValueError as error:
        raise OptionError(f"memory {memory_limit!r} is no amount; give it as in '4 GiB'") from error
    # A worker is a process like this one, with the same libraries.
    least = int(1.25 * psutil.Process().memory_info().rss)
    if limit < least:
        raise OptionError(
            f"{memory_limit} is too little memory for a worker, which takes {format_bytes(least)} before its "
            "first piece of work; give more"
        )
    return limit


def dask_setup(_worker: Any) -> None:
    """Called by Dask as a local worker begins: an interrupt is for the driver, which ends its workers."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _suppress_cluster_logs() -> Iterator[None]:
    """Without the log of the cluster: what happens to a piece is told with the piece."""
    # Each of Dask's loggers has a level of its own.
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    with suppress_logging(*known, below=logging.CRITICAL):
        yield


def num_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
