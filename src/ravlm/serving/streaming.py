"""Streamed answers: each is generated in its own thread and passed to the event loop in pieces.

If a client disconnects, its stream ends at the next piece. If the server stops, all streams end
with an error message when the grace period is over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from ravlm.records import Answer, AnswerStream
from ravlm.serving.errors import HttpError
from ravlm.serving.metrics import Metrics
from ravlm.serving.settings import RequestLimits


class StreamRunner:
    """Runs streams, up to `limits.streams` at a time; more wait in a queue."""

    def __init__(self, limits: RequestLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(limits.streams, thread_name_prefix="ravlm-stream")
        self._shutdown_time: float | None = None  # time.monotonic()
        self._queues: set[asyncio.Queue[str | None]] = set()
        metrics.gauge(
            "ravlm_streams", "Answers that are streamed or queued.", lambda: self.num_active
        )

    @property
    def num_active(self) -> int:
        """Number of streams, running or queued."""
        return len(self._queues)

    def end_in(self, seconds: float) -> None:
        """End every stream that is still running after `seconds`."""
        self._shutdown_time = time.monotonic() + seconds
        for queue in self._queues:
            queue.put_nowait("")  # wakes the reader, which then sees the new deadline

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, start: Callable[[], AnswerStream]) -> AsyncIterator[str | Answer]:
        """Yield the pieces of the stream that `start` returns, then its Answer.

        Raises HttpError if too many streams are queued (429), if this one takes too long (504) or
        if the server stops (503)."""
        if self.num_active >= self._limits.waiting:
            raise HttpError(
                429,
                f"Too many requests: {self.num_active} answers are streamed or queued. "
                "Retry in a second.",
                retry_after=1,
            )
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue[str | None]()
        cancelled = threading.Event()
        start_time = time.monotonic()

        def emit(piece: str | None) -> None:
            if not cancelled.is_set():
                loop.call_soon_threadsafe(queue.put_nowait, piece)

        self._queues.add(queue)
        future = self._threads.submit(self._consume, start, emit, cancelled)
        future.add_done_callback(lambda _: emit(None))
        try:
            while (piece := await self._next_piece(queue, start_time)) is not None:
                if piece:
                    yield piece
            yield future.result()
        finally:
            cancelled.set()
            future.cancel()
            self._queues.discard(queue)

    def _consume(
        self,
        start: Callable[[], AnswerStream],
        emit: Callable[[str], None],
        cancelled: threading.Event,
    ) -> Answer:
        """Emit the pieces of a stream and return its answer (runs in a thread)."""
        with self._metrics.stage("generate"):
            stream = start()
            try:
                while not cancelled.is_set():
                    try:
                        emit(next(stream))
                    except StopIteration as end:
                        answer: Answer = end.value
                        return answer
            finally:
                stream.close()
        raise HttpError(499, "The client disconnected.")

    async def _next_piece(self, queue: asyncio.Queue[str | None], start_time: float) -> str | None:
        """Wait for the next piece; an empty string if the deadline moved meanwhile."""
        deadline = start_time + self._limits.seconds
        if self._shutdown_time is not None:
            deadline = min(deadline, self._shutdown_time)
        try:
            return await asyncio.wait_for(queue.get(), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if self._shutdown_time is not None and time.monotonic() >= self._shutdown_time:
                raise HttpError(503, "The server is stopping; try again later.") from None
            raise timeout_error(self._limits.seconds) from None


def timeout_error(seconds: float) -> HttpError:
    """Return the error of a request that took longer than `seconds`."""
    return HttpError(
        504, f"The request was cancelled after {seconds:g} seconds. Send a smaller one or retry."
    )
