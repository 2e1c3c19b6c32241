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
from geovision.serve.schemas import PICTURE, REFUSALS, Answer, Health, Model
from geovision.serve.uploads import UploadReader

__all__ = ["build"]


def build(about: Mapping[str, Any], answer_all: PredictBatchFn, site: Path, limits: ServerLimits) -> FastAPI:
    """The application.

    Args:
        about: What is served, `geovision.export.describe`.
        answer_all: From questions to answers, see `geovision.serve.batching.Desk`.
        site: Folder of the page.
        limits: How much it takes on.
    """
    desk, intake, counters = BatchQueue(answer_all, limits), UploadReader(limits), ServerMetrics()
    one_client = _PerAddress(limits.rate)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    # Neither of the documents' usual pages: both load their code from elsewhere.
    app = FastAPI(
        title=f"geovision: {about['model']}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        description="Answers about pictures. They are answered in memory and not kept.",
    )
    app.add_middleware(LimitMiddleware, limits=limits)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _misused)

    @app.post("/api/predict", response_model=Answer, responses=REFUSALS, openapi_extra=PICTURE)
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
            counters.count(status, time.perf_counter() - began)

    @app.get("/api/models", response_model=list[Model])
    async def models() -> list[Mapping[str, Any]]:
        """What is served, with the cards of its classes."""
        return [about]

    @app.get("/healthz", response_model=Health)
    async def healthz() -> dict[str, str]:
        """That the server is there and takes pictures."""
        return {"status": "ok", "model": about["model"]}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counts and times in the text format of Prometheus."""
        text = counters.text(waiting=desk.waiting, held=intake.held)
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


class _PerAddress:
    """So many pictures a minute from one address."""

    def __init__(self, rate: int) -> None:
        self._rate = RateLimitItemPerMinute(rate) if rate else None
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
