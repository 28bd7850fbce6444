"""Processes that decode images: limits of memory and time, what they know, how they end."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ravlm.data.images import load_image
from ravlm.errors import BrokenData, Busy, RavlmError
from ravlm.serving.image_worker import ImageJob
from ravlm.serving.images import MODEL_PIXELS, ImageReader, PixelQuota
from ravlm.serving.settings import RequestLimits
from ravlm.serving.worker_pool import WorkerPool
from tests.helpers.bombs import avif_of_hidden_size, jpeg_of_scans, rle_bmp

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits need Linux")
SLOW = rle_bmp(12_000_000, 1, b"\x01\x05\0\0" + bytes(100_000))
"""Takes 1.5 s to decode, unless a limit on slow formats refuses it."""


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def reader() -> Iterator[ImageReader]:
    reader = ImageReader(RequestLimits(decoders=1), None)
    yield reader
    reader.close()


def pixels(max_slow_pixels: int = 1_000_000, cpu_seconds: int = 10) -> ImageJob:
    return ImageJob("pixels", 40_000_000, max_slow_pixels, cpu_seconds=cpu_seconds)


def test_the_pixels_are_those_of_the_library(reader: ImageReader) -> None:
    photo = Image.effect_noise((90, 70), 60).convert("RGB")
    for kind in ("PNG", "JPEG", "WEBP", "AVIF"):
        data = encoded(photo, kind)
        assert reader.decode(data).tobytes() == load_image(data).tobytes()
    assert reader.decode_for_encoder(encoded(photo, "PNG"), 260).size == (90, 70)
    large = encoded(Image.linear_gradient("L").resize((3000, 1000)), "PNG")
    shrunk = reader.decode_for_model(large)
    assert MODEL_PIXELS * 0.99 < shrunk.width * shrunk.height <= MODEL_PIXELS
    assert abs(shrunk.width / shrunk.height - 3) < 0.01
    assert load_image(reader.thumbnail(large, 64)).size == (64, 21)
    assert load_image(reader.reencode(encoded(photo, "GIF"))).size == (90, 70)


def test_errors_name_the_reason(reader: ImageReader) -> None:
    for data, reason in (
        (jpeg_of_scans(500, (64, 64)), "more than 100 scans"),
        (b"no image", "allowed formats: JPEG"),
        (encoded(Image.new("RGB", (9, 9)), "PPM"), "allowed formats: JPEG"),
        (encoded(Image.new("RGB", (9, 9)), "PNG")[:45], "can't be decoded"),
        (SLOW, "slow format"),
    ):
        with pytest.raises(BrokenData, match=reason):
            reader.decode(data)
    quota = PixelQuota(5000)
    reader.decode_for_model(encoded(Image.new("RGB", (60, 50)), "PNG"), quota)
    with pytest.raises(BrokenData, match="more than 5,000 pixels together"):
        reader.decode_for_model(encoded(Image.new("RGB", (60, 50)), "PNG"), quota)


@ON_LINUX
def test_memory_is_limited_where_headers_lie() -> None:
    """An AVIF of 1 kB that declares 64 x 64 pixels decodes a frame of up to 268 million."""
    data = avif_of_hidden_size((2500, 2500), 64)
    assert load_image(data).size == (64, 64)
    pool = WorkerPool(1, 8_000_000, 60)
    with pytest.raises(BrokenData):
        pool.run(pixels(), data)
    assert pool.run(pixels(), encoded(Image.new("RGB", (8, 9)), "PNG")).size == (8, 9)
    pool.close()


@ON_LINUX
@pytest.mark.parametrize("limit", ["seconds", "processor"])
def test_a_slow_image_costs_its_process(limit: str) -> None:
    """The next image gets a new one: a decoder that never ends stops nothing."""
    pool = WorkerPool(1, 800_000_000, 0.3 if limit == "seconds" else 60)
    with pytest.raises(BrokenData, match="takes too much time or memory"):
        pool.run(pixels(20_000_000, 60 if limit == "seconds" else 0), SLOW)
    assert pool.pids == []
    pool._seconds = 60
    assert pool.run(pixels(), encoded(Image.new("RGB", (8, 9)), "PNG")).size == (8, 9)
    pool.close()


def test_closing_ends_a_decode() -> None:
    """SIGTERM in the middle of a decode once waited for its end."""
    pool = WorkerPool(1, 800_000_000, 60)
    pool.run(pixels(), encoded(Image.new("RGB", (8, 9)), "PNG"))
    errors: list[RavlmError] = []

    def decode() -> None:
        try:
            pool.run(pixels(20_000_000), SLOW)
        except RavlmError as error:
            errors.append(error)

    thread = threading.Thread(target=decode)
    thread.start()
    time.sleep(0.1)
    start = time.process_time()
    pool.close()
    thread.join(20)
    assert time.process_time() - start < 5
    assert len(errors) == 1
    with pytest.raises(Busy):
        pool.run(pixels(), b"x")


@ON_LINUX
def test_workers_know_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVLM_TOKEN", "not-for-decoders")
    pool = WorkerPool(1, 100_000_000, 60)
    pool.run(pixels(), encoded(Image.new("RGB", (8, 9)), "PNG"))
    (pid,) = pool.pids
    assert b"not-for-decoders" not in Path(f"/proc/{pid}/environ").read_bytes()
    pool.close()
    assert not Path(f"/proc/{pid}").exists()
