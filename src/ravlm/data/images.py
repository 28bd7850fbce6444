"""Load images: paths, bytes, PIL images and http(s) addresses become upright RGB.

This is the only module that opens images. Sizes are checked in the header, before anything is
decoded, and no global setting of Pillow is changed.
"""

from __future__ import annotations

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

ColorMode = Literal["rgb", "keep_alpha", "original"]
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://|^(data):", re.ASCII)
_EXIF_ORIENTATION = 0x0112
_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_NOTES = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Keys of `Image.info` that may hold an orientation; a rotated image must not be rotated again."""
# What Pillow's decoders raised on damaged files, found by feeding them random and truncated ones.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, EOFError, LookupError,
    ArithmeticError, RuntimeError, AssertionError, MemoryError, BufferError, struct.error,
    zlib.error, Image.DecompressionBombError,
    Warning,  # in programs that turn warnings into errors
)  # fmt: skip


@dataclass(frozen=True)
class ImageLimits:
    """The limits above which an image is refused.

    Pillow itself warns above 89 million pixels and refuses above 179 million, regardless of these.
    """

    max_pixels: int = 89_000_000
    """Width x height, as given in the header."""
    max_bytes: int = 100_000_000
    """Size of the file, or of the response from an address."""
    seconds: float = 20.0
    """Timeout for an address."""


DEFAULT_LIMITS = ImageLimits()


def is_address(source: object) -> bool:
    """Return whether `source` is an address (`https://...`) rather than a path."""
    return isinstance(source, str) and _SCHEME.match(source) is not None


def load_image(
    source: ImageSource,
    *,
    edge: int | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    mode: ColorMode = "rgb",
) -> Image.Image:
    """Decode `source` to a new, upright image.

    By default the result is RGB, with transparency over white and the first frame of an animation.
    With `mode="keep_alpha"`, an image with transparency becomes RGBA, its colors as stored;
    `mode="original"` keeps the image's own mode (gray, palette ...). 16-bit values are scaled from
    0..65535; floats from 0..1, 0..255 or else their own range. A PIL image is not modified, and its
    current frame is used.

    `edge`: the shorter side must keep at least this many pixels. A JPEG is then decoded at 1/2, 1/4
    or 1/8 of its size where that suffices, which is several times faster. Other formats, and
    `edge=None`, give the full size.

        load_image("cat.jpg").size      # (1600, 1200)

    Raises NotFound if the image does not exist, and BrokenData, with the reason, if it can't be
    decoded or exceeds `limits`.
    """
    if edge is not None and edge < 1:
        raise InvalidInput(
            f"edge is {edge}; it must be at least 1 pixel, or None for the full size."
        )
    if isinstance(source, Image.Image):
        return _decode(source, "the PIL image", limits, mode)
    name = _display_name(source)
    data = image_bytes(source, limits)
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = str(error).rstrip(".")
        raise BrokenData(
            f"{name} has too many pixels to be safe: {reason}; make it smaller."
        ) from None
    except _DECODE_ERRORS:
        raise BrokenData(
            f"{name} is not an image: it has none of the formats that Pillow reads "
            f"(it begins with {bytes(data[:12])!r})."
        ) from None
    with image:
        return _decode(image, name, limits, mode, draft_edge=edge)


def image_bytes(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Return the encoded image of a file or address; a PIL image is encoded as RGB PNG.

    The content is not checked. Raises NotFound, or BrokenData if it is empty or too large.
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
            "An image must be a path, an http(s) address, bytes or a PIL image, "
            f"not {type(source).__name__}."
        )
    if not data:
        raise BrokenData(f"{_display_name(source)} is empty (0 bytes); copy the image again.")
    if len(data) > limits.max_bytes:
        size = f"{_display_name(source)} has {len(data):,} bytes"
        raise BrokenData(f"{size}; at most {limits.max_bytes:,} are read.")
    return data


def _decode(
    image: Image.Image,
    name: str,
    limits: ImageLimits,
    mode: ColorMode,
    draft_edge: int | None = None,
) -> Image.Image:
    """Decode an opened image. `draft_edge` lets a JPEG be decoded at a fraction of its size."""
    width, height = image.size
    if width * height > limits.max_pixels:
        size = f"{name} has {width:,} x {height:,} pixels"
        raise BrokenData(f"{size}; at most {limits.max_pixels:,} are decoded. Make it smaller.")
    if image.format == "EPS":
        raise BrokenData(
            f"{name} is PostScript, a program rather than an image; convert it to PNG or JPEG."
        )
    try:
        if draft_edge is not None:
            image.draft("RGB", (draft_edge, draft_edge))
        image.load()
        result = _make_upright(image)
        if mode != "original":
            result = _to_rgb(result, keep_alpha=mode == "keep_alpha")
    except _DECODE_ERRORS as error:
        kind = image.format or image.mode
        reason = str(error) or type(error).__name__
        raise BrokenData(f"{name} can't be decoded as {kind}: {reason}.") from error
    return result.copy() if result is image else result


def _make_upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _DECODE_ERRORS:  # damaged EXIF is no reason to reject the image
        return image
    if orientation not in _TRANSPOSE_BY_ORIENTATION:
        return image
    upright = image.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])
    for note in _ORIENTATION_NOTES:
        upright.info.pop(note, None)
    return upright


def _to_rgb(image: Image.Image, keep_alpha: bool) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return _rgb_from_gray(np.asarray(image).astype(np.float32), 0, 65535)
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0)
        return _rgb_from_gray(values, *_value_range(values, image.mode))
    if image.mode == "LAB":
        return _rgb_from_lab(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[:-1] + "A")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if keep_alpha:
            return image
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _value_range(values: np.ndarray, mode: str) -> tuple[float, float]:
    """Return the values of black and white: the smallest usual range that contains `values`."""
    low, high = float(values.min()), float(values.max())
    for white in (65535,) if mode == "I" else (1, 255):
        if low >= 0 and high <= white:
            return 0, white
    return low, high


def _rgb_from_gray(values: np.ndarray, black: float, white: float) -> Image.Image:
    scaled = (values - black) * (255 / max(white - black, 1e-12))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8)).convert("RGB")


def _rgb_from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # it is None only with inPlace
    return converted


def _display_name(source: object) -> str:
    if isinstance(source, bytes | bytearray | memoryview):
        return "The image given as bytes"
    text = str(source)
    return f'"{text if len(text) <= 300 else text[:300] + "..."}"'


def _read(path: Path, limits: ImageLimits) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BrokenData(f'"{path}" is a folder or device; name an image file.')
        if status.st_size > limits.max_bytes:
            size = f'"{path}" has {status.st_size:,} bytes'
            raise BrokenData(f"{size}; at most {limits.max_bytes:,} are read.")
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f'There is no image "{path}"; check the path.') from None
    except (OSError, ValueError) as error:  # no permission, a name too long, a NUL character in it
        raise BrokenData(f"{_display_name(path)} can't be read: {error}.") from error


def _fetch(address: str, limits: ImageLimits) -> bytes:
    """Download an http(s) address within the limits of size and time."""
    match = _SCHEME.match(address)
    assert match is not None
    scheme = (match[1] or match[2]).lower()
    name = _display_name(address)
    if scheme not in ("http", "https"):
        raise InvalidInput(f'{name} has the scheme "{scheme}"; allowed: http, https, or a path.')
    import http.client
    import urllib.error

    try:
        return _download(address, limits)
    except urllib.error.HTTPError as error:
        raise NotFound(f"{name} answered {error.code} {error.reason}; check the address.") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise NotFound(
            f"{name} can't be fetched: {reason}; check the address and the network."
        ) from error


def _download(address: str, limits: ImageLimits) -> bytes:
    import urllib.request as net

    name = _display_name(address)
    opener = net.OpenerDirector()  # build_opener would follow a redirect to ftp: or file:
    for handler in (
        net.ProxyHandler(), net.UnknownHandler(), net.HTTPHandler(), net.HTTPSHandler(),
        net.HTTPDefaultErrorHandler(), net.HTTPRedirectHandler(), net.HTTPErrorProcessor(),
    ):  # fmt: skip
        opener.add_handler(handler)
    deadline = time.monotonic() + limits.seconds
    data = bytearray()
    request = net.Request(address, headers={"User-Agent": "ravlm"})  # noqa: S310 - scheme checked
    with opener.open(request, timeout=limits.seconds) as response:
        while chunk := response.read1(65536):
            data += chunk
            if len(data) > limits.max_bytes:
                raise BrokenData(f"{name} sends more than the {limits.max_bytes:,} bytes allowed.")
            if time.monotonic() > deadline:
                raise BrokenData(f"{name} was not received within {limits.seconds:g} seconds.")
    return bytes(data)
