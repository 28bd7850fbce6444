"""Bases of PDF pages: stored, recognized, exported and imported."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import ravlm
from ravlm.data.scanned_pages import is_scanned_page
from ravlm.errors import InvalidInput, MissingExtra
from ravlm.knowledge import recognition
from ravlm.knowledge.images import portable_image
from ravlm.knowledge.recognition import merge_regions
from ravlm.ocr.base import TextRecognizer
from ravlm.records import DocumentBytes, Entry, PdfPage
from ravlm.regions import Region
from ravlm.retrieval.leakage import leaks
from tests.helpers.fakes import FakeEncoder
from tests.helpers.pdfs import make_pdf, page_of_lines, scan

LINES = ["The turbine in Delft was built in 1998.", "It is 40 meters high, and it turns slowly."]


class FakeRecognizer(TextRecognizer):
    """Reads the color of the pixel in the middle."""

    name = "fake"
    fingerprint = "fake 1"

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        self.sizes += [image.size for image in images]
        return [
            [Region(f"color {image.getpixel((image.width // 2, image.height // 2))}", (0, 0, 1, 1))]
            for image in images
        ]


@pytest.fixture
def recognizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRecognizer:
    fake = FakeRecognizer()
    monkeypatch.setattr(recognition, "load_recognizer", lambda engine: fake)
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path / "cache"))
    return fake


def photo(color: str) -> Image.Image:
    image = Image.new("RGB", (60, 80), color)
    ImageDraw.Draw(image).line((0, 0, 60, 80), fill="black")
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a PDF of a text page and a scan, and a photo."""
    folder = tmp_path / "files"
    folder.mkdir()
    pages = [page_of_lines(LINES), scan(Image.new("RGB", (60, 80), (10, 20, 30)))]
    (folder / "a.pdf").write_bytes(make_pdf(pages, title="Wind"))
    photo("red").save(folder / "b.png")
    return folder


def texts(entry: Entry) -> list[str]:
    return [region.text for region in entry.regions if region.text]


def test_scans_are_recognized_and_text_pages_and_photos_are_not(
    folder: Path, tmp_path: Path, recognizer: FakeRecognizer
) -> None:
    entries = ravlm.read_entries(folder)
    with ravlm.KnowledgeBase.build(tmp_path / "kb", entries, FakeEncoder()) as kb:
        first, second, image = kb.get(["a.pdf#page=1", "a.pdf#page=2", "b.png"])
        assert texts(first) == LINES
        assert texts(second) == ["color (10, 20, 30)"]
        assert [region.page for region in second.regions] == [2]
        assert texts(image) == []
        assert recognizer.sizes == [(1652, 2338)]  # A4 at 200 dpi
        assert kb.report.recognized == 1
        assert kb.report.added == 3
        assert second.metadata["file"] == "a.pdf"
        assert kb.search(text="color 10", k=1, options=ravlm.SearchOptions(method="keyword"))
        assert kb.verify().sound


def test_scans_in_image_files_are_recognized(tmp_path: Path, recognizer: FakeRecognizer) -> None:
    """A folder of scans in JPEG files was stored without a word of them."""
    (tmp_path / "scans").mkdir()
    paper = Image.new("RGB", (827, 1169), (250, 250, 240))
    paper.save(tmp_path / "scans" / "a4.jpg", dpi=(100, 100))
    paper.save(tmp_path / "scans" / "photo.jpg", dpi=(300, 300))  # 7 x 10 cm
    Image.new("1", (600, 900), 1).save(tmp_path / "scans" / "fax.tif")
    entries = ravlm.read_entries(tmp_path / "scans")
    with ravlm.KnowledgeBase.build(tmp_path / "kb", entries, FakeEncoder()) as kb:
        assert kb.report.recognized == 2
        assert [bool(texts(entry)) for entry in kb.get(["a4.jpg", "fax.tif", "photo.jpg"])] == [
            True,
            True,
            False,
        ]
        assert kb.add(ravlm.read_entries(tmp_path / "scans")).unchanged == 3


