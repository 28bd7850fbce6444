"""Recognize decompression bombs: small files whose decoding takes minutes or gigabytes.

Pillow compares width and height with its limits. The files here declare a small image, or one
below the limit, and cost much more than their pixels: JPEGs of thousands of scans, tiles larger
than their image, runs that a decoder written in Python expands byte by byte. Everything is read
from headers; nothing is decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from PIL import Image

MAX_SCANS = 100
"""Scans of a JPEG, as in libtiff (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER). Encoders write 1 to 14;
each costs a pass over all pixels, 3 ms for 40 million."""
MAX_TIFF_PIECES = 250_000
"""Strips or tiles of a TIFF: Pillow keeps a record of 250 bytes for each."""
MIN_TILE_PIXELS = 4_194_304
"""Pixels that a tile of a TIFF may always have, even if the image is smaller: 2048 x 2048."""
MAX_RUN = 255
"""Pixels that two bytes of a run-length-encoded BMP can describe."""

_STAND_ALONE = re.compile(rb"[\x01\xd0-\xd8]")
"""JPEG markers without a length: TEM, RST0 to RST7, SOI."""
_END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""The next marker after the data of a scan; stuffed bytes and restarts belong to the data."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_IMAGE_WIDTH, _IMAGE_LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323
_PIECE_OFFSETS = (273, 324)
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""Types of TIFF values that hold sizes -> their `struct` format."""
_MAX_ENTRIES = 4096
"""Entries of a TIFF directory that are read; more are not part of any image."""


def find_bomb(data: bytes) -> str:
    """Return why an encoded image must not be opened, or ""."""
    if data[:3] == b"\xff\xd8\xff":
        scans = count_scans(data)
        return f"it has more than {MAX_SCANS} scans" if scans > MAX_SCANS else ""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _find_tiff_bomb(data)
    return ""


def find_slow_decoder(image: Image.Image, data: bytes, max_pixels: int) -> str:
    """Return why an opened image must not be decoded by a decoder written in Python, or "".

    Such decoders take 0.1 to 1 microsecond per pixel, a hundred times as long as others.
    """
    codecs = {tile[0] for tile in getattr(image, "tile", ())}
    pixels = image.width * image.height
    if not codecs & set(Image.DECODERS):
        return ""
    if pixels > max_pixels:
        return f"it has {pixels:,} pixels in a slow format; at most {max_pixels:,} are decoded"
    if "bmp_rle" in codecs and len(data) * MAX_RUN < 2 * pixels:
        return f"its {len(data):,} bytes can't describe {pixels:,} pixels"
    return ""


def count_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG, at most MAX_SCANS + 1."""
    scans = 0
    position = 2
    while scans <= MAX_SCANS and position + 4 <= len(data):
        if data[position] != 0xFF:
            match = _END_OF_SCAN.search(data, position)  # garbage between segments is skipped
            if match is None:
                break
            position = match.end() - 2
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            break
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if _STAND_ALONE.match(data, position + 1):
            position += 2
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            scans += 1
            match = _END_OF_SCAN.search(data, position)
            if match is None:
                break
            position = match.end() - 2
    return scans


def _find_tiff_bomb(data: bytes) -> str:
    sizes = dict.fromkeys((_IMAGE_WIDTH, _IMAGE_LENGTH, _TILE_WIDTH, _TILE_LENGTH), 1)
    for tag, count, value in _tiff_entries(data):
        if tag in _PIECE_OFFSETS and count > MAX_TIFF_PIECES:
            return f"it has {count:,} strips or tiles"
        if tag in sizes:
            sizes[tag] = max(sizes[tag], value)
    image_pixels = sizes[_IMAGE_WIDTH] * sizes[_IMAGE_LENGTH]
    tile_pixels = sizes[_TILE_WIDTH] * sizes[_TILE_LENGTH]
    if tile_pixels > max(2 * image_pixels, MIN_TILE_PIXELS):
        return f"a single tile of it has {tile_pixels:,} pixels, the image {image_pixels:,}"
    return ""


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the entries of a TIFF's first directory: tag, count, value (0 if not one integer)."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = 43 in (data[2], data[3])
    offset_format, count_format = (
        (order + "Q", order + "Q") if is_big else (order + "I", order + "H")
    )
    entry_format = order + ("HHQ" if is_big else "HHI")
    value_size = 8 if is_big else 4
    try:
        (start,) = struct.unpack_from(offset_format, data, 8 if is_big else 4)
        (num_entries,) = struct.unpack_from(count_format, data, start)
        position = start + struct.calcsize(count_format)
        for _ in range(min(num_entries, _MAX_ENTRIES)):
            tag, kind, count = struct.unpack_from(entry_format, data, position)
            position += struct.calcsize(entry_format)
            integer = _INTEGERS.get(kind)
            value = 0
            if integer is not None and count == 1 and struct.calcsize(integer) <= value_size:
                (value,) = struct.unpack_from(order + integer, data, position)
            position += value_size
            yield tag, count, value
    except struct.error:  # the directory ends before its entries do, which Pillow reports
        return
