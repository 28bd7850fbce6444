"""Decode the images of requests, without stopping the event loop and within limits for all of them.

A request decodes one image after another, so that it never takes all processes for itself. What it
holds decoded is limited over all requests; the others wait with their images encoded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

from PIL import Image

from ravlm.serving.errors import HttpError
from ravlm.serving.images import ImageReader, PixelQuota
from ravlm.serving.metrics import Metrics
from ravlm.serving.settings import RequestLimits
from ravlm.serving.threads import Slots, WorkerThreads

T = TypeVar("T")
Decode: TypeAlias = Callable[[bytes, PixelQuota], Image.Image]
_READ_THREADS = 16
"""Images that are downloaded, or read from the base, at the same time."""


class ImageDecoder:
    """Reads and decodes the images of requests with `reader`, in threads."""

    def __init__(self, reader: ImageReader, limits: RequestLimits, metrics: Metrics) -> None:
        self.reader = reader
        self._limits = limits
        self._metrics = metrics
        self._slots = Slots(limits.decoded_images)
        self._decode_threads = WorkerThreads(reader.num_processes, "decode")
        self._read_threads = WorkerThreads(_READ_THREADS, "image")
        self._num_thumbnails = 0

    @property
    def busy(self) -> bool:
        """Whether an image is being read or decoded."""
        return self._decode_threads.num_active + self._read_threads.num_active > 0

    def quota(self) -> PixelQuota:
        """Return the pixels that one request may have decoded."""
        return PixelQuota(self._limits.request_pixels)

    @asynccontextmanager
    async def hold_images(
        self, urls: Sequence[str], decode: Decode, quota: PixelQuota | None = None
    ) -> AsyncIterator[list[Image.Image]]:
        """Decode the images of `urls`, and hold them until the context ends."""
        quota = quota or self.quota()
        async with self._slots.hold(len(urls)):
            images = []
            for url in urls:
                data = await self.read(url)
                images.append(await self._decode(decode, data, quota))
            yield images

    async def read(self, url: str) -> bytes:
        """Return the encoded image of a URL."""
        return await self._read_threads.run(self.reader.read_bytes, url)

    async def reencode(self, upload: str | bytes, quota: PixelQuota) -> bytes:
        """Return an upload, a URL or an encoded image, as it will be stored."""
        data = await self.read(upload) if isinstance(upload, str) else upload
        return await self._decode(self.reader.reencode, data, quota)

    async def thumbnail(self, read: Callable[[], bytes], edge: int) -> bytes:
        """Return a stored image, which `read` returns encoded, as a JPEG.

        Raises HttpError (429) if too many are asked for."""
        if self._num_thumbnails >= self._limits.waiting:
            raise HttpError(429, "Too many images are requested. Retry in a second.", retry_after=1)
        self._num_thumbnails += 1
        try:
            data = await self._read_threads.run(read)
            return await self._decode(self.reader.thumbnail, data, edge)
        finally:
            self._num_thumbnails -= 1

    async def run(self, task: Callable[[], T]) -> T:
        """Run a task that encodes images in a thread."""
        return await self._decode(task)

    def close(self) -> None:
        """Kill the processes that decode, and let the threads end."""
        self._decode_threads.close()
        self._read_threads.close()
        self.reader.close()

    async def _decode(self, task: Callable[..., T], *arguments: object) -> T:
        def timed() -> T:
            with self._metrics.stage("decode"):
                return task(*arguments)

        return await self._decode_threads.run(timed)
