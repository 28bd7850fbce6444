"""Recognizers by name, what they read, and the cache of their results."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ravlm.errors import InvalidInput, MissingExtra, NotFound
from ravlm.ocr import rapidocr
from ravlm.ocr.auto import load_recognizer
from ravlm.ocr.base import OcrOptions
from ravlm.ocr.cache import RecognitionCache
from ravlm.ocr.ink import measure_ink
from ravlm.ocr.rapidocr import _enlarged, _padded, _words
from ravlm.regions import Region


def receipt() -> Image.Image:
    image = Image.new("RGB", (320, 320), "white")
    font = ImageFont.load_default(30)
    draw = ImageDraw.Draw(image)
    for row, text in enumerate(("Total: 12.50", "Date 2021-03-04")):
        draw.text((20, 100 + 60 * row), text, fill="black", font=font)
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((6, 1500), (187, 1500)),
        ((3840, 3), (3840, 76)),
        ((100, 800), (100, 800)),
        ((1000, 20), (1000, 20)),
    ],
)
def test_narrow_images_are_padded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """A strip of 2 x 500 pixels occupied the server for minutes; one of 9,000 x 9 was an error."""
    padded = _padded(Image.new("RGB", size, "red"))
    assert padded.size == expected
    assert padded.getpixel((size[0] - 1, size[1] - 1)) == (255, 0, 0)
    if padded.size != size:
        assert padded.getpixel((expected[0] - 1, expected[1] - 1)) == (255, 255, 255)


def test_rapidocr_reads_lines_with_boxes() -> None:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    image = receipt()
    blank = Image.new("L", (64, 64), 128)
    recognizer = load_recognizer()
    assert load_recognizer() is recognizer  # its networks are loaded once
    lines, nothing = recognizer.recognize([image, blank])
    assert nothing == []
    texts = [region for region in lines if region.text]
    assert [region.text for region in texts] == ["Total: 12.50", "Date 2021-03-04"]
    assert all(region.confidence > 0.8 for region in texts)
    ink = Image.eval(image.convert("L"), lambda value: 255 if value < 128 else 0)
    expected = ink.crop((0, 80, 320, 150)).getbbox()
    assert expected is not None
    left, top, right, bottom = texts[0].box or (0, 0, 0, 0)
    assert left * 320 == pytest.approx(expected[0], abs=12)
    assert right * 320 == pytest.approx(expected[2], abs=12)
    assert top * 320 < 80 + expected[1] + 4
    assert bottom * 320 > 80 + expected[3] - 4


@pytest.mark.parametrize("degrees", [0, 180])
def test_lines_that_are_turned_by_mistake_are_read_again(
    degrees: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the lines of a scan, one in twenty was read upside down: "dat  n    n  c     ma."."""
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    recognizer = rapidocr.RapidOcrRecognizer(threads=1)
    monkeypatch.setattr(recognizer, "_are_turned", lambda crops: [True, False])
    (regions,) = recognizer.recognize([receipt().rotate(degrees)])
    assert {region.text for region in regions if region.text} == {"Total: 12.50", "Date 2021-03-04"}


def test_small_photos_are_enlarged_and_large_ones_are_not() -> None:
    assert _enlarged(Image.new("RGB", (224, 300))).size == (640, 857)
    assert _enlarged(Image.new("L", (100, 100))).size == (300, 300)
    assert _enlarged(Image.new("RGB", (2000, 700))).size == (2000, 700)


def test_ink_of_a_line() -> None:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    for dark, light in ((0, 255), (230, 20)):  # dark on light, and light on dark
        crop = np.full((40, 200, 3), light, np.uint8)
        crop[10:34, 20:200:20] = crop[10:34, 21:200:20] = crop[10:34, 22:200:20] = dark
        crop[:4, 60:70] = dark  # of the line above
        ink = measure_ink(crop)
        assert ink is not None
        assert ink[:4] == pytest.approx((20 / 200, 10 / 40, 183 / 200, 34 / 40))
        assert ink.stroke_width == pytest.approx(3, rel=0.15)
    assert measure_ink(np.full((40, 200, 3), 255, np.uint8)) is None


class LineDetails:
    """What the recognizer says of "ab cd" on ten columns."""

    word_cols = ([1, 2], [6, 7])
    line_txt_len = 10.0
    confs = (0.9, 0.7, 0.99, 0.5, 0.3)


def test_words_have_their_own_confidence_and_place() -> None:
    """RapidOCR gives words the confidence of characters: the second word that of the second."""
    first, second = _words("ab cd", LineDetails())
    assert (first.text, first.confidence) == ("ab", pytest.approx(0.8))
    assert (second.text, second.confidence) == ("cd", pytest.approx(0.4))
    assert (first.start, first.end) == pytest.approx((0.05, 0.35))
    assert (second.start, second.end) == pytest.approx((0.55, 0.85))
    assert _words("abcdef", LineDetails()) == ()  # the details are of another text


def test_names_and_modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert OcrOptions.of("never") == OcrOptions("never", "rapidocr")
    with pytest.raises(InvalidInput, match='Did you mean "always"'):
        OcrOptions.of("allways")  # type: ignore[arg-type]
    monkeypatch.setattr(rapidocr, "has_packages", lambda *names: False)
    monkeypatch.setattr("ravlm.ocr.auto._IN_USE", {})  # another test may hold the engine
    with pytest.raises(MissingExtra, match=r"ravlm\[ocr\]"):
        load_recognizer()
    pytest.importorskip("transformers", reason="transformers is not installed")
    with pytest.raises(NotFound, match='Give "rapidocr", or a folder of a model'):
        load_recognizer(str(tmp_path))


def test_results_are_cached_by_content(tmp_path: Path) -> None:
    cache = RecognitionCache("engine 1", tmp_path)
    assert cache.get(["a"]) == {}
    regions = [Region("Größe 建", (0.1, 0.2, 0.3, 0.4), None, "title", 0.9), Region("x", None)]
    cache.put({"a": regions, "b": []})
    assert cache.get(["a", "b", "c"]) == {"a": regions, "b": []}
    assert RecognitionCache("engine 2", tmp_path).get(["a"]) == {}
    many = {f"h{number}": [Region(str(number))] for number in range(1200)}
    cache.put(many)
    assert cache.get(list(many)) == many


def test_a_damaged_cache_is_no_error(tmp_path: Path) -> None:
    cache = RecognitionCache("engine 1", tmp_path)
    cache.put({"a": [Region("x")]})
    with sqlite3.connect(cache.path) as db:
        db.execute("UPDATE result SET regions = '[{\"box\": 3}]'")
    assert cache.get(["a"]) == {}
    cache.path.write_bytes(b"no database" * 100)
    assert cache.get(["a"]) == {}
    cache.put({"a": []})
    nowhere = RecognitionCache("engine 1", tmp_path / "file" / "below")
    (tmp_path / "file").write_bytes(np.zeros(3).tobytes())
    nowhere.put({"a": []})
    assert nowhere.get(["a"]) == {}
