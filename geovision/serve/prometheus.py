"""What ``/metrics`` tells, in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ServerMetrics"]

_LATENCY_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class ServerMetrics:
    """Counts of one server. No address, no name and no picture is in them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._responses = Counter(
            "geovision_pictures",
            "Pictures that were sent, by status of the answer.",
            ["status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "geovision_seconds",
            "Seconds from a request for an answer to the answer.",
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._queue_size = Gauge(
            "geovision_waiting", "Pictures that wait for a worker.", registry=self._registry
        )
        self._bytes_in_memory = Gauge(
            "geovision_bytes", "Bytes of pictures in memory.", registry=self._registry
        )

    def observe(self, status: int, seconds: float) -> None:
        """One request for an answer was answered with this status after so long."""
        self._responses.labels(status=str(status)).inc()
        self._seconds.observe(seconds)

    def render(self, *, queue_size: int, bytes_in_memory: int) -> bytes:
        """All counts, and what there is now."""
        self._queue_size.set(queue_size)
        self._bytes_in_memory.set(bytes_in_memory)
        return generate_latest(self._registry)
