"""What ``/metrics`` tells, in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ServerMetrics"]

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class ServerMetrics:
    """Counts of one server. No address, no name and no picture is in them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "geovision_pictures",
            "Pictures that were sent, by status of the answer.",
            ["status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "geovision_seconds",
            "Seconds from a request for an answer to the answer.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "geovision_waiting", "Pictures that wait for a worker.", registry=self._registry
        )
        self._held = Gauge("geovision_bytes", "Bytes of pictures in memory.", registry=self._registry)

    def count(self, status: int, seconds: float) -> None:
        """One request for an answer was answered with this status after so long."""
        self._answers.labels(status=str(status)).inc()
        self._seconds.observe(seconds)

    def text(self, *, waiting: int, held: int) -> bytes:
        """All counts, and what there is now."""
        self._waiting.set(waiting)
        self._held.set(held)
        return generate_latest(self._registry)