def test_scans_take_over_title_and_section_of_the_page_before(
    tmp_path: Path, recognizer: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans had the name of their file for a title, and never a section."""
    first = [Region("House rules", (0.1, 0.1, 0.9, 0.2), None, "title")]
    readings = iter([[first], [[Region("The door closes at ten.", (0.1, 0.1, 0.9, 0.2))]]])
    monkeypatch.setattr(recognizer, "recognize", lambda images: next(readings))
    monkeypatch.setattr(recognition, "BATCH_SIZE", 1)
    pages = [scan(Image.new("RGB", (60, 80), (gray, gray, gray))) for gray in (10, 20)]
    (tmp_path / "a.pdf").write_bytes(make_pdf(pages))

    def build() -> ravlm.KnowledgeBase:
        return ravlm.KnowledgeBase.build(
            tmp_path / "kb", ravlm.read_entries(tmp_path / "a.pdf"), FakeEncoder()
        )

    with build() as kb:
        kb.remove(["a.pdf#page=2"])
    with ravlm.KnowledgeBase.open(tmp_path / "kb", FakeEncoder()) as kb:
        report = kb.add(ravlm.read_entries(tmp_path / "a.pdf"))  # as after an interruption
        assert (report.unchanged, report.added) == (1, 1)
        (second,) = kb.get(["a.pdf#page=2"])
        assert (second.metadata["title"], second.metadata["section"]) == ("House rules",) * 2
        assert kb.search(
            text="closes",
            k=1,
            where={"section": "House rules"},
            options=ravlm.SearchOptions("keyword"),
        )


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((2480, 3508), {"dpi": (300, 300)}, True),  # A4
        ((3508, 2480), {"dpi": (300, 300)}, True),
        ((1700, 2200), {"dpi": (200, 200)}, True),  # Letter
        ((1728, 1082), {"dpi": (204, 98)}, False),
        ((4000, 3000), {"dpi": (300, 300)}, False),
        ((595, 842), {"dpi": (72, 72)}, False),  # a picture of that size may be anything
        ((2480, 3508), {}, False),
        ((83, 117), {"dpi": (100, 100)}, False),
    ],
)
def test_scans_are_told_by_their_size(
    size: tuple[int, int], options: dict[str, Any], expected: bool
) -> None:
    buffer = io.BytesIO()
    Image.new("L", size, 255).save(buffer, "PNG", **options)
    assert is_scanned_page(buffer.getvalue()) == expected
    assert not is_scanned_page(buffer.getvalue()[:40])


def test_always_reads_photos_and_pictures_on_pages(
    folder: Path, tmp_path: Path, recognizer: FakeRecognizer
) -> None:
    with ravlm.KnowledgeBase.build(
        tmp_path / "kb", ravlm.read_entries(folder), FakeEncoder(), ocr="always"
    ) as kb:
        assert kb.report.recognized == 3
        first, image = kb.get(["a.pdf#page=1", "b.png"])
        assert texts(image) == ["color (0, 0, 0)"]
        assert texts(first) == [*LINES, "color (255, 255, 255)"]
        # the same sources again: nothing is read, encoded or stored
        report = kb.add(ravlm.read_entries(folder), ocr="always")
        assert (report.unchanged, report.recognized, len(recognizer.sizes)) == (3, 0, 3)
        # without recognition they are other entries
        assert kb.add(ravlm.read_entries(folder), ocr="never").updated == 3
        assert texts(kb.get("b.png")[0]) == []
    # in another base, nothing is read either: the results are cached by content
    with ravlm.KnowledgeBase.build(
        tmp_path / "other", ravlm.read_entries(folder), FakeEncoder(), ocr="always"
    ) as other:
        assert other.report.recognized == 3
        assert len(recognizer.sizes) == 3
        assert texts(other.get("b.png")[0]) == ["color (0, 0, 0)"]


def test_missing_packages_are_noted_once_or_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: str) -> TextRecognizer:
        raise MissingExtra("rapidocr", "ocr", "Recognizing text")

    monkeypatch.setattr(recognition, "load_recognizer", fail)
    with ravlm.KnowledgeBase.build(
        tmp_path / "kb", ravlm.read_entries(folder), FakeEncoder()
    ) as kb:
        (note,) = [item for item in kb.quarantine if item.is_note]
        assert note.reason.startswith("One page has no text layer and was not read.")
        assert 'pip install "ravlm[ocr]"' in note.reason
        assert len(kb) == 3
        with pytest.raises(MissingExtra):
            kb.add(ravlm.read_entries(folder), ocr="always")
        with pytest.raises(MissingExtra):
            kb.add(ravlm.read_entries(folder), ocr=ravlm.OcrOptions("auto", "owner/model"))
        with pytest.raises(InvalidInput, match='Did you mean "always"'):
            kb.add(ravlm.read_entries(folder), ocr="alway")  # type: ignore[arg-type]


def test_pages_in_memory_are_stored_once_and_survive_export(
    folder: Path, tmp_path: Path, recognizer: FakeRecognizer
) -> None:
    data = (folder / "a.pdf").read_bytes()
    document = DocumentBytes(data)
    entries = [Entry("one", PdfPage(document, 1)), Entry("two", PdfPage(document, 2))]
    with ravlm.KnowledgeBase.build(tmp_path / "kb", entries, FakeEncoder()) as kb:
        files = list((tmp_path / "kb" / "pictures").rglob("*.pdf"))
        assert [path.read_bytes() for path in files] == [data]
        assert str(kb.get("two")[0].image) == f"{files[0]}#page=2"
        assert kb.verify().sound
        kb.export_to(tmp_path / "export")
        kb.export_to(tmp_path / "shards", form="webdataset")
        hits = kb.search(image=f"{files[0]}#page=2", k=2, modality="image")
        assert {hit.entry.id for hit in hits} == {"one", "two"}
        kb.remove(["one"])
        kb.compact()
        assert files[0].is_file()  # page 2 needs it
        kb.remove(["two"])
        kb.compact()
        assert not files[0].exists()
    assert len(list((tmp_path / "export").rglob("*.pdf"))) == 1
    for name in ("export", "shards"):
        with ravlm.KnowledgeBase.build(tmp_path / f"of-{name}", [], FakeEncoder()) as copy:
            assert copy.import_from(tmp_path / name).added == 2
            assert copy.verify().sound
            image = str(copy.get("two")[0].image)
            assert image.endswith(".pdf#page=2" if name == "export" else ".png")
            assert texts(copy.get("two")[0]) == ["color (10, 20, 30)"]


def test_entries_of_an_export_are_pages_as_they_were(folder: Path, tmp_path: Path) -> None:
    with ravlm.KnowledgeBase.build(
        tmp_path / "kb", ravlm.read_entries(folder), FakeEncoder(), ocr="never"
    ) as kb:
        kb.export_to(tmp_path / "export")
        expected = kb.get(["a.pdf#page=1", "a.pdf#page=2"])
    read = {entry.id: entry for entry in ravlm.read_entries(tmp_path / "export" / "entries.jsonl")}
    for entry in expected:
        assert replace(read[entry.id], image=entry.image) == entry


def test_pages_of_a_base_stay_pages_when_an_entry_is_changed(
    folder: Path, tmp_path: Path, recognizer: FakeRecognizer
) -> None:
    """An entry that was changed over HTTP had a rendered image instead of its page."""
    document = DocumentBytes((folder / "a.pdf").read_bytes())
    entries = [Entry("page", PdfPage(document, 2)), Entry("b", (folder / "b.png").read_bytes())]
    with ravlm.KnowledgeBase.build(tmp_path / "kb", entries, FakeEncoder()) as kb:
        page, image = kb.get(["page", "b"])
        portable = portable_image(page.image, tmp_path / "kb")
        assert portable == PdfPage(document, 2)
        assert portable_image(image.image, tmp_path / "kb") == (folder / "b.png").read_bytes()
        outside = f"{folder}/a.pdf#page=1"
        assert portable_image(outside, tmp_path / "kb") == outside
        kb.add(Entry("page", portable, metadata={"year": 2020}))
        changed = kb.get("page")[0]
        assert (changed.image, changed.metadata) == (page.image, {"year": 2020})
        assert kb.verify().sound
    assert leaks(Entry("other", PdfPage(document, 2)), Entry("page", PdfPage(document, 2)))
    assert not leaks(Entry("other", PdfPage(document, 1)), Entry("page", PdfPage(document, 2)))


def test_text_of_the_file_and_recognized_text_are_not_both_kept() -> None:
    long = Region("x" * 70, (0.1, 0.1, 0.9, 0.2), 1)
    same = Region("x" * 69, (0.1, 0.11, 0.9, 0.21), 1, confidence=0.9)
    label = Region("axis", (0.4, 0.5, 0.6, 0.55), 1, confidence=0.9)
    assert merge_regions([long], [same, label]) == (long, label)
    stamp = Region("page 3", (0.8, 0.9, 0.9, 0.95), 1)
    assert merge_regions([stamp], [same, replace(stamp, text="pago 3")]) == (same, stamp)
    block = Region("", stamp.box, 1, "paragraph")
    assert merge_regions([block, stamp], [block, stamp]) == (block, stamp)
    garbled = Region("y" * 70, (0.1, 0.1, 0.9, 0.2), 1, confidence=0.2)
    assert merge_regions([garbled], [same, label]) == (same, label)
    tile = Region("", (0, 0, 0.5, 0.5), None, "tile")
    assert merge_regions([tile], [label]) == (tile, label)
    assert merge_regions([garbled], []) == (garbled,)
