"""Near-duplicates: copies are left out with a reason; pages and letters that differ stay."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ravlm.errors import BrokenData
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.dedup import MAX_HASH_DISTANCE, has_structure, looks_same, perceptual_hash
from ravlm.records import Entry, ImageSource
from tests.helpers.fakes import FakeEncoder


class Constant(FakeEncoder):
    """An encoder for which all images are the same: only the comparison in detail decides."""

    image_size = 128

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        return np.tile(np.eye(1, self.dim, dtype=np.float32), (len(images), 1))


class Different(FakeEncoder):
    """An encoder for which no two images are similar."""

    image_size = 128

    def __init__(self) -> None:
        super().__init__()
        self.num_images = 0

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        first = self.num_images
        self.num_images += len(images)
        return np.eye(self.dim, dtype=np.float32)[first : self.num_images]


def words(seed: int, count: int) -> str:
    rng = random.Random(seed)
    return " ".join(
        "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 9)))
        for _ in range(count)
    )


def page(seed: int, num_lines: int = 30) -> Image.Image:
    """A letter: the same head, then lines of words of its own."""
    image = Image.new("RGB", (600, 800), "white")
    draw = ImageDraw.Draw(image)
    draw.text((60, 40), "Harbor Office", fill="black", font=ImageFont.load_default(28))
    for line in range(num_lines):
        text = words(1000 * seed + line, 8)
        draw.text((60, 110 + line * 20), text, fill="black", font=ImageFont.load_default(15))
    return image


def form(seed: int) -> Image.Image:
    """The same page of 30 lines, but for one line."""
    image = page(7)
    draw = ImageDraw.Draw(image)
    draw.rectangle((50, 268, 600, 292), fill="white")
    draw.text((60, 270), words(seed, 9), fill="black", font=ImageFont.load_default(15))
    return image


def glyph(character: str) -> Image.Image:
    image = Image.new("RGB", (300, 300), "white")
    font = ImageFont.load_default(170)
    ImageDraw.Draw(image).text((100, 50), character, fill="black", font=font)
    return image


def build(
    folder: Path, images: Sequence[Image.Image], encoder: FakeEncoder, **options: int
) -> KnowledgeBase:
    entries = []
    for number, image in enumerate(images):
        path = folder / f"{number:02}.{'jpg' if options else 'png'}"
        path.parent.mkdir(exist_ok=True)
        image.save(path, **options)
        entries.append(Entry(path.name, path))
    return KnowledgeBase.build(folder / "kb", entries, encoder, deduplicate="near")


SETS = {
    "letters": [page(seed) for seed in range(12)],
    "short letters": [page(seed, 3) for seed in range(12)],
    "forms": [form(seed) for seed in range(8)],
    "alphabet": [glyph(character) for character in "ABCDEFGHOQUVWX"],
    "colors": [Image.new("RGB", (64, 64), (200 + n, 40, 40)) for n in range(4)],
}


@pytest.mark.parametrize("name", SETS)
def test_images_with_little_structure_are_not_duplicates(name: str, tmp_path: Path) -> None:
    """34 of 46 different pages and letters were left out: 8 x 8 gradients of white are equal."""
    images = SETS[name]
    with build(tmp_path / name, images, Constant()) as base:
        assert base.report.duplicates == ()
        assert base.count() == len(images)


def test_the_hash_alone_would_have_left_out_letters() -> None:
    hashes = [np.frombuffer(perceptual_hash(page(seed, 3)), np.uint8) for seed in range(12)]
    distances = [np.bitwise_count(hashes[0][:8] ^ other[:8]).sum() for other in hashes[1:]]
    assert sum(distance <= MAX_HASH_DISTANCE for distance in distances) >= 8


@pytest.mark.parametrize("name", ["letters", "short letters", "alphabet"])
def test_copies_are_left_out_with_a_reason(name: str, tmp_path: Path) -> None:
    images = SETS[name][:4]
    copies = [image.resize((image.width // 2, image.height // 2)) for image in images]
    with build(tmp_path / "originals", images, Constant()) as base:
        entries = []
        for number, copy in enumerate(copies):
            path = tmp_path / f"copy{number}.jpg"
            copy.save(path, quality=60)
            entries.append(Entry(path.name, path))
        report = base.add([*entries, Entry("same file", tmp_path / "originals" / "00.png")],
                          deduplicate="near")  # fmt: skip
    pairs = {f"copy{number}.jpg": f"{number:02}.png" for number in range(4)}
    assert dict(report.duplicates) == pairs | {"same file": "00.png"}
    assert report.duplicate_reasons["copy1.jpg"] == "the images look the same, cosine 1.000"
    assert report.duplicate_reasons["same file"] == "the same image"


def test_encoder_must_agree(tmp_path: Path) -> None:
    image = page(1)
    with build(tmp_path / "a", [image, image.resize((450, 600))], Different()) as base:
        assert base.report.duplicates == ()
    with build(tmp_path / "b", [image, image.resize((450, 600))], Constant()) as base:
        assert base.report.duplicates == (("01.png", "00.png"),)


class Overflowing(Constant):
    """An encoder that refuses small images: their vectors would not be numbers."""

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        if any(isinstance(image, Image.Image) and image.width == 450 for image in images):
            raise BrokenData("The encoder returned NaN.")
        return super().encode_images(images)


def test_an_image_without_a_vector_stops_nothing(tmp_path: Path) -> None:
    """It was encoded to confirm that it is a duplicate, outside of what a bad item may fail in."""
    images = [page(1), page(1).resize((450, 600)), page(2)]
    with build(tmp_path / "a", images, Overflowing()) as base:
        assert base.report.added == 2
        (rejected,) = base.report.quarantined
        assert '"01.png"' in rejected.location


def test_image_that_is_gone_proves_nothing(tmp_path: Path) -> None:
    with build(tmp_path / "a", [page(1)], Constant()) as base:
        (tmp_path / "a" / "00.png").rename(tmp_path / "a" / "moved.png")
        page(1).save(tmp_path / "copy.jpg")
        report = base.add([Entry("copy", tmp_path / "copy.jpg")], deduplicate="near")
    assert (report.added, report.duplicates) == (1, ())


def test_colors_and_blanks() -> None:
    blank = Image.new("RGB", (300, 300), "white")
    assert not has_structure(blank)
    assert has_structure(page(3))
    red = page(3)
    swapped = Image.merge("RGB", red.split()[::-1])
    assert looks_same(red, swapped)  # black on white
    tinted = Image.merge("RGB", [red.getchannel(0), *(Image.new("L", red.size),) * 2])
    assert not looks_same(red, tinted)
