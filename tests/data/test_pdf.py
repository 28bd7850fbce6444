"""Pages of PDF files: text with boxes in reading order, images, and files that are damaged."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm.data import pdf
from ravlm.data.images import image_bytes, load_image
from ravlm.data.pdf import PdfReader, file_sha256, image_file, split_page_path
from ravlm.data.pdf_worker import rendered_size
from ravlm.errors import BrokenData, MissingExtra, NotFound
from ravlm.records import DocumentBytes, PdfPage
from tests.helpers.pdfs import (
    HELVETICA,
    PageContent,
    PdfWriter,
    make_pdf,
    page_of_lines,
    scan,
    text_at,
    unicode_font,
)

COLUMNS = "\n".join(
    text_at(x, 700 - 15 * row, f"{side} column, line {row} of its text")
    for row in range(8)
    for x, side in ((72, "left"), (320, "right"))
)


@pytest.fixture(scope="module")
def reader() -> Iterator[PdfReader]:
    with PdfReader() as reader:
        yield reader


class PageRegions:
    """Reads the regions of a page of a PDF in memory."""

    def __init__(self, reader: PdfReader) -> None:
        self.reader = reader

    def __call__(self, data: bytes, page: int = 1) -> list[tuple[str, str]]:
        text = self.reader.read_page(self.reader.file_of(DocumentBytes(data)), page)
        assert not text.error
        return [(region["kind"], region["text"]) for region in text.regions]

    def lines(self, data: bytes) -> list[str]:
        return [text for _, text in self(data) if text]


@pytest.fixture
def regions(reader: PdfReader) -> PageRegions:
    return PageRegions(reader)


def test_titles_paragraphs_and_lists_are_blocks(regions: PageRegions) -> None:
    content = "\n".join(
        [
            text_at(72, 780, "Annual report", 20),
            text_at(72, 740, "The turbine stands in Delft. It was built"),
            text_at(72, 725, "in 1998, and it turns slowly."),
            text_at(72, 690, "- oil the bearing"),
            text_at(72, 675, "- tighten the bolts"),
            text_at(300, 30, "3", 9),
        ]
    )
    assert regions(make_pdf([PageContent(content)])) == [
        ("title", "Annual report"),
        ("paragraph", ""),
        ("line", "The turbine stands in Delft. It was built"),
        ("line", "in 1998, and it turns slowly."),
        ("list", ""),
        ("line", "- oil the bearing"),
        ("line", "- tighten the bolts"),
        ("footer", "3"),
    ]


def test_boxes_are_those_of_the_rendered_page(reader: PdfReader) -> None:
    """The ink of each line is inside its box on the image of the page, rotated or cropped too."""
    content = text_at(72, 700, "HHHH HHHH", 30) + "\n" + text_at(72, 400, "XXX", 30)
    pages = [
        PageContent(content),
        PageContent(content, rotate=90),
        PageContent(content, rotate=180),
        PageContent(content, rotate=270),
        PageContent(content, keys="/CropBox [50 300 500 800]"),
    ]
    path = reader.file_of(DocumentBytes(make_pdf(pages)))
    for number in range(1, len(pages) + 1):
        image = reader.render(f"{path}#page={number}", edge=400).convert("L")
        ink = image.point(lambda value: 255 if value < 128 else 0)
        boxes = [region["box"] for region in reader.read_page(path, number).regions]
        assert len(boxes) == 2, number
        for left, top, right, bottom in boxes:
            area = (
                round(left * image.width) - 1,
                round(top * image.height) - 1,
                round(right * image.width) + 1,
                round(bottom * image.height) + 1,
            )
            assert ink.crop(area).getbbox() is not None
            ink.paste(0, area)
        assert ink.getbbox() is None, number


def test_columns_are_read_one_after_the_other(regions: PageRegions) -> None:
    """The file writes line by line across both columns."""
    title = text_at(140, 760, "A title that stands across both columns of the page", 16)
    lines = regions.lines(make_pdf([PageContent(f"{COLUMNS}\n{title}")]))
    expected = [
        f"{side} column, line {i} of its text" for side in ("left", "right") for i in range(8)
    ]
    assert lines == ["A title that stands across both columns of the page", *expected]


def test_tables_are_read_row_by_row(regions: PageRegions) -> None:
    cells = [("Name", "Price", "Year"), ("Apple", "1.20", "2020"), ("Pear", "2.35", "2021")]
    content = "\n".join(
        text_at(x, 600 - 16 * row, cell)
        for row, of_row in enumerate(cells)
        for x, cell in zip((72, 250, 400), of_row, strict=True)
    )
    caption = text_at(72, 640, "Table 2: Prices of fruit")
    assert regions(make_pdf([PageContent(f"{caption}\n{content}")])) == [
        ("caption", "Table 2: Prices of fruit"),
        ("table", ""),
        *(("line", cell) for row in cells for cell in row),
    ]


def test_a_figure_keeps_its_caption(regions: PageRegions, reader: PdfReader) -> None:
    content = "q 300 0 0 200 100 500 cm /Im1 Do Q\n" + text_at(110, 480, "Figure 1. A red barn.")
    page = PageContent(content, image=Image.new("RGB", (30, 20), "red"))
    data = make_pdf([page])
    assert regions(data) == [("figure", ""), ("line", "Figure 1. A red barn.")]
    (figure, _) = reader.read_page(reader.file_of(DocumentBytes(data)), 1).regions
    left, top, right, bottom = figure["box"]
    assert (left, right) == pytest.approx((100 / 595, 400 / 595), abs=0.01)
    assert top == pytest.approx(1 - 700 / 842, abs=0.01)
    assert bottom > 1 - 480 / 842


def test_words_divided_at_line_ends_keep_a_soft_hyphen(regions: PageRegions) -> None:
    """PDFium writes the hyphen as a control character, and the next line right behind it."""
    lines = regions.lines(make_pdf(["The word is hyphen-\nated at the end.\nNot at - this one"]))
    assert lines == ["The word is hyphen\u00ad", "ated at the end.", "Not at - this one"]


def test_chinese_and_right_to_left_text(regions: PageRegions) -> None:
    chinese = [
        text_at(72, 760 - 25 * i, t, 14, "F3") for i, t in enumerate(("北京的故宫", "建于1420年"))
    ]
    assert regions.lines(make_pdf([PageContent("\n".join(chinese))])) == [
        "北京的故宫",
        "建于1420年",
    ]
    beyond = {65: "𝑥", 66: "😀", 67: "fi"}  # two units of UTF-16, and two letters of one glyph
    page = PageContent(text_at(72, 700, "ABC C", font="F9"), fonts={"F9": unicode_font(beyond)})
    assert regions.lines(make_pdf([page])) == ["𝑥😀fi fi"]
    # two columns of Hebrew: the right one comes first; the glyphs stand from right to left
    alphabet = {code: chr(0x05D0 + code - 65) for code in range(65, 87)}
    rows = [
        text_at(x, 700 - 15 * row, f"{side}{'BCDEFGHI' * 3}", font="F9")
        for row in range(5)
        for x, side in ((72, "A"), (320, "V"))
    ]
    page = PageContent("\n".join(rows), fonts={"F9": unicode_font(alphabet)})
    lines = regions.lines(make_pdf([page]))
    assert len(lines) == 10
    right, left = chr(0x05D0 + 21), chr(0x05D0)
    assert [right in line for line in lines] == [True] * 5 + [False] * 5
    assert [left in line for line in lines] == [False] * 5 + [True] * 5


def test_text_turned_by_90_degrees_is_read_line_by_line(regions: PageRegions) -> None:
    upwards = "\n".join(
        f"BT /F1 12 Tf 0 1 -1 0 {100 + 20 * i} 100 Tm (upward line number {i}) Tj ET"
        for i in range(4)
    )
    assert regions.lines(make_pdf([PageContent(upwards)])) == [
        f"upward line number {i}" for i in range(4)
    ]
    downwards = "\n".join(
        f"BT /F1 12 Tf 0 -1 1 0 {400 - 20 * i} 700 Tm (downward line number {i}) Tj ET"
        for i in range(4)
    )
    assert regions.lines(make_pdf([PageContent(downwards)])) == [
        f"downward line number {i}" for i in range(4)
    ]


def test_text_of_fonts_without_unicode_is_not_trusted(reader: PdfReader) -> None:
    private = {code: chr(0xE000 + code) for code in range(65, 91)}
    page = PageContent(
        text_at(72, 700, "ABCDEFG HIJK", font="F9"), fonts={"F9": unicode_font(private)}
    )
    text = reader.read_page(reader.file_of(DocumentBytes(make_pdf([page, "plain text"]))), 1)
    assert [region["confidence"] for region in text.regions] == [0.2]
    text = reader.read_page(reader.file_of(DocumentBytes(make_pdf([page, "plain text"]))), 2)
    assert ["confidence" in region for region in text.regions] == [False]


def test_titles_and_bookmarks(reader: PdfReader) -> None:
    data = make_pdf(["a", "b", "c"], "Wind \\(2021\\)", [("Intro", 1), ("Use", 3), ("Care", 3)])
    summary = reader.summary(reader.file_of(DocumentBytes(data)))
    assert (summary.num_pages, summary.title) == (3, "Wind (2021)")
    assert [summary.section_of(page) for page in (1, 2, 3)] == ["Intro", "Intro", "Use"]


def test_page_images(tmp_path: Path, reader: PdfReader) -> None:
    path = tmp_path / "report #1.pdf"
    image = Image.new("RGB", (60, 80), (200, 30, 40))
    path.write_bytes(make_pdf(["text", scan(image)]))
    full = load_image(f"{path}#page=2")
    assert full.size == (1652, 2338)  # A4 at 200 dpi
    assert full.getpixel((800, 1200)) == (200, 30, 40)
    assert load_image(f"{path}#page=2", edge=100).size == (100, 142)
    assert image_bytes(PdfPage(DocumentBytes(path.read_bytes()), 2)).startswith(b"\x89PNG")
    with pytest.raises(BrokenData, match="has 2 pages, and no page 3"):
        load_image(f"{path}#page=3")
    with pytest.raises(BrokenData, match=r"name one: report.pdf#page=1"):
        load_image(path)
    with pytest.raises(NotFound, match="There is no file"):
        load_image(tmp_path / "none.pdf#page=1")


def test_page_paths(tmp_path: Path) -> None:
    assert split_page_path("a.pdf#page=12") == ("a.pdf", 12)
    assert split_page_path(Path("b/a.pdf#page=1")) == ("b/a.pdf", 1)
    for other in (
        "a.pdf",
        "a.pdf#page=0",
        "a.pdf#page=x",
        "http://x/a.pdf#page=1",
        b"a#page=1",
        None,
    ):
        assert split_page_path(other) is None
    odd = tmp_path / "photo#page=2"  # a file of this name is not a page
    odd.write_bytes(b"")
    assert image_file(str(odd)) == str(odd)
    assert image_file("a.pdf#page=3") == "a.pdf"
    (tmp_path / "a.pdf").write_bytes(b"one")
    first = file_sha256(str(tmp_path / "a.pdf"))
    (tmp_path / "a.pdf").write_bytes(b"two!")
    assert file_sha256(str(tmp_path / "a.pdf")) != first


def test_pages_are_rendered_by_one_process_which_ends_when_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page image started a process of its own: 0.3 s for a thumbnail."""
    shared = pdf._SharedReader()
    monkeypatch.setattr(pdf, "_SHARED", shared)
    (tmp_path / "a.pdf").write_bytes(make_pdf(["one", "two"]))
    pids = set()
    for page in (1, 2):
        load_image(f"{tmp_path}/a.pdf#page={page}", edge=32)
        assert shared._reader is not None
        assert shared._reader._process is not None
        pids.add(shared._reader._process.process.pid)
    assert len(pids) == 1
    monkeypatch.setattr(pdf, "_IDLE_SECONDS", 0.01)
    process = shared._reader._process.process
    load_image(f"{tmp_path}/a.pdf#page=1", edge=32)
    process.wait(timeout=60)
    load_image(f"{tmp_path}/a.pdf#page=2", edge=32)


