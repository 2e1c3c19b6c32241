"""Metrics of ``/metrics`` in the Prometheus text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ServerMetrics"]

_LATENCY_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class ServerMetrics:
    """Counters of one server, without addresses, names or images."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._responses = Counter(
            "geovision_pictures",
            "Number of prediction requests, by HTTP status.",
            ["status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "geovision_seconds",
            "Time from a prediction request to its response, in s.",
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._queue_size = Gauge(
            "geovision_waiting", "Number of images that wait for a worker.", registry=self._registry
        )
        self._bytes_in_memory = Gauge(
            "geovision_bytes", "Size of the images in memory, in bytes.", registry=self._registry
        )

    def observe(self, status: int, seconds: float) -> None:
        """Count one prediction request.

        Args:
            status: HTTP status of the response.
            seconds: Time from request to response, in s.
        """
        self._responses.labels(status=str(status)).inc()
        self._seconds.observe(seconds)

    def render(self, *, queue_size: int, bytes_in_memory: int) -> bytes:
        """Return all metrics in the Prometheus text format.

        Args:
            queue_size: Current number of images that wait for a worker.
            bytes_in_memory: Current size of the images in memory, in bytes.

        Returns:
            UTF-8 encoded text.
        """
        self._queue_size.set(queue_size)
        self._bytes_in_memory.set(bytes_in_memory)
        return generate_latest(self._registry)
