"""Prometheus metrics of one server: request counts, latencies per stage, batch sizes, gauges.

Each `Metrics` has a registry of its own, so several servers can run in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bucket bounds of latencies."""
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Bucket bounds of batch sizes."""


class Metrics:
    """The metrics of one server.

    >>> metrics = Metrics()
    >>> with metrics.stage("encode"):
    ...     vectors = encoder.encode_texts(texts)  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ravlm_requests_total",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "ravlm_request_seconds",
            "Seconds from a request to the end of its response.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "ravlm_stage_seconds",
            "Seconds in a stage, nested stages excluded; a batch counts once.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_requests = Histogram(
            "ravlm_batch_requests",
            "Requests processed in one batch.",
            ("lane",),
            buckets=SIZES,
            registry=self.registry,
        )
        self._gauges: dict[str, Gauge] = {}
        self._thread_local = threading.local()

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read at each scrape. A gauge of the same name is replaced, so
        that a second application can be created over the same model."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, description, registry=self.registry)
        self._gauges[name].set_function(read)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage. A stage nested in it (same thread) is counted for itself only."""
        nested_seconds: list[float] = self._thread_local.__dict__.setdefault("nested_seconds", [])
        nested_seconds.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            seconds = max(0.0, elapsed - nested_seconds.pop())
            self.stage_seconds.labels(name).observe(seconds)
            if nested_seconds:
                nested_seconds[-1] += elapsed

    def text(self) -> str:
        """Return all metrics in the Prometheus text format 0.0.4."""
        return generate_latest(self.registry).decode("utf-8")
