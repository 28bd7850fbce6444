"""Dynamic batching: requests that wait for the same work are processed together.

A batcher processes one batch at a time in a thread of its own. It never waits to fill a batch: the
requests that arrived during the last batch form the next one, so a lone request is never
delayed. A request takes its place in the queue before its images are decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ravlm.errors import RavlmError
from ravlm.serving.errors import HttpError
from ravlm.serving.metrics import Metrics

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Job:
    key: Hashable
    item: Any
    future: asyncio.Future[Any]


class DynamicBatcher(Generic[Item, Result]):
    """Batches calls of `process(key, items)`, which returns one result per item.

    Only items with equal keys share a batch. If a batch fails with an error that ravlm raises on
    purpose, each of its items is processed alone, so one bad item does not fail the others.
    `max_waiting` is the queue limit.

    >>> batcher = DynamicBatcher("encode", encode, 32, 128, metrics)  # doctest: +SKIP
    >>> vector = await batcher.run("text", "a red boat")  # doctest: +SKIP
    >>> with batcher.place() as place:  # doctest: +SKIP
    ...     vector = await place.run("image", await decode(url))
    """

    def __init__(
        self,
        name: str,
        process: Callable[[Any, list[Item]], Sequence[Result]],
        batch_size: int,
        max_waiting: int,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._process = process
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._queue: list[_Job] = []
        self._num_preparing = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ravlm-{name}")
        self._worker: asyncio.Task[None] | None = None
        metrics.gauge(
            f"ravlm_{name}_waiting",
            f'Requests that wait for the batcher "{name}".',
            lambda: self.num_waiting,
        )

    @property
    def busy(self) -> bool:
        """Whether a batch is being processed."""
        return self._worker is not None and not self._worker.done()

    @property
    def num_waiting(self) -> int:
        """Requests in the queue, and those that have a place in it and are prepared."""
        return len(self._queue) + self._num_preparing

    @contextmanager
    def place(self) -> Iterator[Place[Item, Result]]:
        """Hold a place in the queue while the items of a request are prepared and processed.

        Raises HttpError (429) if the queue is full."""
        if self.num_waiting >= self._max_waiting:
            raise HttpError(
                429,
                f"Too many requests: {self._max_waiting} are queued. Retry in a second.",
                retry_after=1,
            )
        self._num_preparing += 1
        try:
            yield Place(self)
        finally:
            self._num_preparing -= 1

    async def run(self, key: Hashable, item: Item) -> Result:
        """Return the result for one item that needs no preparation. Raises HttpError (429) if the
        queue is full, and what `process` raises."""
        with self.place() as place:
            return await place.run(key, item)

    async def _run_placed(self, key: Hashable, item: Item) -> Result:
        job = _Job(key, item, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._num_preparing -= 1  # the job is counted instead
        if not self.busy:
            self._worker = asyncio.create_task(self._process_queue())
        try:
            result: Result = await job.future
            return result
        finally:
            self._num_preparing += 1
            if job in self._queue:  # cancelled while it waited
                self._queue.remove(job)

    async def _process_queue(self) -> None:
        """Process batches until the queue is empty."""
        while self._queue:
            key = self._queue[0].key
            batch = [job for job in self._queue if job.key == key][: self._batch_size]
            self._queue = [job for job in self._queue if job not in batch]
            self._metrics.batch_requests.labels(self.name).observe(len(batch))
            await self._process_batch(key, batch)

    async def _process_batch(self, key: Hashable, batch: Sequence[_Job]) -> None:
        items = [job.item for job in batch]
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._process, key, items)
        await asyncio.wait([call])
        error = call.exception()
        if isinstance(error, RavlmError) and len(batch) > 1:
            for job in batch:
                await self._process_batch(key, [job])
            return
        for index, job in enumerate(batch):
            if job.future.done():
                continue
            if error is None:
                job.future.set_result(call.result()[index])
            else:
                job.future.set_exception(error)

    def close(self) -> None:
        """Let the thread end after its current batch."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Place(Generic[Item, Result]):
    """A request's place in the queue of a batcher."""

    def __init__(self, batcher: DynamicBatcher[Item, Result]) -> None:
        self._batcher = batcher

    async def run(self, key: Hashable, item: Item) -> Result:
        """Return the result for one item. Raises what the batcher's `process` raises."""
        return await self._batcher._run_placed(key, item)
