"""Rows in the keys of other tools are read as what they are, and the report says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ravlm import read_entries, read_pairs
from ravlm.data.readers import EntryStream
from ravlm.data.rows import near_misses


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def notes(stream: EntryStream) -> list[str]:
    assert all(item.is_note for item in stream.quarantine)
    return [item.reason for item in stream.quarantine]


def test_captions_of_flickr8k(pictures: Path) -> None:
    """captions.txt was read as images without texts, five entries for each image."""
    path = pictures.parent / "captions.txt"
    path.write_text(
        "image,caption\nred.png,A red tile .\nred.png,\"Red , all over .\"\nblue.png,42\n"
        "blue.png,Blue .\nred.png,A late one .\n"
    )  # fmt: skip
    stream = read_entries(path)
    entries = list(stream)
    assert [(entry.id, entry.texts) for entry in entries[:2]] == [
        ("red.png", ("A red tile .", "Red , all over .")),
        ("blue.png", ("42", "Blue .")),
    ]
    assert entries[2].texts == ("A late one .",)  # a shuffled file loses nothing
    assert [entry.image for entry in entries] == [
        str(pictures / name) for name in ("red.png", "blue.png", "red.png")
    ]
    assert notes(stream) == [
        'Rows were read in the layout of image and caption: "caption" is the text.'
    ]
    assert [pair.texts for pair in read_pairs(path)] == [entry.texts for entry in entries]


def test_results_of_flickr30k(pictures: Path) -> None:
    path = pictures.parent / "results.csv"
    path.write_text(
        "image_name| comment_number| comment\nred.png| 0| A red wall .\n"
        "red.png| 1| Nothing but red .\nblue.png| 0| A blue wall .\n"
    )
    stream = read_entries(path)
    assert [(entry.id, entry.texts, dict(entry.metadata)) for entry in stream] == [
        ("red.png", ("A red wall .", "Nothing but red ."), {}),
        ("blue.png", ("A blue wall .",), {}),
    ]
    assert "Flickr30k" in notes(stream)[0]


def test_rows_with_ids_or_other_metadata_stay_rows(pictures: Path) -> None:
    rows = [
        {"id": "a", "image": "red.png", "caption": "one"},
        {"id": "b", "image": "red.png", "caption": "two"},
        {"image": "blue.png", "caption": "three", "year": 1},
        {"image": "blue.png", "caption": "four", "year": 2},
        {"image": "green.png", "captions": ["five", "six"]},
    ]
    entries = list(read_entries(write(pictures / "rows.jsonl", *rows)))
    assert [entry.texts for entry in entries] == [
        ("one",), ("two",), ("three",), ("four",), ("five", "six"),
    ]  # fmt: skip
    assert [entry.id for entry in entries[:3]] == ["a", "b", "blue.png"]
    assert [dict(entry.metadata) for entry in entries[2:4]] == [{"year": 1}, {"year": 2}]


def test_caption_next_to_a_text_is_metadata(pictures: Path) -> None:
    row = {"image": "red.png", "text": "the text", "caption": "of a newspaper"}
    stream = read_entries(write(pictures / "rows.jsonl", row))
    (entry,) = stream
    assert (entry.texts, dict(entry.metadata)) == (("the text",), {"caption": "of a newspaper"})
    assert stream.quarantine == []


@pytest.mark.parametrize("as_array", [False, True])
def test_conversations(as_array: bool, pictures: Path) -> None:
    """LLaVA's own file is an array, and its images lie in a folder of their own."""
    turns = [
        {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A tile."},
        {"from": "human", "value": "Its color?"}, {"from": "gpt", "value": "Red."},
    ]  # fmt: skip
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A blue tile."}]},
    ]
    rows = [
        {"id": "1", "image": "red.png", "conversations": turns},
        {"id": "2", "images": ["blue.png"], "messages": messages},
        {"id": "3", "conversations": turns[:2], "lang": "en"},
    ]
    path = pictures.parent / "train.json"
    path.write_text(json.dumps(rows) if as_array else "\n".join(map(json.dumps, rows)))
    stream = read_entries(path)
    first, second, third = stream
    assert (first.image, first.texts) == (str(pictures / "red.png"), ("A tile.", "Red."))
    assert first.metadata == {"conversations": turns}
    assert (second.image, second.texts) == (str(pictures / "blue.png"), ("A blue tile.",))
    assert (third.image, third.texts, third.metadata["lang"]) == (None, ("A tile.",), "en")
    assert len(notes(stream)) == 1


