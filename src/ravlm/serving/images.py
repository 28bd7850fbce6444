"""Pictures of requests: from a data URL (or, where that is allowed, an address) to pixels, checked
on the way.

A client never names a path. Only common formats are opened, sizes are checked in the header, and
what is kept in a base is encoded anew, without what else the file held (EXIF and its place,
comments, trailing data)."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable

from PIL import Image, UnidentifiedImageError

from ravlm.data.images import ImageLimits, load_image
from ravlm.errors import BrokenData, InvalidInput
from ravlm.serving.settings import RequestLimits

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_LOSSY = ("JPEG", "WEBP", "AVIF")
_LONGEST = 2048
"""The longer edge that is kept of a picture to be looked at: more is seen by no model here."""
Fetch = Callable[[str], bytes]


class PictureReader:
    """Reads pictures under limits. `fetch` gets what lies at an address; None where that is not
    allowed."""

    def __init__(self, limits: RequestLimits, fetch: Fetch | None) -> None:
        self._limits, self._fetch = limits, fetch
        self._image_limits = ImageLimits(limits.pixels, limits.image_bytes)

    def bytes_of(self, url: str) -> bytes:
        """The encoded picture of a data URL or an address. Raises InvalidInput, BrokenData or
        NotFound."""
        if not url.startswith("data:"):
            if self._fetch is None or not url.startswith(("http://", "https://")):
                raise InvalidInput(
                    f"A picture is given as a data URL (data:image/jpeg;base64,...); this server "
                    f"{'takes' if self._fetch is None else 'reads'} no "
                    f"{'addresses and no ' if self._fetch is None else ''}paths."
                )
            return self._fetch(url)
        head, comma, data = url.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidInput(
                "The data URL of a picture is not in base64; write data:image/jpeg;base64,..."
            )
        self._check_size(len(data) * 3 // 4 - 2)
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(f"The data URL of a picture is damaged: {error}.") from None

    def checked(self, data: bytes) -> str:
        """The format of an encoded picture that may be decoded."""
        self._check_size(len(data))
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return str(image.format)
        except Image.DecompressionBombError:
            raise BrokenData(
                f"The picture has more than {self._limits.pixels:,} pixels; make it smaller."
            ) from None
        except (
            UnidentifiedImageError,
            OSError,
            ValueError,
            SyntaxError,
            TypeError,
            LookupError,
            ArithmeticError,
        ):
            allowed = ", ".join(FORMATS)
            raise BrokenData(f"The picture can't be read; allowed formats: {allowed}.") from None

    def pixels(self, data: bytes, edge: int | None = None) -> Image.Image:
        """The picture, upright in RGB. `edge`: how long its shorter side must stay; None keeps its
        full size."""
        self.checked(data)
        return load_image(data, edge=edge, limits=self._image_limits)

    def to_look_at(self, data: bytes) -> Image.Image:
        """The picture, no larger than a model looks at."""
        image = self.pixels(data, _LONGEST // 2)
        image.thumbnail((_LONGEST, _LONGEST))
        return image

    def to_keep(self, data: bytes) -> bytes:
        """An upload encoded anew: nothing of the file but what is seen."""
        lossy = self.checked(data) in _LOSSY
        return encoded(load_image(data, limits=self._image_limits), "JPEG" if lossy else "PNG")

    def shown(self, source: bytes, edge: int) -> bytes:
        """A stored picture as a JPEG to show, no larger than `edge`."""
        image = load_image(source, edge=edge, limits=ImageLimits())
        image.thumbnail((edge, edge))
        return encoded(image, "JPEG", 88)

    def _check_size(self, size: int) -> None:
        if size > self._limits.image_bytes:
            raise BrokenData(
                f"The picture has {size:,} bytes; at most {self._limits.image_bytes:,} are read."
            )


def encoded(image: Image.Image, form: str, quality: int = 95) -> bytes:
    """The picture as a file's bytes, without the comments and profiles that came with it."""
    buffer, plain = io.BytesIO(), image.copy()
    plain.info.clear()
    plain.save(buffer, form, **({"quality": quality} if form == "JPEG" else {"compress_level": 6}))
    return buffer.getvalue()


def data_url(image: Image.Image) -> str:
    """The picture as a data URL, without loss."""
    return f"data:image/png;base64,{base64.b64encode(encoded(image, 'PNG')).decode('ascii')}"
