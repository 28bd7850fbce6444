"""Documents in folders, rows, tables and shards become an entry per page, section or slide."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ravlm import read_entries
from ravlm.data import office
from ravlm.data.formats import image_folder
from ravlm.data.office import split_sections
from ravlm.data.page_text import PageText
from ravlm.errors import InvalidInput
from ravlm.records import Entry, PdfPage
from tests.helpers.pdfs import PageContent, make_pdf, text_at


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two documents, one of them damaged inside, and an image."""
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    pages = ["Page one", "", "Page three", ""]
    (folder / "a.pdf").write_bytes(make_pdf(pages, "Report A", [("Intro", 1), ("End", 3)]))
    heading = text_at(72, 760, "Big heading", 20) + "\n" + text_at(72, 700, "the text of the body")
    (folder / "sub" / "b.PDF").write_bytes(make_pdf([PageContent(heading), "more"]))
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4 nothing else")
    (folder / "letter.pdf").write_text("no PDF at all")
    (folder / "empty.pdf").touch()
    Image.new("RGB", (4, 4), "red").save(folder / "red.png")
    return folder


def texts(entry: Entry) -> list[str]:
    return [region.text for region in entry.regions if region.text]


def test_a_folder_of_documents_and_images(folder: Path) -> None:
    stream = read_entries(folder)
    entries = {entry.id: entry for entry in stream}
    assert list(entries) == [
        "a.pdf#page=1",
        "a.pdf#page=3",
        "red.png",
        "sub/b.PDF#page=1",
        "sub/b.PDF#page=2",
    ]
    first, third, _, heading, more = entries.values()
    assert first.image == f"{folder}/a.pdf#page=1"
    assert texts(third) == ["Page three"]
    assert {region.page for region in third.regions} == {3}
    assert dict(first.metadata) == {
        "file": "a.pdf", "page": 1, "title": "Report A", "section": "Intro",
    }  # fmt: skip
    assert third.metadata["section"] == "End"
    assert heading.metadata["title"] == more.metadata["section"] == "Big heading"
    assert more.metadata["file"] == "sub/b.PDF"
    rejected = {item.location: item for item in stream.quarantine}
    assert rejected[f"{folder}/a.pdf"].reason == "Blank pages were left out: 2, 4."
    assert rejected[f"{folder}/a.pdf"].is_note
    for name in ("bad.pdf", "letter.pdf", "empty.pdf"):
        assert rejected[f"{folder}/{name}"].reason == "It is damaged, or not a PDF; write it again."
    assert list(stream) == list(entries.values())  # each iteration reads again


def test_a_file_and_a_list_of_sources(folder: Path) -> None:
    assert [entry.id for entry in read_entries(folder / "a.pdf")] == [
        "a.pdf#page=1",
        "a.pdf#page=3",
    ]
    several = read_entries([folder / "a.pdf", folder / "sub" / "b.PDF", folder / "a.pdf"])
    assert [entry.id for entry in several] == [
        "a.pdf#page=1", "a.pdf#page=3", "b.PDF#page=1", "b.PDF#page=2",
    ]  # fmt: skip
    assert sum("used before" in item.reason for item in several.quarantine) == 2
    for sources in ([], [folder, 3], 3):
        with pytest.raises(InvalidInput, match="or a list of them"):
            read_entries(sources)  # type: ignore[arg-type]


