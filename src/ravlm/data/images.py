"""Pictures from anywhere to upright RGB: paths, bytes, PIL images, http(s) addresses.

The only place that opens a picture. Sizes are checked in the header, before anything is decoded,
and no global setting of Pillow is touched. Knows nothing of encoders and entries."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.records import ImageSource

Form = Literal["rgb", "alpha", "own"]
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://|^(data):", re.ASCII)
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders were seen to raise on damaged files, found by feeding them random and cut
# ones.
_DECODING = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, EOFError, LookupError, ArithmeticError,
    RuntimeError, AssertionError, MemoryError, BufferError, struct.error, zlib.error,
    Image.DecompressionBombError, Warning,  # where a program turns warnings into errors
)  # fmt: skip


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may cost before it is refused.

    Pillow itself warns above 89 million pixels and refuses above 179 million, whatever stands here.
    """

    max_pixels: int = 89_000_000
    """Width x height as the header tells it."""
    max_bytes: int = 100_000_000
    """Size of the file or of what an address sends."""
    seconds: float = 20.0
    """Longest wait for an address."""


DEFAULT_LIMITS = ImageLimits()


def is_address(source: object) -> bool:
    """Whether `source` is written as an address (`https://...`) and not as a path."""
    return isinstance(source, str) and _SCHEME.match(source) is not None


def load_image(
    source: ImageSource,
    *,
    edge: int | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    form: Form = "rgb",
) -> Image.Image:
    """Decode `source` to an upright RGB image of its own; the first frame of an animation,
    transparency over white.

    `form`: "alpha" gives a picture that has transparency as RGBA instead, its colours as stored;
    "own" leaves every picture in its own mode (grey, palette ...). `edge`: the length in pixels
    that the shorter side must keep; a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size where
    that suffices, several times cheaper. Without it, and in other formats, the full size is
    returned. A PIL image is left as it was (its current frame is taken). 16-bit values are scaled
    from 0..65535; floats from 0..1, 0..255 or else their own range.

    Raises NotFound for what isn't there, BrokenData (with the reason) for what can't be decoded or
    is too large."""
    if edge is not None and edge < 1:
        raise InvalidInput(
            f"edge is {edge}; a number of pixels from 1 on is needed, or None for the full size."
        )
    if isinstance(source, Image.Image):
        return _decode(source, "the PIL image", None, limits, owned=False, form=form)
    name, data = _name(source), image_bytes(source, limits)
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenData(
            f"{name} has too many pixels to be safe: {str(error).rstrip('.')}; make it smaller."
        ) from None
    except _DECODING:
        start = bytes(data[:12])
        raise BrokenData(
            f"{name} is not a picture: its content is none of the formats that Pillow reads (it begins with {start!r})."
        ) from None
    with image:
        return _decode(image, name, edge, limits, owned=True, form=form)


