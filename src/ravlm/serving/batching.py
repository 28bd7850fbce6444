"""Dynamic batching: requests that wait for the same work go through it together.

A lane works on one batch at a time, in a thread of its own. Nothing is waited for: whatever came
while the last batch was worked on is the next one, so a lone request is never delayed. Knows no
model."""

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
    done: asyncio.Future[Any]


class DynamicBatcher(Generic[Item, Result]):
    """`work(key, items)` gives a result for each item; only items of equal keys come together.

    An error that ravlm raises on purpose is of one item: the others of its batch are worked on
    without it."""

    def __init__(
        self,
        name: str,
        work: Callable[[Any, list[Item]], Sequence[Result]],
        batch: int,
        waiting: int,
        metrics: Metrics,
    ) -> None:
        self.name, self._work, self._batch, self._most, self._metrics = (
            name,
            work,
            batch,
            waiting,
            metrics,
        )
        self._jobs: list[_Job] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ravlm-{name}")
        self._pump: asyncio.Task[None] | None = None
        metrics.gauge(
            f"ravlm_{name}_waiting",
            f"Requests that wait in the lane {name}.",
            lambda: len(self._jobs),
        )

    @property
    def busy(self) -> bool:
        """Whether a batch is being worked on."""
        return self._pump is not None and not self._pump.done()

    async def run(self, key: Hashable, item: Item) -> Result:
        """The result for an item. Raises Refusal (429) where too many wait, and what `work`
        raises."""
        if len(self._jobs) >= self._most:
            raise HttpError(
                429, f"{self._most} requests wait already; come again in a second.", retry_after=1
            )
        job = _Job(key, item, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        if not self.busy:
            self._pump = asyncio.create_task(self._go_on())
        try:
            result: Result = await job.done
            return result
        finally:
            if job in self._jobs:  # given up while it waited
                self._jobs.remove(job)

    async def _go_on(self) -> None:
        """Work until nobody waits."""
        while self._jobs:
            key = self._jobs[0].key
            together = [job for job in self._jobs if job.key == key][: self._batch]
            self._jobs = [job for job in self._jobs if job not in together]
            self._metrics.batches.observe(len(together), self.name)
            await self._carry_out(key, together)

    async def _carry_out(self, key: Hashable, jobs: Sequence[_Job]) -> None:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, self._work, key, [job.item for job in jobs])
        await asyncio.wait([running])
        error = running.exception()
        if isinstance(error, RavlmError) and len(jobs) > 1:
            for job in jobs:
                await self._carry_out(key, [job])
            return
        for place, job in enumerate(jobs):
            if not job.done.done():
                if error is None:
                    job.done.set_result(running.result()[place])
                else:
                    job.done.set_exception(error)

    def close(self) -> None:
        """Let the thread end when its batch is done."""
        self._thread.shutdown(wait=False, cancel_futures=True)
