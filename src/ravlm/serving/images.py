"""Images in requests: decode and check data URLs (or public addresses, if allowed).

A client never names a path. Only common formats are decoded, and sizes are checked in the header
first. Uploads are re-encoded before they are stored, which drops everything but the pixels (EXIF
with its location, comments, trailing data)."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TypeAlias

from PIL import Image, UnidentifiedImageError

from ravlm.data.data_urls import decode_data_url
from ravlm.data.images import ImageLimits, load_image
from ravlm.errors import BrokenData, InvalidInput
from ravlm.serving.settings import RequestLimits

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_LOSSY_FORMATS = ("JPEG", "WEBP", "AVIF")
_MAX_MODEL_EDGE = 2048
"""Longer edge in pixels of an image given to a model; no model here uses more."""
_DECODE_ERRORS = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
)
"""What Pillow raises for damaged files."""
FetchImage: TypeAlias = Callable[[str], bytes]


class ImageReader:
    """Reads the images of requests within `limits`.

    `fetch` downloads an http(s) address; None refuses addresses."""

    def __init__(self, limits: RequestLimits, fetch: FetchImage | None) -> None:
        self._limits = limits
        self._fetch = fetch
        self._image_limits = ImageLimits(limits.pixels, limits.image_bytes)

    def read_bytes(self, url: str) -> bytes:
        """Return the encoded image of a data URL or an address.

        Raises InvalidInput, BrokenData or NotFound."""
        url = url.strip()
        if url[:5].lower() != "data:":
            return self._download(url)
        num_characters = len(url) - url.find(",") - url.count("\n") - url.count("\r")
        self._check_size(num_characters * 3 // 4 - 3)
        return decode_data_url(url)

    def detect_format(self, data: bytes) -> str:
        """Return the format of an encoded image. Raises BrokenData if it must not be decoded."""
        self._check_size(len(data))
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return str(image.format)
        except Image.DecompressionBombError:
            raise BrokenData(
                f"The image has more than {self._limits.pixels:,} pixels; make it smaller."
            ) from None
        except _DECODE_ERRORS:
            formats = ", ".join(FORMATS)
            raise BrokenData(f"The image can't be read; allowed formats: {formats}.") from None

    def decode(self, data: bytes, edge: int | None = None) -> Image.Image:
        """Return the image upright in RGB.

        `edge` allows downscaling while decoding, as long as the shorter edge keeps that many
        pixels; None keeps the full size."""
        self.detect_format(data)
        return load_image(data, edge=edge, limits=self._image_limits)

    def decode_for_model(self, data: bytes) -> Image.Image:
        """Return the image, downscaled to the largest size that a model uses."""
        image = self.decode(data, _MAX_MODEL_EDGE // 2)
        image.thumbnail((_MAX_MODEL_EDGE, _MAX_MODEL_EDGE))
        return image

    def reencode(self, data: bytes) -> bytes:
        """Re-encode an upload (JPEG or PNG), which drops everything but the pixels."""
        lossy = self.detect_format(data) in _LOSSY_FORMATS
        image = load_image(data, limits=self._image_limits)
        return encode_image(image, "JPEG" if lossy else "PNG")

    def thumbnail(self, data: bytes, edge: int) -> bytes:
        """Return a stored image as a JPEG whose longer edge has at most `edge` pixels."""
        image = load_image(data, edge=edge, limits=ImageLimits())
        image.thumbnail((edge, edge))
        return encode_image(image, "JPEG", quality=88)

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


def encode_image(image: Image.Image, image_format: str, quality: int = 95) -> bytes:
    """Return the image as the bytes of a file, without comments and profiles."""
    buffer = io.BytesIO()
    plain_image = image.copy()
    plain_image.info.clear()
    options = {"quality": quality} if image_format == "JPEG" else {"compress_level": 6}
    plain_image.save(buffer, image_format, **options)
    return buffer.getvalue()


def data_url(image: Image.Image) -> str:
    """Return the image as a lossless data URL."""
    return f"data:image/png;base64,{base64.b64encode(encode_image(image, 'PNG')).decode('ascii')}"