def image_bytes(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The encoded picture as it lies in the file or at the address; a PIL image as a PNG of its RGB
    form.

    Raises NotFound, or BrokenData for an empty or too large one; the content is not looked at.
    """
    if isinstance(source, Image.Image):
        buffer = io.BytesIO()
        load_image(source, limits=limits).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif is_address(source):
        data = _fetch(str(source), limits)
    elif isinstance(source, str | os.PathLike):
        data = _read(Path(source), limits)
    else:
        raise InvalidInput(
            f"An image is a path, an http(s) address, bytes or a PIL image, not {type(source).__name__}; convert it."
        )
    if not data:
        raise BrokenData(f"{_name(source)} is empty (0 bytes); put the picture there again.")
    if len(data) > limits.max_bytes:
        raise BrokenData(
            f"{_name(source)} has {len(data):,} bytes; at most {limits.max_bytes:,} are read."
        )
    return data


def content_hash(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> str:
    """SHA-256 (hexadecimal) of the encoded bytes; of mode, size and pixels of a PIL image."""
    if isinstance(source, Image.Image):
        head = f"{source.mode} {source.size[0]}x{source.size[1]} ".encode()
        return hashlib.sha256(head + source.tobytes()).hexdigest()
    return hashlib.sha256(image_bytes(source, limits)).hexdigest()


def _decode(
    image: Image.Image, name: str, edge: int | None, limits: ImageLimits, *, owned: bool, form: Form
) -> Image.Image:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise BrokenData(
            f"{name} has {width:,} x {height:,} pixels; at most {limits.max_pixels:,} are decoded: make it smaller."
        )
    if image.format == "EPS":
        raise BrokenData(
            f"{name} is PostScript, a program and not a picture; convert it to PNG or JPEG."
        )
    try:
        if edge is not None and owned:
            image.draft("RGB", (edge, edge))
        image.load()
        upright = _upright(image)
        result = upright if form == "own" else _to_rgb(upright, keep_alpha=form == "alpha")
    except _DECODING as error:
        kind = image.format or image.mode
        raise BrokenData(
            f"{name} can't be decoded as {kind}: {str(error) or type(error).__name__}."
        ) from error
    return result.copy() if result is image else result


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _DECODING:  # damaged EXIF is no reason to lose the picture
        return image
    if orientation not in _UPRIGHT:
        return image
    upright = image.transpose(_UPRIGHT[orientation])
    for note in (
        "exif",
        "Raw profile type exif",
        "xmp",
        "XML:com.adobe.xmp",
    ):  # each may say to turn it once more
        upright.info.pop(note, None)
    return upright


def _to_rgb(image: Image.Image, keep_alpha: bool) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float32), 65535)
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0)
        return _grey(values, *_value_range(values, image.mode))
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[:-1] + "A")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if keep_alpha:
            return image
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _value_range(values: np.ndarray, mode: str) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    for top in (65535,) if mode == "I" else (1, 255):
        if low >= 0 and high <= top:
            return top, 0
    return high, low


def _grey(values: np.ndarray, top: float, bottom: float = 0) -> Image.Image:
    scaled = (values - bottom) * (255 / max(top - bottom, 1e-12))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8)).convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert converted is not None  # only with inPlace
    return converted


def _name(source: object) -> str:
    if isinstance(source, bytes | bytearray | memoryview):
        return "The picture given as bytes"
    text = str(source)
    return f'"{text if len(text) <= 300 else text[:300] + "..."}"'


def _read(path: Path, limits: ImageLimits) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BrokenData(
                f'"{path}" is not a file but a folder or device; name a picture in it.'
            )
        if status.st_size > limits.max_bytes:
            raise BrokenData(
                f'"{path}" has {status.st_size:,} bytes; at most {limits.max_bytes:,} are read.'
            )
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f'There is no picture "{path}"; check the path.') from None
    except (OSError, ValueError) as error:  # no permission, a name too long, a NUL character in it
        raise BrokenData(f"{_name(path)} can't be read: {error}.") from error


def _fetch(address: str, limits: ImageLimits) -> bytes:
    match = _SCHEME.match(address)
    assert match is not None
    scheme = (match[1] or match[2]).lower()
    if scheme not in ("http", "https"):
        raise InvalidInput(
            f'{_name(address)} has the scheme "{scheme}"; allowed: http, https, or a path.'
        )
    import http.client
    import urllib.error
    import urllib.request as net

    opener = net.OpenerDirector()  # build_opener would follow a redirect to ftp: or read file:
    for handler in (
        net.ProxyHandler(), net.UnknownHandler(), net.HTTPHandler(), net.HTTPSHandler(),
        net.HTTPDefaultErrorHandler(), net.HTTPRedirectHandler(), net.HTTPErrorProcessor(),
    ):  # fmt: skip
        opener.add_handler(handler)
    deadline = time.monotonic() + limits.seconds
    received = bytearray()
    try:
        request = net.Request(address, headers={"User-Agent": "ravlm"})  # noqa: S310 - the scheme was checked
        with opener.open(request, timeout=limits.seconds) as response:
            while piece := response.read1(65536):
                received += piece
                if len(received) > limits.max_bytes:
                    raise BrokenData(
                        f"{_name(address)} sends more than the {limits.max_bytes:,} bytes allowed."
                    )
                if time.monotonic() > deadline:
                    raise BrokenData(
                        f"{_name(address)} was not received within {limits.seconds:g} seconds."
                    )
    except urllib.error.HTTPError as error:
        raise NotFound(
            f"{_name(address)} answered {error.code} {error.reason}; check the address."
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise NotFound(
            f"{_name(address)} can't be fetched: {reason}; check the address and the network."
        ) from error
    return bytes(received)
