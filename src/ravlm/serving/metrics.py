"""What the server counts, in the text form that Prometheus reads: counters, gauges and histograms.

Knows no HTTP. Numbers are kept for the life of the process.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
Labels = tuple[str, ...]


class Counter:
    """A number that only grows, one for each set of label values."""

    kind = "counter"

    def __init__(self, name: str, told: str, labels: Labels = ()) -> None:
        self.name, self.told, self.labels = name, told, labels
        self._values: dict[Labels, float] = {}
        self._alone = threading.Lock()

    def add(self, *values: str, amount: float = 1) -> None:
        """Count one more for these label values."""
        with self._alone:
            self._values[values] = self._values.get(values, 0) + amount

    def lines(self) -> Iterator[str]:
        """The samples."""
        with self._alone:
            found = sorted(self._values.items())
        for values, amount in found:
            yield f"{self.name}{_braces(self.labels, values)} {amount:g}"


class Gauge:
    """A number that is asked for when somebody looks."""

    kind = "gauge"

    def __init__(self, name: str, told: str, ask: Callable[[], float]) -> None:
        self.name, self.told, self._ask = name, told, ask

    def lines(self) -> Iterator[str]:
        """The sample."""
        yield f"{self.name} {self._ask():g}"


class Histogram:
    """How often values fell below each of `bounds`, and their sum."""

    kind = "histogram"

    def __init__(
        self, name: str, told: str, labels: Labels, bounds: tuple[float, ...] = SECONDS
    ) -> None:
        self.name, self.told, self.labels, self.bounds = name, told, labels, bounds
        self._rows: dict[Labels, list[float]] = {}
        self._alone = threading.Lock()

    def observe(self, value: float, *values: str) -> None:
        """Take in a value."""
        with self._alone:
            row = self._rows.setdefault(values, [0.0] * (len(self.bounds) + 2))
            row[bisect_left(self.bounds, value)] += 1
            row[-1] += value

    def lines(self) -> Iterator[str]:
        """The samples: cumulative buckets, sum and count."""
        with self._alone:
            found = sorted((values, list(row)) for values, row in self._rows.items())
        for values, row in found:
            counts = list(accumulate(row[:-1]))
            for bound, count in zip(
                (*map("{:g}".format, self.bounds), "+Inf"), counts, strict=True
            ):
                yield f"{self.name}_bucket{_braces((*self.labels, 'le'), (*values, bound))} {count:g}"
            yield f"{self.name}_sum{_braces(self.labels, values)} {row[-1]:.6f}"
            yield f"{self.name}_count{_braces(self.labels, values)} {counts[-1]:g}"


class Metrics:
    """Everything that is counted."""

    def __init__(self) -> None:
        self.requests = Counter(
            "ravlm_requests_total", "Requests answered.", ("method", "route", "status")
        )
        self.seconds = Histogram(
            "ravlm_request_seconds", "From a request to the end of its answer.", ("route",)
        )
        self.stages = Histogram(
            "ravlm_stage_seconds",
            "Time of a stage without the stages within it; a batch counts once.",
            ("stage",),
        )
        self.batches = Histogram(
            "ravlm_batch_requests", "Requests that went together.", ("lane",), SIZES
        )
        self.gauges: list[Gauge] = []
        self._inside = threading.local()

    def gauge(self, name: str, told: str, ask: Callable[[], float]) -> None:
        """Add a gauge."""
        self.gauges.append(Gauge(name, told, ask))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; what another stage within it takes, in the same thread, is counted
        there."""
        stack: list[float] = self._inside.__dict__.setdefault("stack", [])
        stack.append(0.0)
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.stages.observe(max(0.0, spent - stack.pop()), name)
            if stack:
                stack[-1] += spent

    def text(self) -> str:
        """All of it, in Prometheus's text format 0.0.4."""
        lines: list[str] = []
        families: list[Counter | Histogram | Gauge] = [
            self.requests,
            self.seconds,
            self.stages,
            self.batches,
        ]
        for each in (*families, *self.gauges):
            lines += [
                f"# HELP {each.name} {each.told}",
                f"# TYPE {each.name} {each.kind}",
                *each.lines(),
            ]
        return "\n".join(lines) + "\n"


def _braces(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    escaped = (
        value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for value in values
    )
    return (
        "{"
        + ",".join(f'{name}="{value}"' for name, value in zip(names, escaped, strict=True))
        + "}"
    )
