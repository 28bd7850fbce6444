"""The child process that decodes images: it reads jobs from stdin and writes results to stdout.

Decoders are the largest attack surface of a server. Here they run without the token, within limits
of memory and processor time that the operating system enforces, and can be killed. `worker_pool`
starts the process.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias

from PIL import Image

from ravlm.data.child_process import limit_cpu, limit_memory, read_message, write_message
from ravlm.data.images import ImageLimits, load_image, open_image
from ravlm.errors import RavlmError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats of images in requests."""
_LOSSY_FORMATS = ("JPEG", "WEBP", "AVIF")
_TOO_MUCH_MEMORY = "The image takes too much memory to decode; make it smaller."
ImageTask: TypeAlias = Literal["pixels", "upload", "thumbnail"]


@dataclass(frozen=True)
class ImageJob:
    """What to do with one encoded image.

    `task`: "pixels" returns RGB pixels, "upload" the image encoded again without metadata,
    "thumbnail" a JPEG.
    """

    task: ImageTask
    max_pixels: int
    max_slow_pixels: int
    any_format: bool = False
    """Whether all formats are allowed that Pillow reads, not only those of requests."""
    edge: int | None = None
    """A JPEG may be decoded at a fraction of its size whose shorter edge has at least this many
    pixels."""
    target_pixels: int | None = None
    """Width x height above which the result is shrunk; None keeps the size."""
    longer_edge: int | None = None
    """Longest edge of a thumbnail."""
    cpu_seconds: int = 10
    """Processor time after which the process is killed, where the system can do that."""


@dataclass(frozen=True)
class ImageResult:
    """What a worker returns: RGB pixels of a size, or an encoded image (`size` is None)."""

    data: bytes
    size: tuple[int, int] | None
    source_pixels: int
    """Width x height of the image before it was shrunk."""

    def to_image(self) -> Image.Image:
        """Return the pixels as an image."""
        assert self.size is not None
        return Image.frombytes("RGB", self.size, self.data)


def process(job: ImageJob, data: bytes) -> ImageResult:
    """Carry out a job. Raises a RavlmError if the image can't be decoded."""
    limits = ImageLimits(job.max_pixels, job.max_slow_pixels)
    with open_image(data, None if job.any_format else FORMATS, limits=limits) as header:
        image_format, source_pixels = header.format, header.width * header.height
    image = load_image(data, edge=job.edge, limits=limits)
    if job.task == "thumbnail":
        assert job.longer_edge is not None
        image.thumbnail((job.longer_edge, job.longer_edge))
        return ImageResult(encode_image(image, "JPEG", quality=88), None, source_pixels)
    if job.task == "upload":
        kind = "JPEG" if image_format in _LOSSY_FORMATS else "PNG"
        return ImageResult(encode_image(image, kind), None, source_pixels)
    if job.target_pixels is not None and image.width * image.height > job.target_pixels:
        scale = (job.target_pixels / (image.width * image.height)) ** 0.5
        size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return ImageResult(image.tobytes(), image.size, source_pixels)


def encode_image(image: Image.Image, image_format: str, quality: int = 95) -> bytes:
    """Return the image as the bytes of a file, without comments and profiles."""
    buffer = io.BytesIO()
    plain_image = image.copy()
    plain_image.info.clear()
    options = {"quality": quality} if image_format == "JPEG" else {"compress_level": 6}
    plain_image.save(buffer, image_format, **options)
    return buffer.getvalue()


def main(max_bytes: int) -> None:
    """Process jobs until stdin ends."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # of this process; each thread reserves memory
    jobs, results = sys.stdin.buffer, sys.stdout.buffer
    limit_memory(max_bytes)
    while (message := read_message(jobs)) is not None:
        options, data = message
        job = ImageJob(**options)
        limit_cpu(job.cpu_seconds)
        try:
            result = process(job, data)
        except RavlmError as error:
            write_message(results, {"error": str(error)}, b"")
        except MemoryError:
            write_message(results, {"error": _TOO_MUCH_MEMORY}, b"")
        else:
            header = {"size": result.size, "source_pixels": result.source_pixels}
            write_message(results, header, result.data)


if __name__ == "__main__":
    main(int(sys.argv[1]))
