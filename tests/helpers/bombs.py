"""Decompression bombs, written byte by byte: files that cost far more than their size."""

from __future__ import annotations

import io
import struct

from PIL import Image


def jpeg_of_scans(scans: int, size: tuple[int, int]) -> bytes:
    """Return a progressive JPEG with so many scans after its own, all of them empty."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "gray").save(buffer, "JPEG", progressive=True, quality=10)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"
    return buffer.getvalue()[:-2] + scan * scans + b"\xff\xd9"


def rle_bmp(width: int, height: int, runs: bytes) -> bytes:
    """Return a BMP of two colors, white and black, whose 8-bit run lengths are `runs`."""
    palette = b"\xff\xff\xff\0" + b"\0\0\0\0"
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 8, 1, len(runs), 0, 0, 2, 0)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


def tiff(size: tuple[int, int], tags: dict[int, int], order: str = "<", big: bool = False) -> bytes:
    """Return the header and the directory of a gray TIFF with additional tags, all of type LONG."""
    entries = {256: size[0], 257: size[1], 258: 8, 262: 1, 277: 1} | tags
    mark = b"II" if order == "<" else b"MM"
    if big:
        data = mark + struct.pack(order + "HHHQQ", 43, 8, 0, 16, len(entries))
    else:
        data = mark + struct.pack(order + "HIH", 42, 8, len(entries))
    for tag, value in sorted(entries.items()):
        data += struct.pack(order + ("HHQI4x" if big else "HHII"), tag, 4, 1, value)
    return data + bytes(8)


def avif_of_hidden_size(size: tuple[int, int], declared: int) -> bytes:
    """Return an AVIF whose frame has `size`, though its header declares a small square."""
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "AVIF", speed=10, quality=10)
    data = buffer.getvalue()
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", declared, declared) + data[start + 8 :]
