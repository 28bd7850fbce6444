"""Load images: paths, bytes, PIL images, arrays and http(s) addresses become upright RGB.

This is the only module that opens images. Sizes are checked in the header, before anything is
decoded. Colors of an embedded profile are converted to sRGB, so that encoders see what people see.
No global setting of Pillow is changed; pillow-heif is registered with it if it is installed.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ravlm.data.addresses import show_address
from ravlm.data.decompression_bombs import find_bomb, find_slow_decoder
from ravlm.data.image_arrays import image_from_array, is_array
from ravlm.data.pdf import is_page, is_pdf, render_page
from ravlm.errors import BrokenData, InvalidInput, MissingExtra, NotFound
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
_HEIF_BRANDS = (
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
)  # fmt: skip
_GRAY_BITS = (8, 10, 12, 14, 16)
"""Usual depths of cameras and scanners, which write them into 16 bits without scaling."""
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
    max_slow_pixels: int = 16_000_000
    """The same for formats that Pillow decodes in Python (BMP with run lengths, QOI, plain PPM)."""
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
    """Decode `source` to a new, upright image; render it if it is a page (`report.pdf#page=3`).

    By default the result is RGB in the color space sRGB, with transparency over white and the first
    frame of an animation. With `mode="keep_alpha"`, an image with transparency becomes RGBA;
    `mode="original"` keeps the image's own mode (gray, palette ...) and color profile. 16-bit
    values are scaled from the smallest of 8, 10, 12, 14 and 16 bits that holds them; floats from
    0..1, 0..255 or else their own range. A PIL image is not modified, and its current frame is
    used.

    `edge`: the shorter side must keep at least this many pixels. A JPEG is then decoded at 1/2, 1/4
    or 1/8 of its size where that suffices, which is several times faster. Other formats, and
    `edge=None`, give the full size.

        load_image("cat.jpg").size      # (1600, 1200)

    Raises NotFound if the image does not exist, BrokenData, with the reason, if it can't be decoded
    or exceeds `limits`, and MissingExtra for HEIC without pillow-heif.
    """
    if edge is not None and edge < 1:
        raise InvalidInput(
            f"edge is {edge}; it must be at least 1 pixel, or None for the full size."
        )
    if is_array(source):
        source = image_from_array(source)
    if is_page(source):
        return render_page(source, edge)
    if isinstance(source, Image.Image):
        _check_pixels(source, "the PIL image", limits)
        return _decode(source, "the PIL image", mode)
    name = _display_name(source)
    with open_image(image_bytes(source, limits), name=name, limits=limits) as image:
        return _decode(image, name, mode, draft_edge=edge)


def open_image(
    data: bytes,
    formats: tuple[str, ...] | None = None,
    *,
    name: str = "The image",
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Image.Image:
    """Open an encoded image without decoding it: format, size and metadata are known.

    `formats` are the formats of Pillow that are allowed; None allows all. `name` names the image in
    errors. Raises BrokenData, with the reason, if it is no image or a decompression bomb, and
    MissingExtra for HEIC without pillow-heif.
    """
    if reason := find_bomb(data):
        raise BrokenData(
            f"{name} is not safe to decode: {reason}. Save it again in another format."
        )
    has_decoder = not is_heif(data) or register_heif()
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = str(error).rstrip(".")
        raise BrokenData(
            f"{name} has too many pixels to be safe: {reason}; make it smaller."
        ) from None
    except _DECODE_ERRORS:
        if is_pdf(data):
            raise BrokenData(
                f"{name} is a PDF, which has pages; name one: report.pdf#page=1."
            ) from None
        if not has_decoder:
            purpose = f"Reading {name}, a HEIC image,"
            raise MissingExtra("pillow-heif", "formats", purpose) from None
        if formats is not None:
            allowed = ", ".join(formats)
            raise BrokenData(f"{name} can't be read; allowed formats: {allowed}.") from None
        raise BrokenData(
            f"{name} is not an image: it has none of the formats that Pillow reads "
            f"(it begins with {bytes(data[:12])!r})."
        ) from None
    _check_pixels(image, name, limits)
    if reason := find_slow_decoder(image, data, limits.max_slow_pixels):
        raise BrokenData(f"{name} is not decoded: {reason}. Save it as PNG or JPEG.")
    return image


def is_heif(head: bytes) -> bool:
    """Return whether the first 12 bytes are those of a HEIC or HEIF image."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def register_heif() -> bool:
    """Register pillow-heif with Pillow. Return False if it is not installed."""
    if "HEIF" in Image.OPEN:
        return True
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def image_bytes(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Return the encoded image of a file or address; anything else becomes an RGB PNG.

    The content is not checked. Raises NotFound, or BrokenData if it is empty or too large.
    """
    if isinstance(source, Image.Image) or is_array(source) or is_page(source):
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
            "An image must be a path, an http(s) address, bytes, a PIL image or an array, "
            f"not {type(source).__name__}."
        )
    if not data:
        raise BrokenData(f"{_display_name(source)} is empty (0 bytes); copy the image again.")
    if len(data) > limits.max_bytes:
        size = f"{_display_name(source)} has {len(data):,} bytes"
        raise BrokenData(f"{size}; at most {limits.max_bytes:,} are read.")
    return data


def _check_pixels(image: Image.Image, name: str, limits: ImageLimits) -> None:
    if image.width * image.height > limits.max_pixels:
        size = f"{name} has {image.width:,} x {image.height:,} pixels"
        raise BrokenData(f"{size}; at most {limits.max_pixels:,} are decoded. Make it smaller.")


def _decode(
    image: Image.Image, name: str, mode: ColorMode, draft_edge: int | None = None
) -> Image.Image:
    """Decode an opened image. `draft_edge` lets a JPEG be decoded at a fraction of its size."""
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
            result = _to_rgb(_to_srgb(result), keep_alpha=mode == "keep_alpha")
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


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert the colors of an embedded profile to sRGB.

    A profile that is damaged or of another color space than the image is ignored, as viewers do.
    """
    data = image.info.get("icc_profile")
    if not data or image.mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "P", "PA", "CMYK"):
        return image
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        output_mode = "RGBA" if image.has_transparency_data else "RGB"
        if space == "RGB" and image.mode != "CMYK":
            image = image.convert(output_mode)
        elif space == "GRAY" and image.mode == "L" and output_mode == "RGB":
            pass
        elif space != "CMYK" or image.mode != "CMYK":
            return image
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode=output_mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError):
        return image
    assert converted is not None  # it is None only with inPlace
    converted.info.clear()
    return converted


