"""What a folder of images has besides: texts, metadata, links, and files that are not read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from ravlm import read_entries
from ravlm.data.formats import image_folder
from ravlm.data.readers import EntryStream
from ravlm.errors import NotFound


def picture(path: Path, color: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path, path.suffix[1:].replace("JPG", "JPEG").lower())
    return path


def rejected(stream: EntryStream) -> dict[str, str]:
    items = [item for item in stream.quarantine if not item.is_note]
    return {Path(item.location).name: item.reason for item in items}


def notes(stream: EntryStream) -> list[str]:
    return [item.reason for item in stream.quarantine if item.is_note]


def test_text_files_in_any_case(tmp_path: Path) -> None:
    """Cameras and Windows write DSC_7.JPG and DSC_7.TXT: the texts were not read."""
    picture(tmp_path / "DSC_7.png")
    (tmp_path / "DSC_7.TXT").write_text("a pier\r\nein Steg\n\n", newline="")
    picture(tmp_path / "two.png")
    (tmp_path / "two.caption").write_text("one\u2028still one\x0bone\nsecond", encoding="utf-8")
    stream = read_entries(tmp_path)
    assert [entry.texts for entry in stream] == [
        ("a pier", "ein Steg"),
        ("one\u2028still one\x0bone", "second"),
    ]
    assert stream.quarantine == []


def test_avif_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.avif")
    assert [entry.id for entry in read_entries(tmp_path)] == ["a.avif"]


def test_images_that_are_not_read_are_rejected_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawings, raw files and, without a plug-in, photos of phones vanished without a word."""
    monkeypatch.setattr(image_folder, "image_suffixes", lambda: frozenset({".png"}))
    picture(tmp_path / "a.png")
    for name in ("b.svg", "c.JXL", "d.NEF", "e.heic", "f.avif"):
        (tmp_path / name).write_bytes(b"x" * 40)
    stream = read_entries(tmp_path)
    assert [entry.id for entry in stream] == ["a.png"]
    reasons = rejected(stream)
    assert sorted(reasons) == ["b.svg", "c.JXL", "d.NEF", "e.heic", "f.avif"]
    assert 'pip install "ravlm[formats]"' in reasons["e.heic"]
    assert '".jxl"' in reasons["c.JXL"]
    assert notes(stream) == []


def test_other_files_are_noted_once_per_type(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in ("a.md", "b.md", "list.csv", "orphan.txt", "Makefile", ".hidden"):
        (tmp_path / name).write_text("words")
    stream = read_entries(tmp_path)
    assert len(list(stream)) == 1
    assert rejected(stream) == {}
    assert notes(stream) == [
        "The file Makefile is not read: no image and not the texts of one.",
        "The file list.csv is not read: no image and not the texts of one.",
        '2 files of the type ".md", such as a.md, are not read: no image and not the texts of one.',
        "The file orphan.txt is not read: no image and not the texts of one.",
    ]


def test_links_are_followed_once(tmp_path: Path) -> None:
    """Linked folders were passed over; two links to each other must not be followed for ever."""
    root = tmp_path / "root"
    picture(root / "own" / "a.png")
    picture(tmp_path / "outside" / "b.png")
    picture(tmp_path / "outside" / "deep" / "c.png")
    os.symlink("../outside", root / "linked")
    os.symlink(tmp_path / "outside", root / "second")
    os.symlink("own", root / "again")
    os.symlink(root, tmp_path / "outside" / "back")
    os.symlink("nowhere", root / "lost")
    stream = read_entries(root)
    assert [entry.id for entry in stream] == ["linked/b.png", "linked/deep/c.png", "own/a.png"]
    assert rejected(stream) == {}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_metadata_of_a_hugging_face_folder(kind: str, tmp_path: Path) -> None:
    """The captions of metadata.jsonl were not read, and nothing named the file."""
    rows = [
        {"file_name": "a.png", "text": "a red tile", "year": 1990},
        {"file_name": "sub/b.png", "text": "a blue tile", "year": 2001},
        {"file_name": "gone.png", "text": "nobody", "year": 1},
    ]
    train = tmp_path / "train"
    picture(train / "a.png")
    picture(train / "sub" / "b.png", "blue")
    picture(train / "c.png", "green")
    path = train / f"metadata.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "csv":
        lines = [",".join(map(str, row.values())) for row in rows]
        path.write_text("\n".join(["file_name,text,year", *lines]))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    stream = read_entries(tmp_path)
    assert {entry.id: (entry.texts, dict(entry.metadata)) for entry in stream} == {
        "train/a.png": (("a red tile",), {"year": 1990}),
        "train/sub/b.png": (("a blue tile",), {"year": 2001}),
        "train/c.png": ((), {}),
    }
    (reason,) = [item.reason for item in stream.quarantine if not item.is_note]
    assert 'no image "gone.png"' in reason
    assert "3 rows were read as the texts and metadata of images" in notes(stream)[0]


def test_metadata_in_our_own_keys(tmp_path: Path) -> None:
    """A folder with images/ and metadata.jsonl: the rows are those of a JSON Lines source."""
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png", "blue")
    rows = [
        {"id": "first", "image": "images/a.png", "texts": ["one", "eins"], "split": "test"},
        {"id": "text only", "text": "no image"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stream = read_entries(tmp_path)
    assert [(entry.id, entry.texts, dict(entry.metadata)) for entry in stream] == [
        ("first", ("one", "eins"), {"split": "test"}),
        ("images/b.png", (), {}),
    ]
    assert [reason[:24] for reason in rejected(stream).values()] == ["The row names no image; "]


def test_json_of_an_image(tmp_path: Path) -> None:
    """img2dataset writes captions next to images; annotations without texts stay unread."""
    picture(tmp_path / "1.png")
    (tmp_path / "1.json").write_text(json.dumps({"caption": "a tile", "width": 8, "exif": None}))
    picture(tmp_path / "2.png")
    (tmp_path / "2.json").write_text(json.dumps({"shapes": [], "imageData": "x"}))
    stream = read_entries(tmp_path)
    assert [(entry.texts, dict(entry.metadata)) for entry in stream] == [
        (("a tile",), {"width": 8}),
        ((), {}),
    ]
    assert notes(stream) == ["The file 2.json is not read: no image and not the texts of one."]


def test_folder_of_unreadable_images_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<svg/>")
    stream = read_entries(tmp_path)
    assert list(stream) == []
    assert list(rejected(stream)) == ["a.svg"]
    (tmp_path / "a.svg").unlink()
    with pytest.raises(NotFound, match="contain no images"):
        list(read_entries(tmp_path))
