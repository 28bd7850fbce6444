"""Blocking calls in threads, and the slots that limit what all of them hold."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerThreads:
    """Runs blocking calls for the event loop in up to `size` threads, and counts them.

    >>> threads = WorkerThreads(4, "read")
    >>> count = await threads.run(lambda: kb.count())  # doctest: +SKIP
    """

    def __init__(self, size: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=f"ravlm-{name}")
        self._lock = threading.Lock()
        self._num_active = 0

    @property
    def num_active(self) -> int:
        """Calls that run or wait for a thread. A call whose request was cancelled still runs."""
        return self._num_active

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Start a call as soon as a thread is free."""
        self._count(1)
        try:
            future = self._executor.submit(call, *arguments)
        except BaseException:
            self._count(-1)
            raise
        future.add_done_callback(lambda _: self._count(-1))
        return future

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a call."""
        return await asyncio.wrap_future(self.submit(call, *arguments))

    def close(self) -> None:
        """Let the threads end after their current calls."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _count(self, change: int) -> None:
        with self._lock:
            self._num_active += change


class Slots:
    """A number of slots, given out first come, first served. All use must be in one event loop."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        """Hold `count` slots at once, or all of them if there are fewer."""
        count = min(count, self._total)
        await self._acquire(count)
        try:
            yield
        finally:
            self._release(count)

    async def _acquire(self, count: int) -> None:
        if not self._waiters and self._free >= count:
            self._free -= count
            return
        waiter = (count, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter[1]
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._release(0)  # those behind it may fit now
            else:
                self._release(count)
            raise

    def _release(self, count: int) -> None:
        self._free += count
        while self._waiters and self._free >= self._waiters[0][0]:
            count, future = self._waiters.popleft()
            self._free -= count
            if not future.done():  # a cancelled waiter returns its slots itself
                future.set_result(None)
