"""Images in requests: read data URLs (or public addresses, if allowed) and decode them.

A client never names a path. Only common formats are decoded, in processes with limits of memory and
time (`worker_pool`). Uploads are re-encoded before they are stored, which drops everything but the
pixels (EXIF with its location, comments, trailing data)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeAlias

from PIL import Image

from ravlm.data.data_urls import decode_data_url
from ravlm.data.images import ImageLimits
from ravlm.errors import BrokenData, InvalidInput
from ravlm.runtime import cpu_count
from ravlm.serving.image_worker import ImageJob, ImageResult, ImageTask, encode_image
from ravlm.serving.settings import RequestLimits
from ravlm.serving.worker_pool import WorkerPool

MODEL_PIXELS = 1_048_576
"""Width x height of an image given to a model: chat models read 768 pixels of the longer edge,
encoders less."""
_MODEL_EDGE = 768
"""Pixels that the shorter edge keeps while a JPEG is decoded for a model."""
_ENCODER_PIXELS = 4 * MODEL_PIXELS
"""The same for the encoder, which does the final resize itself, as in training."""
FetchImage: TypeAlias = Callable[[str], bytes]


class PixelQuota:
    """The pixels that the images of one request may have together."""

    def __init__(self, pixels: int) -> None:
        self._limit = self._remaining = pixels

    def spend(self, pixels: int) -> None:
        """Take the pixels of an image. Raises BrokenData if fewer are left."""
        self._remaining -= pixels
        if self._remaining < 0:
            raise BrokenData(
                f"The images of this request have more than {self._limit:,} pixels together; send "
                "fewer in one request."
            )


class ImageReader:
    """Reads the images of requests within `limits`.

    `fetch` downloads an http(s) address; None refuses addresses. All methods block; those that
    decode raise BrokenData if the image is damaged or exceeds a limit."""

    def __init__(self, limits: RequestLimits, fetch: FetchImage | None) -> None:
        self._limits = limits
        self._fetch = fetch
        self.num_processes = min(cpu_count(), limits.decoders)
        self.pool = WorkerPool(self.num_processes, limits.decoder_bytes, limits.seconds)

    def read_bytes(self, url: str) -> bytes:
        """Return the encoded image of a data URL or an address.

        Raises InvalidInput, BrokenData or NotFound."""
        url = url.strip()
        if url[:5].lower() != "data:":
            return self._download(url)
        num_characters = len(url) - url.find(",") - url.count("\n") - url.count("\r")
        self._check_size(num_characters * 3 // 4 - 3)
        return decode_data_url(url)

    def decode(self, data: bytes) -> Image.Image:
        """Return the image upright in RGB, in its full size."""
        return self._run("pixels", data).to_image()

    def decode_for_model(self, data: bytes, quota: PixelQuota | None = None) -> Image.Image:
        """Return the image, shrunk to the largest size that a model reads."""
        edge, pixels = _MODEL_EDGE, MODEL_PIXELS
        return self._run("pixels", data, quota, edge=edge, target_pixels=pixels).to_image()

    def decode_for_encoder(
        self, data: bytes, edge: int, quota: PixelQuota | None = None
    ) -> Image.Image:
        """Return the image for an encoder whose `image_size` is `edge`."""
        pixels = max(_ENCODER_PIXELS, 4 * edge * edge)
        return self._run("pixels", data, quota, edge=edge, target_pixels=pixels).to_image()

    def reencode(self, data: bytes, quota: PixelQuota | None = None) -> bytes:
        """Re-encode an upload (JPEG or PNG), which drops everything but the pixels."""
        return self._run("upload", data, quota).data

    def thumbnail(self, data: bytes, edge: int) -> bytes:
        """Return a stored image as a JPEG whose longer edge has at most `edge` pixels."""
        return self._run("thumbnail", data, edge=edge, longer_edge=edge).data

    def close(self) -> None:
        """Kill the processes that decode."""
        self.pool.close()

    def _run(
        self, task: ImageTask, data: bytes, quota: PixelQuota | None = None, **options: Any
    ) -> ImageResult:
        is_stored = task == "thumbnail"  # read from the base, perhaps larger than a request's
        if not is_stored:
            self._check_size(len(data))
        job = ImageJob(
            task,
            ImageLimits().max_pixels if is_stored else self._limits.pixels,
            self._limits.slow_pixels,
            any_format=is_stored,
            cpu_seconds=self._limits.decode_seconds,
            **options,
        )
        result = self.pool.run(job, data)
        if quota is not None:
            quota.spend(result.source_pixels)
        return result

    def _download(self, url: str) -> bytes:
        if self._fetch is None:
            raise InvalidInput(
                "Images must be data URLs (data:image/jpeg;base64,...); this server accepts "
                "no addresses and no paths."
            )
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(
                "Images must be data URLs (data:image/jpeg;base64,...) or http(s) addresses; "
                "this server accepts no paths."
            )
        return self._fetch(url)

    def _check_size(self, num_bytes: int) -> None:
        limit = self._limits.image_bytes
        if num_bytes > limit:
            raise BrokenData(
                f"The image has {num_bytes:,} bytes; at most {limit:,} are allowed. "
                "Make it smaller."
            )


def data_url(image: Image.Image) -> str:
    """Return the image as a lossless data URL."""
    return f"data:image/png;base64,{base64.b64encode(encode_image(image, 'PNG')).decode('ascii')}"
