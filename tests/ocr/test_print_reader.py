"""Photos that are asked about are read when the mode says so, and once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from ravlm.errors import MissingExtra
from ravlm.ocr.base import OcrOptions, TextRecognizer
from ravlm.ocr.print_reader import PrintReader
from ravlm.regions import Region


class FakeRecognizer(TextRecognizer):
    name = fingerprint = "fake"

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        self.sizes += [image.size for image in images]
        return [[Region(f"{image.width} mm")] for image in images]


PHOTO, OTHER = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (4000, 2000), "blue")


def test_a_photo_is_read_once() -> None:
    recognizer = FakeRecognizer()
    reader = PrintReader(OcrOptions("auto", "fake"), lambda name: recognizer)
    assert reader.read(PHOTO) == reader.read(PHOTO.copy()) == (Region("64 mm"),)
    assert reader.read(OTHER) == (Region("1280 mm"),)  # reduced
    assert recognizer.sizes == [(64, 48), (1280, 640)]


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, "auto" reads nothing, and "always" says what is missing."""
    reader = PrintReader(OcrOptions("never", "fake"), lambda name: FakeRecognizer())
    assert reader.read(PHOTO) == ()
    assert not reader.is_available

    def load(name: str) -> TextRecognizer:
        raise MissingExtra(name, "ocr", "Recognizing text")

    monkeypatch.setattr("ravlm.ocr.print_reader.has_packages", lambda *names: False)
    assert PrintReader(OcrOptions("auto"), load).read(PHOTO) == ()
    always = PrintReader(OcrOptions("always"), load)
    assert always.reads_all
    with pytest.raises(MissingExtra, match="rapidocr"):
        always.read(PHOTO)
