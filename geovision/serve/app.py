"""The server's addresses: the page, the answers, what is served, and how it is doing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from geovision import __version__
from geovision.serve.batching import BatchQueue, PredictBatchFn, PredictionRequest
from geovision.serve.limits import ServerLimits
from geovision.serve.middleware import LimitMiddleware
from geovision.serve.prometheus import ServerMetrics
from geovision.serve.request_errors import RateLimitExceeded, RequestError
from geovision.serve.schemas import (
    ERROR_RESPONSES,
    IMAGE_BODY,
    HealthResponse,
    ModelResponse,
    PredictionResponse,
)
from geovision.serve.uploads import UploadReader

__all__ = ["build_app"]


def build_app(
    metadata: Mapping[str, Any], predict_batch: PredictBatchFn, site: Path, limits: ServerLimits
) -> FastAPI:
    """The application.

    Args:
        metadata: What is served, `geovision.export.build_metadata`.
        predict_batch: From questions to answers, see `geovision.serve.batching.BatchQueue`.
        site: Folder of the page.
        limits: How much it takes on.
    """
    desk, intake, counters = BatchQueue(predict_batch, limits), UploadReader(limits), ServerMetrics()
    one_client = _AddressRateLimiter(limits.rate_limit)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    # Neither of the documents' usual pages: both load their code from elsewhere.
    app = FastAPI(
        title=f"geovision: {metadata['model']}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        description="Answers about pictures. They are answered in memory and not kept.",
    )
    app.add_middleware(LimitMiddleware, limits=limits)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _misused)

    @app.post(
        "/api/predict", response_model=PredictionResponse, responses=ERROR_RESPONSES, openapi_extra=IMAGE_BODY
    )
    async def predict(
        request: Request,
        map: Annotated[bool, Query(description="Where the model looked, too; takes more time.")] = False,
    ) -> dict[str, Any]:
        """Answer about one picture."""
        began, status = time.perf_counter(), 500
        try:
            one_client.check(request.client.host if request.client else "")
            picture = await intake.receive(request)
            try:
                answer = await desk.ask(PredictionRequest(picture, with_map=map))
            finally:
                intake.release(len(picture))
            status = 200
            return answer
        except RequestError as refused:
            status = refused.status
            raise
        finally:
            counters.observe(status, time.perf_counter() - began)

    @app.get("/api/models", response_model=list[ModelResponse])
    async def models() -> list[Mapping[str, Any]]:
        """What is served, with the cards of its classes."""
        return [metadata]

    @app.get("/healthz", response_model=HealthResponse)
    async def healthz() -> dict[str, str]:
        """That the server is there and takes pictures."""
        return {"status": "ok", "model": metadata["model"]}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counts and times in the text format of Prometheus."""
        text = counters.render(queue_size=desk.queue_size, bytes_in_memory=intake.bytes_in_memory)
        return Response(text, media_type="text/plain; version=0.0.4")

    # Not mounted: a mount takes every path as its own, and a wrong method would be told as a missing file.
    app.router.default = StaticFiles(directory=site, html=True)
    return app


async def _refused(request: Request, refused: Exception) -> JSONResponse:
    assert isinstance(refused, RequestError)
    # What has not arrived is not wanted any more: the connection ends with the answer.
    headers = {"Connection": "close"} if refused.status in (400, 408, 413) else {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(refused.retry_after)
    return JSONResponse({"detail": str(refused)}, refused.status, headers)


async def _misused(request: Request, error: Exception) -> JSONResponse:
    """An option that is not understood, in one line as all else."""
    assert isinstance(error, RequestValidationError)
    (first, *_) = error.errors()
    return JSONResponse({"detail": f"{first['loc'][-1]}={first['input']!r}: {first['msg']}"}, 422)


class _AddressRateLimiter:
    """So many pictures a minute from one address."""

    def __init__(self, rate_limit: int) -> None:
        self._rate = RateLimitItemPerMinute(rate_limit) if rate_limit else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, address: str) -> None:
        """Count one picture, or raise.

        Raises:
            RateLimitExceeded: With the seconds until the next is taken.
        """
        if self._rate is None or self._limiter.hit(self._rate, address):
            return
        free = self._limiter.get_window_stats(self._rate, address).reset_time
        seconds = max(1, round(free - time.time()))
        raise RateLimitExceeded(
            f"more than {self._rate.amount} pictures a minute from one address; wait {seconds} s", seconds
        )
