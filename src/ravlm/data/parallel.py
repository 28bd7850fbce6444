"""Bounded parallel mapping: work done ahead of its reader, in order. Knows nothing of what is
mapped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], workers: int, lookahead: int
) -> Iterator[R]:
    """`map(function, items)` in order, at most `lookahead` results ahead of the reader, in
    `workers` threads.

    An exception of `function` is raised where its result would have come.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque(
            pool.submit(function, item) for item in islice(source, lookahead)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


ahead = parallel_map  # temporary alias
