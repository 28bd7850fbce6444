"""Dynamic batching: requests that wait for the same work are processed together.

A batcher processes one batch at a time in a thread of its own. It never waits to fill a batch: the
requests that arrived during the last batch form the next one, so a lone request is never
delayed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ravlm-{name}")
        self._worker: asyncio.Task[None] | None = None
        metrics.gauge(
            f"ravlm_{name}_waiting",
            f'Requests that wait for the batcher "{name}".',
            lambda: len(self._queue),
        )

    @property
    def busy(self) -> bool:
        """Whether a batch is being processed."""
        return self._worker is not None and not self._worker.done()

    async def run(self, key: Hashable, item: Item) -> Result:
        """Return the result for one item. Raises HttpError (429) if the queue is full, and what
        `process` raises."""
        if len(self._queue) >= self._max_waiting:
            raise HttpError(
                429,
                f"Too many requests: {self._max_waiting} are queued. Retry in a second.",
                retry_after=1,
            )
        job = _Job(key, item, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        if not self.busy:
            self._worker = asyncio.create_task(self._process_queue())
        try:
            result: Result = await job.future
            return result
        finally:
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
