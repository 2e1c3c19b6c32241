"""Bounded request queue with worker threads that predict in batches.

A free worker takes its share of the queue, at most one batch, and decodes and predicts it. The batch size
therefore follows the load, and a single image is predicted without delay.
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
    """Request for the prediction of one image.

    Args:
        image: Content of the image file.
        with_map: Whether the result includes the class-activation map. Default: False.
    """

    image: bytes
    with_map: bool = False


PredictBatchFn = Callable[[Sequence[PredictionRequest]], list[PredictionResult]]


class BatchQueue:
    """Bounded request queue with worker threads.

    Args:
        predict_batch: Function that returns a prediction or an exception for each request of a batch. It is
            called from several threads.
        limits: Limits of queue length, batch size, threads and prediction time.
    """

    def __init__(self, predict_batch: PredictBatchFn, limits: ServerLimits) -> None:
        self.limits = limits
        self._predict_batch = predict_batch
        self._pending: deque[tuple[PredictionRequest, Future[Any]]] = deque()
        self._condition = threading.Condition()
        self._open = True
        self._threads = [
            threading.Thread(target=self._run_worker, name=f"predict-{n}", daemon=True)
            for n in range(limits.resolved_num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queue_size(self) -> int:
        """Number of requests that no worker has taken."""
        return len(self._pending)

    async def predict(self, request: PredictionRequest) -> dict[str, Any]:
        """Return the prediction of one request.

        Args:
            request: Image to predict.

        Returns:
            Prediction as returned by `predict_batch`.

        Raises:
            ServerBusy: If the queue is full or closed, or the prediction exceeds its time limit.
            Exception: The exception that `predict_batch` returned for this request.
        """
        future: Future[dict[str, Any]] = Future()
        with self._condition:
            if len(self._pending) >= self.limits.max_queue_size or not self._open:
                raise ServerBusy("too many images in the queue; try again in a few seconds")
            self._pending.append((request, future))
            self._condition.notify()
        try:
            async with asyncio.timeout(self.limits.prediction_timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise ServerBusy(
                f"no prediction within {self.limits.prediction_timeout:g} s; try again later"
            ) from error

    def close(self) -> None:
        """Finish the running batches, reject waiting requests and stop the workers."""
        with self._condition:
            self._open = False
            rejected = list(self._pending)
            self._pending.clear()
            self._condition.notify_all()
        for _, future in rejected:
            if future.set_running_or_notify_cancel():
                future.set_exception(ServerBusy("the server is shutting down; try again later"))
        for thread in self._threads:
            thread.join()

    def _run_worker(self) -> None:
        while (taken := self._next_batch()) is not None:
            # Requests that were cancelled by a timeout or a closed connection are dropped.
            taken = [each for each in taken if each[1].set_running_or_notify_cancel()]
            if not taken:
                continue
            try:
                results = self._predict_batch([request for request, _ in taken])
            except Exception as error:  # one bad batch must not stop a worker
                results = [error] * len(taken)
            for (_, future), result in zip(taken, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _next_batch(self) -> list[tuple[PredictionRequest, Future[Any]]] | None:
        """Wait for requests and return a batch, or None after `close`."""
        with self._condition:
            while self._open and not self._pending:
                self._condition.wait()
            if not self._pending:
                return None
            share = -(-len(self._pending) // len(self._threads))
            return [self._pending.popleft() for _ in range(min(share, self.limits.max_batch_size))]
