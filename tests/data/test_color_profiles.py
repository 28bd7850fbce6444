"""Colors reach encoders as people see them: embedded profiles, 16-bit gray of few bits, HEIC."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ravlm import read_entries
from ravlm.data import images
from ravlm.data.images import load_image
from ravlm.errors import MissingExtra
from ravlm.serving.images import ImageReader
from ravlm.serving.settings import RequestLimits

# Columns: the primaries of Adobe RGB (1998) in XYZ, adapted to D50.
WIDE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def profile(primaries: tuple[tuple[float, float, float], ...], gamma: float = 2.2) -> bytes:
    """Return an ICC profile (version 2.1) with three primaries and one gamma."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    name = b"Wide test profile\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(*primaries[0]),
        b"gXYZ": xyz(*primaries[1]),
        b"bXYZ": xyz(*primaries[2]),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += key + struct.pack(">II", offset + len(body), len(value))
        body += padded
    size = offset + len(body)
    header = struct.pack(">I4s4s4s4s4s", size, b"none", b"\2\x10\0\0", b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:]
    return header.ljust(128, b"\0") + table + body


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def srgb_of_wide(*color: int) -> np.ndarray:
    """Convert by the formulas: gamma, primaries, inverse matrix and curve of sRGB."""
    linear = (np.array(color) / 255) ** 2.2
    xyz = np.array(WIDE).T @ linear
    to_rgb = np.array([
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ])  # fmt: skip
    rgb = np.clip(to_rgb @ xyz, 0, 1)
    curve = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return curve * 255


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_wide_gamut_is_converted(kind: str) -> None:
    """A wide-gamut photo was encoded as if its numbers were sRGB: pale for the encoder."""
    color = (90, 160, 60)
    options: dict[str, object] = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    image = Image.new("RGB", (16, 16), color)
    data = encoded(image, kind, icc_profile=profile(WIDE), **options)
    expected = srgb_of_wide(*color)
    assert np.abs(expected - color).max() > 20
    assert np.abs(np.array(load_image(data).getpixel((8, 8))) - expected).max() <= 3
    assert "icc_profile" not in load_image(data).info
    opened = Image.open(io.BytesIO(data))
    assert load_image(opened).getpixel((8, 8)) == load_image(data).getpixel((8, 8))
    assert load_image(data, mode="original").info["icc_profile"] == profile(WIDE)


def test_upload_is_stored_in_srgb() -> None:
    """The server dropped the profile of an upload and kept its numbers: other colors for good."""
    data = encoded(Image.new("RGB", (16, 16), (90, 160, 60)), icc_profile=profile(WIDE))
    stored = Image.open(io.BytesIO(ImageReader(RequestLimits(), None).reencode(data)))
    assert "icc_profile" not in stored.info
    pixel = np.array(stored.convert("RGB").getpixel((8, 8)))
    assert np.abs(pixel - srgb_of_wide(90, 160, 60)).max() <= 3


def test_transparency_and_palettes_with_a_profile() -> None:
    expected = srgb_of_wide(90, 160, 60)
    half = Image.new("RGBA", (8, 8), (90, 160, 60, 255))
    half.paste((0, 0, 0, 0), (0, 0, 4, 8))
    image = load_image(encoded(half, icc_profile=profile(WIDE)), mode="keep_alpha")
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0
    assert np.abs(np.array(image.getpixel((7, 7))[:3]) - expected).max() <= 3
    flat = load_image(encoded(half, icc_profile=profile(WIDE)))
    assert flat.getpixel((0, 0)) == (255, 255, 255)
    palette = half.convert("RGB").quantize(4)
    image = load_image(encoded(palette, icc_profile=profile(WIDE)))
    assert np.abs(np.array(image.getpixel((7, 7))) - expected).max() <= 3


def test_srgb_and_damaged_profiles_change_nothing() -> None:
    image = Image.new("RGB", (4, 4), (90, 160, 60))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gray = Image.new("L", (4, 4), 77)
    assert load_image(encoded(image, icc_profile=srgb)).getpixel((0, 0)) == (90, 160, 60)
    assert load_image(encoded(image, icc_profile=b"damaged")).getpixel((0, 0)) == (90, 160, 60)
    assert load_image(encoded(gray, icc_profile=srgb)).getpixel((0, 0)) == (77, 77, 77)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_gray_of_few_bits_is_not_black(bits: int) -> None:
    """A 12-bit X-ray in a 16-bit file was nearly black: its white was 15 of 255."""
    white = 2**bits - 1
    values = np.array([[0, white // 2, white]], np.uint16)
    image = load_image(encoded(Image.fromarray(values)))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == pytest.approx([0, 127, 255], abs=1)


def test_heic_photo(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    for name, color in (("IMG_1.HEIC", (200, 30, 40)), ("two.heif", (30, 40, 200))):
        heif = pillow_heif.from_pillow(Image.new("RGB", (64, 48), color))
        heif.save(tmp_path / name, quality=95)
    entries = list(read_entries(tmp_path))
    assert [entry.id for entry in entries] == ["IMG_1.HEIC", "two.heif"]
    red, blue = (load_image(entry.image) for entry in entries)  # type: ignore[arg-type]
    assert red.size == (64, 48)
    assert np.abs(np.array(red.getpixel((30, 20))) - (200, 30, 40)).max() < 8
    assert np.abs(np.array(blue.getpixel((30, 20))) - (30, 40, 200)).max() < 8


def test_heic_without_the_plug_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos of phones were passed over without a word."""
    monkeypatch.setattr(images, "register_heif", lambda: False)
    data = b"\0\0\0\x18ftypheic" + bytes(80)
    with pytest.raises(MissingExtra, match=r'HEIC image, needs.*pip install "ravlm\[formats\]"'):
        load_image(data)