def test_huge_pages_are_rendered_smaller(reader: PdfReader) -> None:
    """A page of 20,000 x 20,000 points has 3 billion pixels at 200 dpi."""
    huge = make_pdf([PageContent(text_at(72, 19000, "huge", 300), size=(20000, 20000))])
    assert reader.render(PdfPage(DocumentBytes(huge), 1)).size == (4000, 4000)
    assert rendered_size(20000, 10, 200, None)[0] * rendered_size(20000, 10, 200, None)[1] <= 16e6
    assert rendered_size(0, 0, 200, 224) == (224, 224)


def test_damaged_and_encrypted_files_say_so(reader: PdfReader, tmp_path: Path) -> None:
    whole = make_pdf(["one", "two"])
    encrypted = make_pdf(
        ["one"],
        trailer="/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <"
        + "ab" * 32
        + "> /U <"
        + "cd" * 32
        + "> >> /ID [<00> <00>]",
    )
    for data, words in {
        b"%PDF-1.7 nothing else": "damaged, or not a PDF",
        whole[:300]: "damaged",
        encrypted: "encrypted",
    }.items():
        path = tmp_path / "a.pdf"
        path.write_bytes(data)
        with pytest.raises(BrokenData, match=words):
            reader.summary(path)


class DyingProcess:
    """A child that dies of some pages, with what it was to read after them."""

    deadly: tuple[int, ...] = (2, 5, 6)

    def __init__(self, *arguments: str) -> None:
        self.alive = True
        self.waiting: list[int] = []

    def send(self, request: dict[str, Any]) -> None:
        self.waiting.append(request["page"])

    def receive(self, seconds: float) -> tuple[dict[str, Any], bytes] | None:
        page = self.waiting.pop(0)
        if page in self.deadly:
            self.alive = False
            return None
        return {"regions": [("line", f"page {page}", None, 1.0)], "blank": False}, b""

    def end(self) -> None:
        self.alive = False


