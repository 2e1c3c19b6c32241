"""FastAPI application: page, predictions, model description, health and metrics."""

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
    """Build the application.

    Args:
        metadata: Description of the model, see `geovision.export.build_metadata`.
        predict_batch: Function that predicts a batch of requests, see `geovision.serve.batching.BatchQueue`.
        site: Folder of the page.
        limits: Limits of the server.

    Returns:
        Application with the routes ``/``, ``/api/predict``, ``/api/models``, ``/healthz`` and ``/metrics``.
    """
    queue, uploads, counters = BatchQueue(predict_batch, limits), UploadReader(limits), ServerMetrics()
    rate_limiter = _AddressRateLimiter(limits.rate_limit)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        queue.close()

    # The documentation pages of FastAPI are disabled because they load code from other servers.
    app = FastAPI(
        title=f"geovision: {metadata['model']}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        description="Predictions for images. Images are processed in memory and not stored.",
    )
    app.add_middleware(LimitMiddleware, limits=limits)
    app.add_exception_handler(RequestError, _error_response)
    app.add_exception_handler(RequestValidationError, _validation_error_response)

    @app.post(
        "/api/predict", response_model=PredictionResponse, responses=ERROR_RESPONSES, openapi_extra=IMAGE_BODY
    )
    async def predict(
        request: Request,
        map: Annotated[
            bool, Query(description="Whether to include the class-activation map; takes more time.")
        ] = False,
    ) -> dict[str, Any]:
        """Predict one image."""
        start, status = time.perf_counter(), 500
        try:
            rate_limiter.check(request.client.host if request.client else "")
            image = await uploads.receive(request)
            try:
                prediction = await queue.predict(PredictionRequest(image, with_map=map))
            finally:
                uploads.release(len(image))
            status = 200
            return prediction
        except RequestError as error:
            status = error.status
            raise
        finally:
            counters.observe(status, time.perf_counter() - start)

    @app.get("/api/models", response_model=list[ModelResponse])
    async def models() -> list[Mapping[str, Any]]:
        """Describe the served model, with the cards of its classes."""
        return [metadata]

    @app.get("/healthz", response_model=HealthResponse)
    async def healthz() -> dict[str, str]:
        """Report that the server accepts images."""
        return {"status": "ok", "model": metadata["model"]}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return counters and latencies in the Prometheus text format."""
        text = counters.render(queue_size=queue.queue_size, bytes_in_memory=uploads.bytes_in_memory)
        return Response(text, media_type="text/plain; version=0.0.4")

    # The default route, not a mount: a mount matches every path, and a wrong method would return 404.
    app.router.default = StaticFiles(directory=site, html=True)
    return app


async def _error_response(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    # The rest of the upload is not needed, so the connection is closed after the response.
    headers = {"Connection": "close"} if error.status in (400, 408, 413) else {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse({"detail": str(error)}, error.status, headers)


async def _validation_error_response(request: Request, error: Exception) -> JSONResponse:
    """Return a one-line response for an invalid query parameter."""
    assert isinstance(error, RequestValidationError)
    (first, *_) = error.errors()
    return JSONResponse({"detail": f"{first['loc'][-1]}={first['input']!r}: {first['msg']}"}, 422)


class _AddressRateLimiter:
    """Rate limiter of images per minute and client address."""

    def __init__(self, rate_limit: int) -> None:
        self._rate = RateLimitItemPerMinute(rate_limit) if rate_limit else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, address: str) -> None:
        """Count one image of a client.

        Args:
            address: IP address of the client.

        Raises:
            RateLimitExceeded: If the limit is exceeded; contains the seconds to wait.
        """
        if self._rate is None or self._limiter.hit(self._rate, address):
            return
        free = self._limiter.get_window_stats(self._rate, address).reset_time
        seconds = max(1, round(free - time.time()))
        raise RateLimitExceeded(
            f"more than {self._rate.amount} images per minute from one address; wait {seconds} s", seconds
        )
