"""Pictures that wait, and the threads that answer them several at a time.

A worker that comes free takes what waits, its share of it and no more than a batch, and goes from bytes to
answers with it; so batches are as large as the crowd, and a single picture waits for nobody.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from geovision.serve.limits import ServerLimits
from geovision.serve.request_errors import ServerBusy

__all__ = ["BatchQueue", "PredictBatchFn", "PredictionRequest", "PredictionResult"]

PredictionResult = dict[str, Any] | Exception


@dataclass(frozen=True)
class PredictionRequest:
    """What somebody wants to know.

    Args:
        image: The bytes of its file.
        with_map: Where the model looked, too.
    """

    image: bytes
    with_map: bool = False


PredictBatchFn = Callable[[Sequence[PredictionRequest]], list[PredictionResult]]


class BatchQueue:
    """A bounded queue and its workers.

    Args:
        predict_batch: From some questions to an answer or the reason against one for each. It is called from
            several threads.
        limits: How many wait, how many go together, how many work.
    """

    def __init__(self, predict_batch: PredictBatchFn, limits: ServerLimits) -> None:
        self.limits = limits
        self._predict_batch = predict_batch
        self._pending: deque[tuple[PredictionRequest, Future[Any]]] = deque()
        self._condition = threading.Condition()
        self._open = True
        self._threads = [
            threading.Thread(target=self._run_worker, name=f"answers-{n}", daemon=True)
            for n in range(limits.resolved_num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queue_size(self) -> int:
        """Questions that no worker has taken yet."""
        return len(self._pending)

    async def ask(self, question: PredictionRequest) -> dict[str, Any]:
        """The answer to one question.

        Raises:
            Busy: Too many wait, or it took too long.
            Exception: What `predict_batch` gave in place of an answer.
        """
        future: Future[dict[str, Any]] = Future()
        with self._condition:
            if len(self._pending) >= self.limits.max_queue_size or not self._open:
                raise ServerBusy("too many pictures wait; try again in a few seconds")
            self._pending.append((question, future))
            self._condition.notify()
        try:
            async with asyncio.timeout(self.limits.prediction_timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise ServerBusy(
                f"no answer within {self.limits.prediction_timeout:g} s; try again later"
            ) from error

    def close(self) -> None:
        """Answer what was taken, refuse what waits, and end the workers."""
        with self._condition:
            self._open = False
            left = list(self._pending)
            self._pending.clear()
            self._condition.notify_all()
        for _, future in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(ServerBusy("the server is being stopped"))
        for thread in self._threads:
            thread.join()

    def _run_worker(self) -> None:
        while (taken := self._next_batch()) is not None:
            # What nobody waits for any longer, after a time-out or a closed connection, is not answered.
            taken = [each for each in taken if each[1].set_running_or_notify_cancel()]
            if not taken:
                continue
            try:
                answers = self._predict_batch([question for question, _ in taken])
            except Exception as error:  # one bad batch must not end a worker
                answers = [error] * len(taken)
            for (_, future), answer in zip(taken, answers, strict=True):
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _next_batch(self) -> list[tuple[PredictionRequest, Future[Any]]] | None:
        """Some of what waits, once there is any; None when the desk is closed."""
        with self._condition:
            while self._open and not self._pending:
                self._condition.wait()
            if not self._pending:
                return None
            share = -(-len(self._pending) // len(self._threads))
            return [self._pending.popleft() for _ in range(min(share, self.limits.max_batch_size))]