def test_a_page_that_ends_the_process_costs_that_page_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A content stream that computes for hours stopped the whole job; its neighbors were lost."""
    monkeypatch.setattr(pdf, "ChildProcess", DyingProcess)
    (tmp_path / "a.pdf").touch()
    with PdfReader() as reader:
        texts = {text.number: text for text in reader.read_pages(tmp_path / "a.pdf", 8)}
    assert list(texts) == list(range(1, 9))
    assert [text.number for text in texts.values() if text.error] == [2, 5, 6]
    assert texts[2].error == "It takes too much time or memory to read."
    assert [text.regions[0]["text"] for text in texts.values() if not text.error] == [
        f"page {number}" for number in (1, 3, 4, 7, 8)
    ]
    monkeypatch.setattr(pdf, "_MAX_FAILURES", 2)
    with PdfReader() as reader:
        errors = [text.error for text in reader.read_pages(tmp_path / "a.pdf", 8)]
    assert [bool(error) for error in errors] == [False, True, False, False] + [True] * 4
    assert errors[7] == "2 pages before it took too much time."


def test_a_large_file_is_not_read_into_memory(tmp_path: Path, reader: PdfReader) -> None:
    path = tmp_path / "large.pdf"
    path.write_bytes(make_pdf(["first", "last"]))
    with open(path, "ab") as file:
        file.truncate(60_000_000)  # zeros after the end: PDFium looks for its table in them
    tracemalloc.start()
    assert reader.summary(path).num_pages == 2
    assert reader.read_page(path, 2).regions[0]["text"] == "last"
    path.write_bytes(b"%PDF-1.7\n")
    with open(path, "ab") as file:
        file.truncate(60_000_000)
    with pytest.raises(BrokenData, match="damaged, or not a PDF"):
        reader.summary(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_page_with_too_many_characters_is_left_out(reader: PdfReader) -> None:
    heavy = PageContent("BT /F1 1 Tf " + ("(" + "a" * 100 + ") Tj ") * 5100 + "ET")
    path = reader.file_of(DocumentBytes(make_pdf([heavy, "fine"])))
    assert "510,000 characters; at most 500,000" in reader.read_page(path, 1).error
    assert reader.read_page(path, 2).regions


def test_a_bomb_of_nested_objects_is_bounded(reader: PdfReader) -> None:
    writer = PdfWriter()
    tree = writer.add("")
    content = writer.add_stream(b"[" * 200_000)
    bomb = writer.add("[" * 50_000 + "]" * 50_000)
    page = writer.add(
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 100 100] /Contents {content} 0 R "
        f"/Annots {bomb} 0 R >>"
    )
    writer.objects[tree - 1] = f"<< /Type /Pages /Count 1 /Kids [{page} 0 R] >>".encode()
    root = writer.add(f"<< /Type /Catalog /Pages {tree} 0 R >>")
    path = reader.file_of(DocumentBytes(writer.to_bytes(root)))
    start = time.process_time()
    text = reader.read_page(path, 1)
    assert text.error or not text.regions
    assert time.process_time() - start < 20
    assert reader.read_page(reader.file_of(DocumentBytes(make_pdf(["fine"]))), 1).regions


def test_filled_fields_of_forms_are_text(reader: PdfReader) -> None:
    """The values of a form are no part of the page's content: only its labels were read."""
    writer = PdfWriter()
    tree, font = writer.add(""), writer.add(HELVETICA)
    fonts = f"/Resources << /Font << /F1 {font} 0 R >> >>"
    value = writer.add_stream(
        b"BT /F1 12 Tf 2 5 Td (Anna Berg) Tj ET",
        f"/Type /XObject /Subtype /Form /BBox [0 0 200 20] {fonts}",
    )
    field = writer.add(
        f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Anna Berg) /F 4 "
        f"/Rect [150 695 350 715] /AP << /N {value} 0 R >> >>"
    )
    content = writer.add_stream(text_at(72, 700, "Name:").encode())
    page = writer.add(
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 595 842] /Contents {content} 0 R "
        f"{fonts} /Annots [{field} 0 R] >>"
    )
    writer.objects[tree - 1] = f"<< /Type /Pages /Count 1 /Kids [{page} 0 R] >>".encode()
    form = f"/AcroForm << /Fields [{field} 0 R] >>"
    root = writer.add(f"<< /Type /Catalog /Pages {tree} 0 R {form} >>")
    document = DocumentBytes(writer.to_bytes(root))
    (line,) = reader.read_page(reader.file_of(document), 1).regions
    assert line["text"] == "Name: Anna Berg"
    image = reader.render(PdfPage(document, 1), edge=595).convert("L")
    assert image.crop((150, 842 - 715, 350, 842 - 695)).getextrema()[0] < 128


def test_scripts_and_embedded_files_are_not_touched(reader: PdfReader) -> None:
    catalog = "/OpenAction << /S /JavaScript /JS (app.alert(1); while(true){}) >>"
    data = make_pdf(["plain text"], catalog=catalog)
    path = reader.file_of(DocumentBytes(data))
    assert reader.summary(path).num_pages == 1
    assert [region["text"] for region in reader.read_page(path, 1).regions] == ["plain text"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "has_packages", lambda *names: False)
    with pytest.raises(MissingExtra, match=r"ravlm\[documents\]"):
        PdfReader()


def test_pages_read_ahead_do_not_answer_other_requests(reader: PdfReader) -> None:
    """Whoever stopped in the middle of a file got its next pages for those of another one."""
    path = reader.file_of(DocumentBytes(make_pdf([page_of_lines([f"page {i}"]) for i in range(9)])))
    for text in reader.read_pages(path, 9):
        assert text.regions[0]["text"] == "page 0"
        break
    assert reader.read_page(path, 7).regions[0]["text"] == "page 6"
