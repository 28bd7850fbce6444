"""Answers given out as they are written: each in a thread of its own, its words handed over to the
event loop.

A client that goes away ends its stream at the next word; a server that stops ends all of them when
its grace is over, with a sentence. Knows no model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor

from ravlm.records import Answer
from ravlm.serving.errors import HttpError
from ravlm.serving.metrics import Metrics
from ravlm.serving.settings import RequestLimits

Words = Generator[str, None, Answer]


class Streams:
    """Runs streams, `limits.streams` at once."""

    def __init__(self, limits: RequestLimits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._threads = ThreadPoolExecutor(limits.streams, thread_name_prefix="ravlm-stream")
        self._end: float | None = None
        self._queues: set[asyncio.Queue[str | None]] = set()
        metrics.gauge(
            "ravlm_streams", "Answers that are streamed or wait to be.", lambda: len(self._queues)
        )

    @property
    def live(self) -> int:
        """How many there are."""
        return len(self._queues)

    def end_in(self, seconds: float) -> None:
        """End all that are not done by themselves in so many seconds."""
        self._end = time.monotonic() + seconds
        for queue in self._queues:
            queue.put_nowait("")  # wakes its reader, who sees the new end

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, make: Callable[[], Words]) -> AsyncIterator[str | Answer]:
        """The pieces that the stream of `make` yields, and the Answer that it returns.

        Raises Refusal where too many wait (429), for one that takes too long (504) or whose server
        stops (503)."""
        if len(self._queues) >= self._limits.waiting:
            raise HttpError(
                429,
                f"{len(self._queues)} answers are streamed or wait already; come again.",
                retry_after=1,
            )
        loop, queue, gone = (
            asyncio.get_running_loop(),
            asyncio.Queue[str | None](),
            threading.Event(),
        )
        began = time.monotonic()

        def hand_over(piece: str | None) -> None:
            if not gone.is_set():
                loop.call_soon_threadsafe(queue.put_nowait, piece)

        self._queues.add(queue)
        done = self._threads.submit(self._follow, make, hand_over, gone)
        done.add_done_callback(lambda _: hand_over(None))
        try:
            while (piece := await self._next(queue, began)) is not None:
                if piece:
                    yield piece
            yield done.result()
        finally:
            gone.set()
            done.cancel()
            self._queues.discard(queue)

    def _follow(
        self, make: Callable[[], Words], hand_over: Callable[[str], None], gone: threading.Event
    ) -> Answer:
        """In the thread: take piece after piece."""
        with self._metrics.stage("generate"):
            words = make()
            try:
                while not gone.is_set():
                    try:
                        hand_over(next(words))
                    except StopIteration as end:
                        answer: Answer = end.value
                        return answer
            finally:
                words.close()
        raise HttpError(499, "The client went away.")

    async def _next(self, queue: asyncio.Queue[str | None], began: float) -> str | None:
        """The next piece; empty where the end was moved meanwhile."""
        last = began + self._limits.seconds
        try:
            left = min(last, self._end or last) - time.monotonic()
            return await asyncio.wait_for(queue.get(), max(0.0, left))
        except TimeoutError:
            if self._end is not None and time.monotonic() >= self._end:
                raise HttpError(503, "The server is stopping; ask again later.") from None
            raise HttpError(
                504, f"It took longer than {self._limits.seconds:g} seconds and was given up."
            ) from None
