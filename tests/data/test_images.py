"""Pictures of every kind to upright RGB, and bad ones to one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.data.images import image_bytes, load_image
from ravlm.errors import InvalidInput

FORMATS = (
    "AVIF", "BMP", "DDS", "GIF", "ICO", "ICNS", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI",
    "TGA", "TIFF", "WEBP",
)  # fmt: skip
MODES = (
    "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB",
    "I", "F", "I;16", "I;16B",
)  # fmt: skip


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """Red in the upper left quarter, blue elsewhere."""
    image = Image.new("RGB", (width, height), (20, 40, 220))
    image.paste((230, 20, 20), (0, 0, width // 2, height // 2))
    return image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def is_red(image: Image.Image, x: int, y: int) -> bool:
    red, green, blue = image.getpixel((x, y))  # type: ignore[misc]
    return red > 150 and green < 100 and blue < 100


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format: str, tmp_path: Path) -> None:
    picture = photo(64, 64) if format in ("ICNS", "ICO") else photo()
    path = tmp_path / "PHOTO.Any"  # the suffix says nothing
    path.write_bytes(encoded(picture, format))
    for source in (path, str(path), path.read_bytes()):
        image = load_image(source)
        assert image.mode == "RGB"
        assert image.width >= 64
        assert is_red(image, 5, 5)
        assert not is_red(image, image.width - 5, image.height - 5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(format: str, orientation: int) -> None:
    """A phone stores the sensor's rows and a tag; ignoring the tag turns portraits sideways."""
    stored = photo()
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose that undoes what the tag asks for
    if orientation in back:
        stored = stored.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encoded(stored, format, exif=exif))
    assert image.size == (64, 48)
    assert is_red(image, 5, 5)
    assert not any(is_red(image, x, y) for x, y in ((60, 5), (5, 44), (60, 44)))
    assert load_image(image).tobytes() == image.tobytes()  # read again, it was turned once more


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f damaged")
    assert is_red(load_image(data), 5, 5)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (5, 3))
    result = load_image(image)
    assert (result.mode, result.size) == ("RGB", (5, 3))
    assert result is not image


def test_colors_survive_cmyk_and_palette() -> None:
    for picture in (
        encoded(photo().convert("CMYK"), "JPEG"),
        encoded(photo().convert("CMYK"), "TIFF"),
        encoded(photo().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        encoded(photo(), "GIF"),
    ):
        image = load_image(picture)
        assert is_red(image, 5, 5)
        assert image.getpixel((60, 40))[2] > 150


def test_lab() -> None:
    lab = Image.new("LAB", (4, 4), (255, 128, 128))  # L = 100 %, no color
    assert min(load_image(lab).getpixel((0, 0))) > 240


def test_transparency_becomes_white() -> None:
    """Product images with an alpha channel came out on black."""
    rgba = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    rgba.paste((255, 0, 0, 255), (0, 0, 4, 4))
    rgba.paste((0, 0, 0, 128), (4, 4, 8, 8))
    image = load_image(encoded(rgba, "PNG"))
    assert image.getpixel((7, 0)) == (255, 255, 255)
    assert image.getpixel((0, 0)) == (255, 0, 0)
    assert abs(image.getpixel((7, 7))[0] - 127) <= 2

    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9, 255, 0, 0])
    palette.putpixel((0, 0), 1)
    image = load_image(encoded(palette, "PNG", transparency=0))
    assert image.getpixel((3, 3)) == (255, 255, 255)
    assert image.getpixel((0, 0)) == (255, 0, 0)

    gray = Image.new("LA", (2, 2), (10, 0))
    assert load_image(encoded(gray, "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled() -> None:
    """Pillow's own conversion clips at 255: a 16-bit image became white."""
    values = np.array([[0, 32896, 65535]], np.uint16)
    for data in (encoded(Image.fromarray(values), "PNG"), encoded(Image.fromarray(values), "TIFF")):
        assert [load_image(data).getpixel((x, 0)) for x in range(3)] == [
            (0, 0, 0),
            (128, 128, 128),
            (255, 255, 255),
        ]
    pgm = b"P5 3 1 65535\n" + values.astype(">u2").tobytes()
    assert load_image(pgm).getpixel((1, 0)) == (128, 128, 128)


def test_floats_and_wide_integers_are_scaled() -> None:
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], np.float32))
    assert [load_image(unit).getpixel((x, 0))[0] for x in range(4)] == [0, 128, 255, 0]
    bytes_like = Image.fromarray(np.array([[0.0, 100.0, 200.0]], np.float32))
    assert [load_image(bytes_like).getpixel((x, 0))[0] for x in range(3)] == [0, 100, 200]
    wide = Image.fromarray(np.array([[-1000, 0, 1000]], np.int32))
    assert [load_image(wide).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ((255, 0, 0), (0, 0, 255))]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert is_red(load_image(data), 8, 8)


def test_pil_image_is_left_as_it_was() -> None:
    image = Image.open(io.BytesIO(encoded(photo(1600, 1200), "JPEG")))
    assert load_image(image, edge=100).size == (1600, 1200)
    assert image.size == (1600, 1200)
    rgb = photo()
    copy = load_image(rgb)
    copy.putpixel((0, 0), (0, 0, 0))
    assert rgb.getpixel((0, 0)) == (230, 20, 20)


def test_edge_keeps_the_shorter_side_and_the_content() -> None:
    for size in ((1600, 1200), (1200, 1600), (1601, 803)):
        data = encoded(photo(*size), "JPEG")
        small = load_image(data, edge=224)
        assert 224 <= min(small.size) < min(size)
        full = np.asarray(load_image(data).resize((32, 32), Image.Resampling.BOX), float)
        assert (
            np.abs(full - np.asarray(small.resize((32, 32), Image.Resampling.BOX), float)).mean()
            < 3
        )
    assert load_image(encoded(photo(300, 230), "JPEG"), edge=224).size == (300, 230)
    with pytest.raises(InvalidInput, match="edge is 0"):
        load_image(data, edge=0)


def test_edge_with_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = load_image(encoded(photo(1600, 1200), "JPEG", exif=exif), edge=224)
    assert image.size == (300, 400)
    assert is_red(image, 295, 5)


def test_small_edge_of_a_large_jpeg_is_decoded_at_a_fraction() -> None:
    """For 224 pixels a JPEG of 4000 x 3000 is decoded at 1/8: 22 ms instead of 88."""
    data = encoded(Image.new("RGB", (4000, 3000), "red"), "JPEG", quality=88)
    assert load_image(data, edge=224).size == (500, 375)
    assert load_image(data, edge=1000).size == (2000, 1500)
    assert load_image(data).size == (4000, 3000)


def test_image_bytes(tmp_path: Path) -> None:
    data = encoded(photo(), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    assert image_bytes(tmp_path / "a.jpg") == image_bytes(data) == data
    again = load_image(image_bytes(photo()))
    assert again.tobytes() == photo().tobytes()