def _to_rgb(image: Image.Image, keep_alpha: bool) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32)
        return _rgb_from_gray(values, 0, _white_of_bits(float(values.max())))
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float32)
        np.nan_to_num(values, copy=False, posinf=0, neginf=0)
        return _rgb_from_gray(values, *_value_range(values, image.mode))
    if image.mode == "LAB":
        return _rgb_from_lab(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[:-1] + "A")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if keep_alpha:
            return image
        composite = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return composite.convert("RGB")
    return image.convert("RGB")


def _value_range(values: np.ndarray, mode: str) -> tuple[float, float]:
    """Return the values of black and white: the smallest usual range that contains `values`."""
    low, high = float(values.min()), float(values.max())
    if mode == "I" and low >= 0 and high <= 65535:
        return 0, _white_of_bits(high)
    for white in () if mode == "I" else (1, 255):
        if low >= 0 and high <= white:
            return 0, white
    return low, high


def _white_of_bits(high: float) -> float:
    """Return the value of white for the usual depth that holds `high`, the largest value.

    12 bits in a 16-bit file would be nearly black if 65535 were white.
    """
    return next(2.0**bits - 1 for bits in _GRAY_BITS if high <= 2**bits - 1)


def _rgb_from_gray(values: np.ndarray, black: float, white: float) -> Image.Image:
    """Scale `values`, which are overwritten, so that black is 0 and white 255."""
    values -= black  # in place: an image of 40 million pixels has 160 MB as floats
    values *= 255 / max(white - black, 1e-12)
    np.clip(np.rint(values, out=values), 0, 255, out=values)
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _rgb_from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # it is None only with inPlace
    return converted


def _display_name(source: object) -> str:
    if isinstance(source, bytes | bytearray | memoryview):
        return "The image given as bytes"
    if is_address(source):
        return show_address(str(source))
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
    if scheme not in ("http", "https"):
        raise InvalidInput(
            f'{show_address(address)} has the scheme "{scheme}"; allowed: http, https, or a path.'
        )
    from ravlm.data.fetch import fetch_image

    return fetch_image(address, limits.max_bytes, limits.seconds)
