"""A pool of child processes that decode images (`image_worker`), each of which can be killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from ravlm.data.child_process import ChildProcess
from ravlm.errors import BrokenData, Busy
from ravlm.serving.image_worker import ImageJob, ImageResult


class _Worker(ChildProcess):
    """One child process."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__("ravlm.serving.image_worker", str(max_bytes))

    def run(self, job: ImageJob, data: bytes, seconds: float) -> ImageResult:
        """Carry out a job. Raises BrokenData if it fails, or if the process does not survive it."""
        message = self.call(asdict(job), data, seconds)
        if message is None:
            raise BrokenData(
                "The image takes too much time or memory to decode; save it again as PNG or JPEG."
            )
        header, result = message
        if "error" in header:
            raise BrokenData(header["error"])
        size = header["size"]
        return ImageResult(result, size and (size[0], size[1]), header["source_pixels"])


class WorkerPool:
    """Runs jobs in up to `size` processes, each of which may allocate `max_bytes`.

    A process starts with its first job and serves many. One that is killed, by its limits or after
    `seconds`, is replaced.

    >>> pool = WorkerPool(2, 800_000_000, 60)
    >>> pool.run(ImageJob("pixels", 40_000_000, 1_000_000), data).to_image()  # doctest: +SKIP
    """

    def __init__(self, size: int, max_bytes: int, seconds: float) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._places = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._working: set[_Worker] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        with self._lock:
            return [worker.process.pid for worker in (*self._idle, *self._working)]

    def run(self, job: ImageJob, data: bytes) -> ImageResult:
        """Carry out a job as soon as a process is free. Raises BrokenData if that fails."""
        with self._places, self._worker() as worker:
            return worker.run(job, data, self._seconds)

    def close(self) -> None:
        """Kill all processes; jobs that run fail."""
        with self._lock:
            self._closed = True
            workers = (*self._idle, *self._working)
            self._idle.clear()
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.end()

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        with self._lock:
            if self._closed:
                raise Busy("The server is stopping; try again later.")
            idle = self._idle.pop() if self._idle else None
            worker = idle if idle and idle.alive else _Worker(self._max_bytes)
            self._working.add(worker)
        try:
            yield worker
        except BrokenData:
            raise
        except BaseException:
            worker.process.kill()  # it may be in the middle of a message
            raise
        finally:
            self._release(worker)

    def _release(self, worker: _Worker) -> None:
        with self._lock:
            self._working.discard(worker)
            if worker.alive and not self._closed:
                self._idle.append(worker)
                return
        worker.end()