def test_addresses_with_captions(tmp_path: Path) -> None:
    rows = [
        {"url": "https://a.example/1.jpg", "caption": "one", "width": 9},
        {"URL": "https://a.example/2.jpg", "TEXT": "two", "similarity": 0.3},
        {"url": "https://a.example/3.jpg", "caption": "three", "key": "3", "status": "success"},
    ]
    stream = read_entries(write(tmp_path / "rows.jsonl", *rows))
    entries = list(stream)
    assert [(entry.image, entry.texts) for entry in entries] == [
        (f"https://a.example/{n}.jpg", (text,))
        for n, text in ((1, "one"), (2, "two"), (3, "three"))
    ]
    assert dict(entries[1].metadata) == {"similarity": 0.3}
    assert entries[2].metadata["url"] == "https://a.example/3.jpg"
    assert len(notes(stream)) == 2


def test_web_page_with_a_text_is_no_image(tmp_path: Path) -> None:
    """Corpora of texts have the address of the page in `url`: fetching it would fail."""
    row = {"text": "an article", "url": "https://en.example/wiki/Harbor"}
    stream = read_entries(write(tmp_path / "rows.jsonl", row))
    (entry,) = stream
    assert (entry.image, dict(entry.metadata)) == (None, {"url": row["url"]})
    assert notes(stream) == [
        '"url" was read as metadata. If it is the image, rename it to "image".'
    ]


def test_misnamed_keys_are_named_once(pictures: Path) -> None:
    rows = [{"img_path": "red.png", "text": f"text {n}", "title": "T", "year": n} for n in range(9)]
    rows.append({"image": "red.png", "Description": "a tile", "label": 3})
    stream = read_entries(write(pictures / "rows.jsonl", *rows))
    assert len(list(stream)) == 10
    assert notes(stream) == [
        '"img_path" was read as metadata. If it is the image, rename it to "image".',
        '"Description" was read as metadata. If it is the text, rename it to "text".',
    ]


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"image": "a", "imge": "b"}, {}),
        ({"text": "a", "imge": "b"}, {"imge": "image"}),
        ({"text": "a", "image_id": "b", "page": "c", "context": "d"}, {}),
        ({"image": "a", "Text": "b", "texxt": "c"}, {"Text": "text", "texxt": "text"}),
        ({"image": "a", "texts": [], "caption": "b"}, {}),
        ({"image": "a", "sentences": ["b"]}, {"sentences": "texts"}),
        ({"image": "a", "label": 7, "caption": None}, {}),
        (
            {"image": "a", "caption_en": "b", "alt_text": "c"},
            {"caption_en": "text", "alt_text": "text"},
        ),
        (
            {"text": "a", "photoPath": "b", "image_file_name": "c"},
            {"photoPath": "image", "image_file_name": "image"},
        ),
        ({"text": "a", "caption_en": "b", "image_width": "c", "file": "d"}, {"file": "image"}),
    ],
)
def test_near_misses(row: dict[str, Any], names: dict[str, str]) -> None:
    assert near_misses(row) == names


def test_layout_in_parquet(pictures: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    red, blue = ((pictures / name).read_bytes() for name in ("red.png", "blue.png"))
    rows = [
        {"image": {"bytes": red, "path": "r"}, "caption": ["a red tile", "red"]},
        {"image": {"bytes": blue, "path": "b"}, "caption": ["a blue tile"]},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), pictures / "rows.parquet")
    stream = read_entries(pictures / "rows.parquet")
    assert [(entry.image, entry.texts) for entry in stream] == [
        (red, ("a red tile", "red")),
        (blue, ("a blue tile",)),
    ]
    assert len(notes(stream)) == 1
