"""All sources: ids, missing images, wrong key names, bad sources, and constant memory."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm import read_entries, read_pairs
from ravlm.errors import BrokenData, InvalidInput, NotFound


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_ids(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "rows.jsonl",
        {"id": "name", "text": "a"},
        {"id": 7, "text": "b"},
        {"id": 2.5, "text": "c"},
        {"text": "d"},
        {"id": "", "text": "e"},
        {"id": None, "text": "f"},
        {"id": True, "text": "g"},
        {"id": ["x"], "text": "h"},
    )
    stream = read_entries(path)
    ids = [entry.id for entry in stream]
    assert ids[:3] == ["name", "7", "2.5"]
    assert len(set(ids)) == 6
    assert all(len(identity) == 32 for identity in ids[3:])
    assert [entry.id for entry in read_entries(path)] == ids
    assert [refused.reason for refused in stream.quarantine] == [
        "The id is True; it must be a string or a number.",
        "The id is ['x']; it must be a string or a number.",
    ]


def test_derived_id_follows_the_content(tmp_path: Path) -> None:
    """The same row has the same id in any file and folder; other content gives another id."""
    rows = [{"text": "a", "kind": "x"}, {"text": "a", "kind": "y"}, {"text": "b", "kind": "x"}]
    (tmp_path / "other").mkdir()
    first = [entry.id for entry in read_entries(lines(tmp_path / "a.jsonl", *rows))]
    second = [
        entry.id for entry in read_entries(lines(tmp_path / "other" / "b.jsonl", *reversed(rows)))
    ]
    assert len(set(first)) == 3
    assert first == second[::-1]


def test_duplicate_ids(tmp_path: Path) -> None:
    """The first row with an id is kept ("7" and 7 are equal); a rejected row does not count."""
    path = lines(
        tmp_path / "rows.jsonl",
        {"id": 7, "text": "first"},
        {"id": "7", "text": "second"},
        {"id": "p", "image": "gone.jpg", "text": "refused"},
        {"id": "p", "text": "taken"},
        {"text": "same"},
        {"text": "same"},
    )
    stream = read_entries(path)
    assert [entry.text for entry in stream] == ["first", "taken", "same"]
    assert [refused.location.rsplit(" ", 1)[1] for refused in stream.quarantine] == ["2", "3", "6"]
    assert 'id "7" was used before' in stream.quarantine[0].reason


def test_row_with_a_missing_image_is_rejected(pictures: Path) -> None:
    """Without its image, a row would be evidence for something that nobody can see."""
    path = lines(
        pictures.parent / "rows.jsonl",
        {"id": "gone", "image": "pictures/gone.png", "text": "a text"},
        {"id": "here", "image": "pictures/red.png", "text": "a text"},
        {"id": "folder", "image": "pictures", "text": "a text"},
        {"id": "nul", "image": "a\u0000b.png", "text": "a text"},
        {"id": "far", "image": "https://a.example/b.png", "text": "a text"},
        {"id": "odd", "image": "ftp://a.example/b.png", "text": "a text"},
        {"id": "type", "image": 3, "text": "a text"},
        {"id": "absolute", "image": str(pictures / "blue.png"), "text": "a text"},
    )
    stream = read_entries(path)
    assert [(entry.id, entry.image) for entry in stream] == [
        ("here", str(pictures / "red.png")),
        ("far", "https://a.example/b.png"),
        ("absolute", str(pictures / "blue.png")),
    ]
    assert len(stream.quarantine) == 5
    assert stream.quarantine[0].reason.startswith(f'There is no image "{pictures}/gone.png"')


def test_texts(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "rows.jsonl",
        {"id": "both", "text": "one", "texts": ["two", " ", "three"]},
        {"id": "single", "texts": "one"},
        {"id": "number", "text": 5},
        {"id": "inner", "texts": ["a", None]},
        {"id": "nothing", "text": "  ", "kind": "x"},
    )
    stream = read_entries(path)
    assert [entry.texts for entry in stream] == [("one", "two", "three"), ("one",)]
    assert [refused.reason for refused in stream.quarantine] == [
        '"text" is or contains 5; it must be a string.',
        '"texts" is or contains None; it must be a list of strings.',
        "The row has neither an image nor a text.",
    ]


def test_metadata_keeps_its_types(tmp_path: Path) -> None:
    data = {
        "year": 1990,
        "share": 0.5,
        "ok": True,
        "none": None,
        "facts": {"a": [1, "x"]},
        "名": "字",
    }
    (entry,) = read_entries(lines(tmp_path / "rows.jsonl", {"text": "a", **data}))
    assert entry.metadata == data


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        (["img", "caption"], 'Rename "img" to "image".'),
        (["Image", "year"], 'Rename "Image" to "image".'),
        (["caption", "year"], 'Rename "caption" to "text".'),
        (["txet"], '"txet" is unknown. Did you mean "text"'),
        (["year"], 'needs at least one of "image", "text", "texts"'),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_wrong_column_names(keys: list[str], hint: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        path.write_text(
            ",".join([*keys, "n"])
            + "\n"
            + "".join(",".join("x" * len(keys)) + ",1\n" for _ in range(30))
        )
    else:
        lines(path, *[dict.fromkeys(keys, "x")] * 30)
    with pytest.raises(InvalidInput) as raised:
        next(iter(read_entries(path)))
    assert f'has the keys "{keys[0]}"' in str(raised.value)
    assert hint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_single_row_without_keys_is_quarantined(tmp_path: Path) -> None:
    stream = read_entries(lines(tmp_path / "rows.jsonl", {"caption": "a"}, {"text": "b"}))
    assert [entry.text for entry in stream] == ["b"]
    assert 'Rename "caption" to "text".' in stream.quarantine[0].reason


def test_no_such_source(tmp_path: Path) -> None:
    for read in (read_entries, read_pairs):
        with pytest.raises(NotFound, match=r'There is no file or folder ".*nowhere"'):
            read(tmp_path / "nowhere")


def test_source_that_is_not_a_path() -> None:
    """An empty path would be the working folder."""
    for source in ("", None, [""], []):
        with pytest.raises(InvalidInput, match='the path of a folder or file, "-", or a list'):
            read_entries(source)  # type: ignore[arg-type]


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a text")
    for name in ("empty", "texts"):
        with pytest.raises(NotFound, match="and its subfolders contain no images"):
            list(read_entries(tmp_path / name))


def test_a_list_of_images(tmp_path: Path) -> None:
    """`ravlm build kb photos/*.jpg` was refused: "It is an image: name the folder"."""
    for name in ("a.png", "b.PNG"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "b.txt").write_text("a small square\n\nit is black")
    (tmp_path / "c.txt").write_text("a text of no image")
    stream = read_entries([tmp_path / "a.png", tmp_path / "b.PNG"])
    entries = list(stream)
    assert [(entry.id, entry.texts) for entry in entries] == [
        ("a.png", ()),
        ("b.PNG", ("a small square", "it is black")),
    ]
    assert entries == list(read_entries(tmp_path))
    assert stream.quarantine == []


def test_unknown_formats(tmp_path: Path) -> None:
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "letter.txt").write_text("Dear Sir\nthis is a letter\n")
    for name in ("noise.csv", "letter.txt"):
        with pytest.raises(InvalidInput, match=r"HTML\), Parquet, COCO captions, JSON Lines"):
            read_entries(tmp_path / name)
    (tmp_path / "wide.csv").write_text("image,text\n", encoding="utf-16")
    with pytest.raises(InvalidInput, match="UTF-16; save it as UTF-8"):
        read_entries(tmp_path / "wide.csv")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_source_without_read_permission(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {"text": "a"})
    path.chmod(0)
    with pytest.raises(BrokenData, match="can't be read"):
        read_entries(path)


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", ""), ("a.csv", "id,text\n"), ("a.json", "[]")]
)
def test_source_without_rows_says_so(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    stream = read_entries(tmp_path / name)
    assert list(stream) == []
    assert [refused.reason for refused in stream.quarantine] == ["It has no rows."]


def test_quarantine_belongs_to_the_running_iteration(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {"text": "a"}, {"text": 1}, {"text": "b"}, {"text": 2})
    stream = read_entries(path)
    running = iter(stream)
    assert next(running).text == "a"
    assert stream.quarantine == []
    assert next(running).text == "b"
    assert len(stream.quarantine) == 1
    assert [entry.text for entry in stream] == ["a", "b"]
    assert len(stream.quarantine) == 2


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_rows_are_not_held(suffix: str, tmp_path: Path) -> None:
    """5,000 rows of 2,000 characters are 10 MB; only the hash of each id is kept."""
    path = tmp_path / f"rows.{suffix}"
    with open(path, "w") as file:
        if suffix == "csv":
            file.write("id,text\n")
        for number in range(5_000):
            text = f"{number} " + "x" * 2_000
            file.write(
                f'{{"id": {number}, "text": "{text}"}}\n'
                if suffix == "jsonl"
                else f"{number},{text}\n"
            )
    tracemalloc.start()
    count = sum(1 for _ in read_entries(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000
    assert peak < 2_000_000