def test_rows_that_name_documents_and_pages(folder: Path) -> None:
    rows = [
        {"id": "A", "image": "a.pdf", "text": "about A", "year": 2020, "page": "odd"},
        {"image": "sub/b.PDF#page=2", "title": "My title"},
        {"id": "own", "image": "a.pdf#page=1", "regions": [{"text": "as given", "page": 1}]},
        {"image": "a.pdf#page=9"},
        {"image": "none.pdf"},
        {"image": "red.png"},
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    stream = read_entries(path)
    entries = {entry.id: entry for entry in stream}
    first, third, page, own, _ = entries.values()
    assert (first.id, third.id, page.id) == ("A#page=1", "A#page=3", "sub/b.PDF#page=2")
    assert (first.texts, third.texts) == (("about A",), ())
    assert (first.metadata["year"], first.metadata["page"]) == (2020, 1)
    assert (page.metadata["title"], page.metadata["page"], texts(page)) == ("My title", 2, ["more"])
    assert (own.metadata, texts(own)) == ({}, ["as given"])
    reasons = [item.reason for item in stream.quarantine if not item.is_note]
    assert reasons[0] == "It has 4 pages, and no page 9."
    assert "There is no image" in reasons[1]


def test_a_document_in_a_shard_or_a_table(folder: Path) -> None:
    data = (folder / "a.pdf").read_bytes()
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, content in {"1.pdf": data, "1.json": b'{"lang": "en"}', "2.txt": b"x"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    entries = list(read_entries(folder / "shard.tar"))
    assert [entry.id for entry in entries] == ["1#page=1", "1#page=3", "2"]
    assert isinstance(entries[1].image, PdfPage)
    assert entries[1].image.page == 3
    assert entries[0].image.document is entries[1].image.document  # type: ignore[union-attr]
    assert dict(entries[1].metadata) == {
        "lang": "en", "file": "1", "page": 3, "title": "Report A", "section": "End",
    }  # fmt: skip
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    rows = [{"id": "x", "image": data}, {"id": "y", "image": (folder / "red.png").read_bytes()}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet")
    assert [entry.id for entry in read_entries(folder / "rows.parquet")] == [
        "x#page=1", "x#page=3", "y",
    ]  # fmt: skip


DOCX = {
    "[Content_Types].xml": '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/'
    'package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxml'
    'formats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
    "_rels/.rels": '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/'
    'package/2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/'
    'officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
    "</Relationships>",
    "word/document.xml": '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats'
    '.org/wordprocessingml/2006/main"><w:body><w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr>'
    "<w:r><w:t>Care</w:t></w:r></w:p><w:p><w:r><w:t>Oil the bearing.</w:t></w:r></w:p></w:body>"
    "</w:document>",
}


def test_docx_and_html_files(tmp_path: Path) -> None:
    pytest.importorskip("markitdown", reason="markitdown is not installed")
    with zipfile.ZipFile(tmp_path / "manual.docx", "w") as archive:
        for name, content in DOCX.items():
            archive.writestr(name, content)
    (tmp_path / "page.html").write_text(
        "<html><body><p>First words.</p><h1>Use</h1><p>Turn it <a href='http://x.test/a'>on</a>.</p>"
        "<h2>Prices</h2><table><tr><th>Fruit</th><th>Price</th></tr>"
        "<tr><td>Pear</td><td>2.35</td></tr></table></body></html>"
    )
    (tmp_path / "bad.docx").write_bytes(b"PK\x03\x04 broken")
    stream = read_entries(tmp_path)
    entries = {entry.id: entry for entry in stream}
    sections = [f"page.html#section={number}" for number in (1, 2, 3)]
    assert list(entries) == ["manual.docx#section=1", *sections]
    manual, _, use, prices = entries.values()
    assert "Oil the bearing." in manual.text
    assert use.metadata["section"] == "Use"
    assert use.text == "# Use\n\nTurn it on."
    assert "| Pear | 2.35 |" in prices.text
    assert prices.metadata["title"] == "page"
    assert [Path(item.location).name for item in stream.quarantine] == ["bad.docx"]


def test_slides_are_entries() -> None:
    markdown = (
        "<!-- Slide number: 1 -->\n# Wind\n![a](b.jpg)\n\n<!-- Slide number: 3 -->\nSun [x](y)"
    )
    wind, sun = split_sections(markdown)
    assert (wind.slide, wind.title, wind.text) == (1, "Wind", "# Wind\na")
    assert (sun.number, sun.slide, sun.title, sun.text) == (2, 3, "", "Sun x")
    assert list(split_sections("  \n")) == []


def test_without_markitdown_files_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (office, image_folder):
        monkeypatch.setattr(module, "has_packages", lambda *names: False)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    (tmp_path / "page.html").write_text("<p>words</p>")
    stream = read_entries(tmp_path)
    assert [entry.id for entry in stream] == ["red.png"]
    (note,) = stream.quarantine
    assert note.is_note
    assert 'pip install "ravlm[office]"' in note.reason
    stream = read_entries(tmp_path / "page.html")
    assert list(stream) == []
    assert "ravlm[office]" in stream.quarantine[0].reason


def test_a_page_begins_in_the_last_section_of_the_page_before(tmp_path: Path) -> None:
    """A page had the section of its own first heading, also for the lines above that heading, and a
    page without headings the first one of the page before. Bold headings in a standard font, as
    large as the text, were not found: PDFium knows no weight of it."""

    def page(*lines: tuple[str, str]) -> PageContent:
        return PageContent(
            "\n".join(
                text_at(72, 740 - 24 * n, text, font=font) for n, (font, text) in enumerate(lines)
            )
        )

    body = ("F1", "the keeper oils the pump every year and writes it down.")
    pages = [
        page(("F2", "Pumps"), body, ("F2", "Valves"), body),
        page(body, body),
        page(body, ("F2", "Hoses"), body),
        page(body),
    ]
    (tmp_path / "manual.pdf").write_bytes(make_pdf(pages))
    entries = list(read_entries(tmp_path / "manual.pdf"))
    sections = [entry.metadata["section"] for entry in entries]
    assert sections == ["Pumps", "Valves", "Valves", "Hoses"]
    text = PageText.of(entries[2].regions)
    assert [block.section for block in text.blocks] == ["", "", "Hoses"]
