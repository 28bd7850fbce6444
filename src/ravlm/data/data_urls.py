"""Data URLs of images: `data:image/png;base64,...`, as clients write them.

Base64 may have line ends, lack its padding, be percent-encoded or use the alphabet of URLs."""

from __future__ import annotations

import base64
import binascii
import re

from ravlm.errors import InvalidInput

_BASE64_URL = re.compile(r"data:[^,\s]{0,200};base64\s*,", re.IGNORECASE)
_IMAGE_URL = re.compile(r"data:image/[\w.+-]+[;,]", re.IGNORECASE)
_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\f\v"
_ESCAPES = {"%2B": "+", "%2F": "/", "%3D": "=", "%20": "", "%0A": "", "%0D": "", "%09": ""}
"""Percent escapes of the characters of base64 that URLs escape. Others are not decoded: that takes
seconds for a long URL."""


def is_data_url(text: str) -> bool:
    """Return whether a text is a data URL, in base64 or of an image, rather than words.

    >>> is_data_url("data:image/png;base64,iVBORw0K"), is_data_url("data: the new oil")
    (True, False)
    """
    start = text.lstrip()[:300]
    return any(pattern.match(start) for pattern in (_BASE64_URL, _IMAGE_URL))


def decode_data_url(url: str) -> bytes:
    """Return the content of a data URL. Raises InvalidInput if it is not base64, or damaged."""
    url = url.strip()
    header = _BASE64_URL.match(url)
    if header is None:
        raise InvalidInput(
            "The data URL of the image is not base64; write data:image/jpeg;base64,..."
        )
    data = url[header.end() :]
    if "%" in data:
        for escape, character in _ESCAPES.items():
            data = data.replace(escape, character).replace(escape.lower(), character)
    try:
        encoded = data.encode("ascii").translate(_URL_ALPHABET, _WHITESPACE).rstrip(b"=")
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            f"The data URL of the image is damaged: no valid base64 ({_reason(error)})."
        ) from None


def _reason(error: ValueError) -> str:
    is_text = isinstance(error, UnicodeEncodeError)
    return "it has characters beyond ASCII" if is_text else str(error)
