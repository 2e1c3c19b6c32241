"""Fault-tolerant execution of independent items of work.

The items run in this process or with Dask. The module is independent of the kind of work: a caller passes the
items and a function of one item. An item may be repeated after a worker crashed, so repeating it has to leave
the same result.
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
"""Number of worker crashes after which an item is reported as failed; other items continue."""


CONNECT_TIMEOUT = 5
"""Timeout for the connection to a scheduler, in seconds."""

MAX_INITIAL_FAILURES = 3
"""Number of items failed by worker crashes that end the run if no item has succeeded."""


@dataclass(frozen=True)
class ExecutorConfig:
    """Workers that execute the items.

    Args:
        num_workers: Number of local worker processes. Default: 0, all items run one by one in this process.
        scheduler: Address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``. It takes precedence over
            `num_workers`. Default: None.
        memory_limit: Memory at which a local worker is restarted, such as ``"4 GiB"``. Default: no limit.
        threads: Number of PyTorch threads in each worker. Default: 1.
    """

    num_workers: int = 0
    scheduler: str | None = None
    memory_limit: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class ItemResult(Generic[Item]):
    """Result of one item, successful or failed.

    Attributes:
        item: Item of work.
        result: Return value of the function; None if the item failed.
        error: Reason of the failure; None if the item succeeded.
    """

    item: Item
    result: Any = None
    error: str | None = None


def run(
    work: Callable[[Any], Any], items: Iterable[Item], config: ExecutorConfig
) -> Iterator[ItemResult[Item]]:
    """Execute a function for every item and yield the results.

    Each result is yielded when it is finished. `items` may be a generator of any length: a worker has at most
    one item. If several items waited on one worker, Dask would attribute a crash of the worker to all of
    them.

    Args:
        work: Function of one item that the workers can import by its name. A `GeovisionError` ends the run.
            Any other exception marks the item as failed; a worker crash does so after three attempts.
        items: Items of work.
        config: Workers that execute the items.

    Yields:
        One result for each item, in no particular order.

    Raises:
        OptionError: If the scheduler cannot be reached or has no workers.
        MissingExtraError: If dask is not installed.
    """
    if not config.num_workers and not config.scheduler:
        for item in items:
            yield _run_item(work, item)
        return
    items = iter(items)
    first = list(itertools.islice(items, 1))
    if first:  # do not start processes without work
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
        for item in some:
            future = client.submit(work, item, pure=False)
            waiting[future.key] = item
            futures.append(future)
        return futures

    running = as_completed(submit(itertools.islice(items, max_pending)))
    for future in running:
        item = waiting.pop(future.key)
        if future.status not in ("finished", "error"):  # cancelled, or lost with the scheduler
            raise ConnectionError(future.status)
        error = future.exception() if future.status == "error" else None
        done = (
            ItemResult(item, future.result())
            if error is None
            else ItemResult(item, error=_format_error(error))
        )
        future.release()
        if isinstance(error, GeovisionError):
            raise error
        finished += error is None
        deaths += _worker_died(error)
        if deaths == MAX_INITIAL_FAILURES and not finished:
            raise OptionError(
                f"no item succeeded, and each of the first {MAX_INITIAL_FAILURES} failures is a crash: "
                f"{done.error}"
            )
        for following in submit(itertools.islice(items, 1)):
            running.add(following)
        yield done


def _worker_died(error: BaseException | None) -> bool:
    return type(error).__name__ == "KilledWorker"


def _format_error(error: BaseException) -> str:
    if _worker_died(error):
        return (
            f"the worker crashed {MAX_WORKER_DEATHS} times, out of memory or because of a damaged file; "
            "increase the memory of the workers, or check the files"
        )
    return f"{type(error).__name__}: {error}"


# --- the cluster --------------------------------------------------------------------------------


_DASK_CONFIG = {
    "distributed.scheduler.allowed-failures": MAX_WORKER_DEATHS - 1,
    # The memory of a worker holds no data that Dask could move to disk, and a paused worker would wait for
    # ever. So a worker continues until it finishes or is restarted at its limit.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}


@contextmanager
def _client(config: ExecutorConfig) -> Iterator[tuple[Any, int]]:
    """Yield a client and the number of items executed in parallel."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError("dask", "scale") from error
    # The libraries read these variables when they are loaded, so they are set before the workers start.
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
            f"no response from a Dask scheduler at {address} ({type(error).__name__}); "
            "start one, or leave out --scheduler"
        ) from error
    with client:
        if not client.nthreads():
            raise OptionError(f"the Dask scheduler at {address} has no workers; start workers, then retry")
        yield client


@contextmanager
def _connection_lost_error() -> Iterator[None]:
    try:
        yield
    except GeovisionError:
        raise
    except OSError as error:  # the base class of all that Dask raises for broken connections
        raise OptionError(
            f"the connection to the Dask scheduler was lost ({type(error).__name__}); finished work is kept. "
            "Restart the scheduler and repeat the call to continue"
        ) from error


def _parse_memory_limit(memory_limit: str | None) -> int:
    """Return the memory limit per worker in bytes; 0 for none.

    A limit below the size of an idle worker is an error, since workers would be restarted endlessly.
    """
    if not memory_limit:
        return 0
    import psutil
    from dask.utils import format_bytes, parse_bytes

    try:
        limit = parse_bytes(memory_limit)
    except ValueError as error:
        raise OptionError(
            f"memory {memory_limit!r} is not a size; use a number and a unit, as in '4 GiB'"
        ) from error
    # A worker loads the same libraries as this process.
    least = int(1.25 * psutil.Process().memory_info().rss)
    if limit < least:
        raise OptionError(
            f"memory {memory_limit} is too small: an idle worker uses {format_bytes(least)}; "
            "increase the limit"
        )
    return limit


def dask_setup(_worker: Any) -> None:
    """Ignore interrupts in a local worker.

    The main process handles interrupts and stops its workers. Dask calls this function when a worker starts.

    Args:
        _worker: Dask worker; not used.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _suppress_cluster_logs() -> Iterator[None]:
    """Suppress the log messages of the cluster.

    The result of an item contains its error.
    """
    # Each logger of Dask sets its own level.
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    with suppress_logging(*known, below=logging.CRITICAL):
        yield


def num_cpus() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
