"""Decompression bombs: small files that would take minutes or gigabytes are refused by headers."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageFile

from ravlm.data.decompression_bombs import MAX_SCANS, count_scans, find_bomb
from ravlm.data.images import ImageLimits, load_image, open_image
from ravlm.errors import BrokenData
from tests.helpers.bombs import jpeg_of_scans, rle_bmp, tiff


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def no_decoding(image: ImageFile.ImageFile) -> None:
    raise AssertionError(f"{image.format} was decoded")


def test_thousands_of_scans_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progressive JPEG of 323 kB with thousands of scans kept a decoder busy for 173 s."""
    bomb = jpeg_of_scans(30_000, (900, 900))
    with monkeypatch.context() as context:
        context.setattr(ImageFile.ImageFile, "load", no_decoding)
        with pytest.raises(BrokenData, match="more than 100 scans"):
            load_image(bomb, edge=260)
    assert load_image(jpeg_of_scans(50, (64, 48))).size == (64, 48)


def test_scans_are_counted_like_a_decoder_does() -> None:
    noise = Image.effect_noise((90, 70), 80).convert("RGB")
    baseline = encoded(noise, "JPEG", quality=97)
    assert count_scans(baseline) == 1
    assert 4 < count_scans(encoded(noise, "JPEG", progressive=True)) < 15
    restarts = encoded(noise, "JPEG", restart_marker_blocks=1)
    assert b"\xff\xd3" in restarts
    assert count_scans(restarts) == 1
    video = b"\xff\xda\x00\x08" * 5000  # a motion photo has a film behind its image
    assert count_scans(baseline + video) == 1
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + 4000) + b"\xff\xda\x00\x02" * 1000
    assert count_scans(baseline[:2] + thumbnail + baseline[2:]) == 1
    hidden = jpeg_of_scans(500, (32, 32)).replace(b"\xff\xda", b"\0garbage\xff\xff\xda")
    assert count_scans(hidden) == MAX_SCANS + 1
    for length in range(0, len(baseline), 37):
        assert count_scans(baseline[:length]) <= 1


@pytest.mark.parametrize("body", [b"\x01\x05\x00\x00", b"\x00\x02\x01\x00", b""])
def test_runs_that_describe_nothing_are_refused(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run-length-encoded BMP of 66 bytes took 5 s: one end of line filled 39 million pixels."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    with pytest.raises(BrokenData, match="slow format; at most 16,000,000"):
        load_image(rle_bmp(39_000_000, 1, body))
    with pytest.raises(BrokenData, match="can't describe 12,000,000 pixels"):
        load_image(rle_bmp(4000, 3000, body))


def test_run_length_encoded_images_are_read() -> None:
    rows = b"".join(bytes((30, row % 2)) + b"\0\0" for row in range(20)) + b"\0\1"
    pixels = np.asarray(load_image(rle_bmp(30, 20, rows)))
    assert (pixels[0, 0].tolist(), pixels[1, 5].tolist()) == ([255] * 3, [0] * 3)
    with pytest.raises(BrokenData, match="600 pixels in a slow format; at most 500"):
        load_image(rle_bmp(30, 20, rows), limits=ImageLimits(max_slow_pixels=500))
    assert load_image(encoded(Image.new("RGB", (9, 9)), "BMP")).size == (9, 9)


@pytest.mark.parametrize("size", [(60_000, 30_000), (16, 60_000_000), (60_000_000, 16)])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_tiles_larger_than_the_image_are_refused(
    size: tuple[int, int], order: str, big: bool
) -> None:
    """A TIFF of 169 bytes with 64 x 64 pixels and one huge tile took 1.9 GB."""
    tags = {259: 8, 322: size[0], 323: size[1], 324: 8, 325: 8}
    data = tiff((64, 64), tags, order=order, big=big)
    with pytest.raises(BrokenData, match="a single tile of it has"):
        load_image(data + zlib.compress(b""))


def test_millions_of_strips_are_refused_and_usual_tiles_are_not() -> None:
    """Pillow keeps a record of each strip: a file of 16 MB with 4 million of them took 1 GB."""
    strips = bytearray(tiff((4, 300_000), {278: 1, 273: 0}))
    entry = strips.index(struct.pack("<HHI", 273, 4, 1))
    strips[entry : entry + 12] = struct.pack("<HHII", 273, 4, 300_000, 200)
    assert find_bomb(bytes(strips)) == "it has 300,000 strips or tiles"
    assert find_bomb(tiff((64, 64), {322: 512, 323: 512})) == ""
    image = Image.effect_noise((700, 500), 40)
    for options in ({}, {"compression": "tiff_lzw"}, {"tiffinfo": {278: 2**32 - 1}}):
        assert load_image(encoded(image, "TIFF", **options)).size == (700, 500)


def test_open_image_names_the_allowed_formats() -> None:
    gif = encoded(Image.new("P", (8, 8)), "GIF")
    with open_image(gif, ("PNG", "GIF")) as image:
        assert (image.format, image.size) == ("GIF", (8, 8))
    with pytest.raises(BrokenData, match="allowed formats: PNG, JPEG"):
        open_image(gif, ("PNG", "JPEG"))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "TIFF", "GIF", "PNG", "BMP", "JPEG"])
def test_damaged_images_raise_nothing_else_when_opened(kind: str) -> None:
    """A damaged AVIF raised RuntimeError where the server read its format: a 500."""
    content = encoded(Image.effect_noise((32, 32), 50).convert("RGB"), kind)
    random = np.random.default_rng(5)
    for _ in range(150):
        data = bytearray(content)
        for position in random.integers(0, min(len(data), 400), 4):
            data[position] = random.integers(256)
        with suppress(BrokenData):
            open_image(bytes(data), (kind,), limits=ImageLimits(max_pixels=100_000)).close()
