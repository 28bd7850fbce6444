"""Bad pictures: each is refused in one sentence, at once, and nothing else is raised."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ravlm.data.images import ImageLimits, image_bytes, load_image
from ravlm.errors import BrokenData, InvalidInput, NotFound, RavlmError
from tests.data.test_images import FORMATS, encoded, photo

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning"
)


def test_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r'There is no image ".*nowhere\.jpg"'):
        load_image(tmp_path / "nowhere.jpg")
    with pytest.raises(NotFound):
        load_image(str(tmp_path / "nowhere.jpg" / "deeper.jpg"))
    with pytest.raises(RavlmError):
        load_image("a\x00b.jpg")
    with pytest.raises(RavlmError):
        load_image("long" * 2000)


def test_folders_and_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenData, match="is a folder or device; name an image"):
        load_image(tmp_path)
    if Path("/dev/zero").exists():
        with pytest.raises(BrokenData, match="is a folder or device"):
            load_image("/dev/zero")


def test_text_named_jpg(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("these are notes")
    with pytest.raises(BrokenData, match=r'notes\.jpg" is not an image.*these are'):
        load_image(path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(BrokenData, match=r"empty \(0 bytes\)"):
        load_image(tmp_path / "empty.png")
    with pytest.raises(BrokenData, match=r"bytes is empty \(0 bytes\)"):
        load_image(b"")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_file(format: str) -> None:
    data = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), format)
    with pytest.raises(BrokenData):
        load_image(data[: len(data) * 6 // 10])


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header gives a size, without pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + end
    )


def test_bomb_is_refused_by_its_header() -> None:
    """20,000 x 20,000 pixels would be 1.2 GB decoded; the header is refused at once."""
    with pytest.raises(BrokenData, match="400000000 pixels"):
        load_image(png_header(20_000, 20_000))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(BrokenData, match=r"9,000 x 9,900 pixels; at most 89,000,000"):
        load_image(png_header(9_000, 9_900))
    assert before == Image.MAX_IMAGE_PIXELS


def test_limits_can_be_set() -> None:
    data = encoded(photo(), "PNG")
    with pytest.raises(BrokenData, match=r"64 x 48 pixels; at most 3,000"):
        load_image(data, limits=ImageLimits(max_pixels=3000))
    with pytest.raises(BrokenData, match=r"64 x 48 pixels"):
        load_image(photo(), limits=ImageLimits(max_pixels=3000))
    with pytest.raises(BrokenData, match="at most 100 are read"):
        load_image(data, limits=ImageLimits(max_bytes=100))


def test_large_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(200_000_000)  # sparse: takes no room
    with pytest.raises(BrokenData, match="200,000,000 bytes; at most 100,000,000"):
        image_bytes(tmp_path / "large.jpg")


def test_postscript_is_refused() -> None:
    """Pillow would hand it to Ghostscript, an interpreter, if that is installed."""
    eps = encoded(photo(), "EPS")
    with pytest.raises(BrokenData, match="PostScript"):
        load_image(eps)


def test_other_types() -> None:
    with pytest.raises(InvalidInput, match="not dict"):
        load_image({"image": 1})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_pictures_raise_nothing_else(data: st.DataObject) -> None:
    """A truncated or modified file either decodes or raises a RavlmError."""
    content = bytearray(encoded(photo(64, 64), data.draw(st.sampled_from(FORMATS))))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(
            st.integers(0, 255)
        )
    content = content[: data.draw(st.integers(1, len(content)))]
    with suppress(RavlmError):
        assert load_image(bytes(content), limits=ImageLimits(max_pixels=1_000_000)).mode == "RGB"


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(content: bytes) -> None:
    with suppress(RavlmError):
        load_image(content, limits=ImageLimits(max_pixels=1_000_000))
