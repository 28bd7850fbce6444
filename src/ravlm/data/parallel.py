"""Bounded parallel mapping: results are computed ahead of the consumer, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], workers: int, lookahead: int
) -> Iterator[R]:
    """Yield `function(item)` for each item, in order, computed in `workers` threads.

    At most `lookahead` results are computed ahead of the consumer. An exception of `function` is
    raised where its result would have been yielded. The threads see the context variables of the
    consumer.
    """

    def submit(item: T) -> Future[R]:
        return pool.submit(copy_context().run, function, item)

    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[R]] = deque(map(submit, islice(source, lookahead)))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(map(submit, islice(source, 1)))
                yield result
        finally:
            for future in pending:
                future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; the last one may be shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
