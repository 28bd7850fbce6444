"""Streamed answers: each is generated in its own thread and passed to the event loop in pieces.

A stream has its place until its model is done, however slowly its client reads; what the client has
not read is kept up to a limit. If a client disconnects, its stream ends at the next piece. If the
server stops, all streams end with an error message when the grace period is over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

from ravlm.records import Answer, AnswerStream
from ravlm.serving.errors import HttpError
from ravlm.serving.metrics import Metrics
from ravlm.serving.settings import RequestLimits
from ravlm.serving.threads import WorkerThreads

Prepared = TypeVar("Prepared")
_MIN_PIECE_CHARACTERS = 64
"""What a piece counts at least: a short text takes as much memory."""


class StreamRunner:
    """Runs streams, up to `limits.streams` at a time; more wait in a queue."""

    def __init__(self, limits: RequestLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._threads = WorkerThreads(limits.streams, "stream")
        self._shutdown_time: float | None = None  # time.monotonic()
        self._active: set[_PieceQueue] = set()
        metrics.gauge(
            "ravlm_streams",
            "Answers that are generated as a stream, or queued.",
            lambda: self.num_active,
        )

    @property
    def num_active(self) -> int:
        """Number of streams whose model runs or is waited for."""
        return len(self._active)

    def end_in(self, seconds: float) -> None:
        """End every stream that is still running after `seconds`."""
        self._shutdown_time = time.monotonic() + seconds
        for pieces in self._active:
            pieces.add("")  # wakes the reader, which then sees the new deadline

    def close(self) -> None:
        """Let the threads end."""
        for pieces in self._active:
            pieces.closed.set()
        self._threads.close()

    async def run(
        self,
        prepare: Callable[[], AbstractAsyncContextManager[Prepared]],
        start: Callable[[Prepared], AnswerStream],
    ) -> AsyncIterator[str | Answer]:
        """Yield the pieces of the stream that `start` returns, then its Answer.

        `prepare` opens what `start` needs, such as decoded images, once the stream has a place.
        Raises HttpError if too many streams are queued (429), if this one takes too long (504) or
        if the server stops (503), and what `prepare` and `start` raise."""
        if self.num_active >= self._limits.waiting:
            raise HttpError(
                429,
                f"Too many requests: {self.num_active} answers are streamed or queued. "
                "Retry in a second.",
                retry_after=1,
            )
        deadline = time.monotonic() + self._limits.seconds
        pieces = _PieceQueue(deadline, self._limits.stream_characters)
        self._active.add(pieces)
        producer = asyncio.create_task(self._produce(pieces, prepare, start))
        producer.add_done_callback(lambda task: task.cancelled() or task.exception())  # not logged
        try:
            while (piece := await self._next_piece(pieces)) is not None:
                if piece:
                    yield piece
            yield await producer
        finally:
            pieces.closed.set()
            producer.cancel()

    async def _produce(
        self,
        pieces: _PieceQueue,
        prepare: Callable[[], AbstractAsyncContextManager[Prepared]],
        start: Callable[[Prepared], AnswerStream],
    ) -> Answer:
        """Prepare a stream and generate it in a thread; frees its place when that is done."""
        loop = asyncio.get_running_loop()
        is_started = False

        def free(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._active.discard, pieces)

        try:
            async with prepare() as prepared:
                future = self._threads.submit(self._generate, lambda: start(prepared), pieces)
                is_started = True
                future.add_done_callback(free)
                return await asyncio.wrap_future(future)
        finally:
            if not is_started:
                self._active.discard(pieces)
            pieces.add(None)

    def _generate(self, start: Callable[[], AnswerStream], pieces: _PieceQueue) -> Answer:
        """Put the pieces of a stream into their queue and return its answer (runs in a thread)."""
        with self._metrics.stage("generate"):
            stream = start()
            try:
                while not pieces.closed.is_set() and time.monotonic() < pieces.deadline:
                    try:
                        pieces.add_from_thread(next(stream))
                    except StopIteration as end:
                        answer: Answer = end.value
                        return answer
            finally:
                stream.close()
        if pieces.closed.is_set():
            raise HttpError(499, "The client disconnected.")
        raise timeout_error(self._limits.seconds)

    async def _next_piece(self, pieces: _PieceQueue) -> str | None:
        """Wait for the next piece; an empty string if the deadline moved meanwhile."""
        deadline = pieces.deadline
        if self._shutdown_time is not None:
            deadline = min(deadline, self._shutdown_time)
        try:
            return await asyncio.wait_for(pieces.get(), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if self._shutdown_time is not None and time.monotonic() >= self._shutdown_time:
                raise HttpError(503, "The server is stopping; try again later.") from None
            raise timeout_error(self._limits.seconds) from None


class _PieceQueue:
    """Pieces of one answer on their way from a thread to the event loop.

    `deadline` is when the answer must be complete (time.monotonic()); `closed` is set when its
    reader is gone."""

    def __init__(self, deadline: float, max_characters: int) -> None:
        self.deadline = deadline
        self.closed = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._queue = asyncio.Queue[str | None]()
        self._lock = threading.Lock()
        self._max_characters = max_characters
        self._num_characters = 0

    def add(self, piece: str | None) -> None:
        """Add a piece, or None for the end."""
        self._queue.put_nowait(piece)

    def add_from_thread(self, piece: str) -> None:
        """Add a piece from another thread. Raises HttpError if too much is unread."""
        if self.closed.is_set():
            return
        if self._count(len(piece) + _MIN_PIECE_CHARACTERS) > self._max_characters:
            raise HttpError(408, "The client does not read the answer; it was cancelled.")
        self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)

    async def get(self) -> str | None:
        """Return the next piece."""
        piece = await self._queue.get()
        if piece:
            self._count(-len(piece) - _MIN_PIECE_CHARACTERS)
        return piece

    def _count(self, change: int) -> int:
        with self._lock:
            self._num_characters += change
            return self._num_characters


def timeout_error(seconds: float) -> HttpError:
    """Return the error of a request that took longer than `seconds`."""
    return HttpError(
        504, f"The request was cancelled after {seconds:g} seconds. Send a smaller one or retry."
    )
