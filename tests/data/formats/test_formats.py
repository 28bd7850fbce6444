"""Folders, JSON Lines, tables and Parquet give the same entries, recognized by their content."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ravlm import read_entries, read_pairs
from ravlm.data.rows import RESERVED_KEYS
from ravlm.errors import BrokenData, InvalidInput, MissingExtra
from ravlm.records import Entry

ROWS = [
    {
        "id": "a",
        "image": "pictures/red.png",
        "texts": ["a red square", "红色"],
        "year": 1990,
        "split": "train",
    },
    {
        "id": "b",
        "image": "pictures/blue.png",
        "text": "a blue square, flat",
        "year": 2005,
        "split": "val",
    },
    {"id": "c", "text": "no picture\nhere", "year": -3, "split": "train"},
]


def expected(folder: Path) -> list[Entry]:
    red, blue = (str(folder / "pictures" / name) for name in ("red.png", "blue.png"))
    return [
        Entry("a", red, ("a red square", "红色"), {"year": 1990, "split": "train"}),
        Entry("b", blue, ("a blue square, flat",), {"year": 2005, "split": "val"}),
        Entry("c", None, ("no picture\nhere",), {"year": -3, "split": "train"}),
    ]


def as_lines(path: Path) -> None:
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n", encoding="utf-8"
    )


def as_array(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8")


def as_table(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> None:
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(
            file, ["id", "image", "texts", "text", "year", "split"], delimiter=delimiter
        )
        writer.writeheader()
        for row in ROWS:
            cells = dict(row)
            if "texts" in row:
                cells["texts"] = json.dumps(row["texts"], ensure_ascii=False)
            writer.writerow(cells)


def as_parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    rows = [{"texts": None, "image": None, "text": None} | row for row in ROWS]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {
    "rows.jsonl": as_lines,
    "rows.txt": as_lines,
    "rows.json": as_array,
    "rows.csv": as_table,
    "excel.csv": lambda path: as_table(path, ";", "utf-8-sig"),
    "rows.tsv": lambda path: as_table(path, "\t"),
    "bars.dat": lambda path: as_table(path, "|"),
    "rows.parquet": as_parquet,
    "rows.dat": as_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_entries(name: str, pictures: Path) -> None:
    """The content decides: JSON Lines may be named .txt, and Parquet .dat."""
    path = pictures.parent / name
    WRITERS[name](path)
    stream = read_entries(path)
    assert list(stream) == expected(pictures.parent)
    assert stream.quarantine == []
    assert list(stream) == expected(pictures.parent)  # read again
    assert type(next(iter(stream)).metadata["year"]) is int
    pairs = read_pairs(str(path))
    assert [(pair.id, pair.text) for pair in pairs] == [
        ("a", "a red square"),
        ("b", "a blue square, flat"),
    ]
    assert "no image" in pairs.quarantine[0].reason


def test_relative_source_gives_absolute_paths(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_lines(pictures.parent / "rows.jsonl")
    monkeypatch.chdir(pictures.parent)
    assert list(read_entries("rows.jsonl")) == expected(pictures.parent)
    assert next(iter(read_entries("pictures"))).image == str(pictures / "blue.png")


# Folder


def test_folder(pictures: Path) -> None:
    below = pictures / "更多"
    below.mkdir()
    (pictures / "red.png").rename(below / "Red One.PNG")
    (below / "Red One.txt").write_text("\ufeffa red picture\n\n红色的图片\n", encoding="utf-8")
    (pictures / "disc.jpg").rename(pictures / "disc")  # an image by its content
    (pictures / "README.txt").write_text("about")
    (pictures / "notes.md").write_text("about")
    (pictures / ".hidden.png").write_bytes(b"x")
    (pictures / ".thumbs").mkdir()
    (pictures / ".thumbs" / "t.png").write_bytes(b"x")
    entries = list(read_entries(pictures))
    assert [entry.id for entry in entries] == ["blue.png", "disc", "green.png", "更多/Red One.PNG"]
    assert entries[3] == Entry(
        "更多/Red One.PNG", str(below / "Red One.PNG"), ("a red picture", "红色的图片"), {}
    )
    assert entries[0].texts == ()


def test_folder_as_pairs(pictures: Path) -> None:
    (pictures / "red.txt").write_text("a red picture")
    (pictures / "blue.txt").write_bytes(b"caf\xe9")
    pairs = read_pairs(pictures)
    assert [pair.id for pair in pairs] == ["red.png"]
    reasons = {Path(refused.location).name: refused.reason for refused in pairs.quarantine}
    assert sorted(reasons) == ["blue.txt", "disc.jpg", "green.png"]
    assert "UTF-8" in reasons["blue.txt"]
    assert "no text" in reasons["green.png"]


# JSON lines


def test_standard_input(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_lines(pictures.parent / "rows.jsonl")
    content = (pictures.parent / "rows.jsonl").read_bytes()
    monkeypatch.chdir(pictures.parent)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content + b"{broken\n")))
    stream = read_entries("-")
    assert list(stream) == expected(pictures.parent)
    assert [refused.location for refused in stream.quarantine] == ["standard input, line 5"]
    with pytest.raises(InvalidInput, match="read once"):
        list(stream)


def test_bad_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": "1", "text": "good"}\n'
        b'{"id": "2", "text": "caf\xe9"}\n'
        b'{"id": "3", "text": \n'
        b"[1, 2]\n"
        b'{"id": "5", "text": "x", "score": NaN}\n'
        b'{"id": "6", "text": "half \\ud83d"}\n' + b"[" * 100_000 + b"\n"
        b'{"id": "8", "text": "good"}'
    )
    stream = read_entries(path)
    assert [entry.id for entry in stream] == ["1", "8"]
    assert [refused.location.rsplit(" ", 1)[1] for refused in stream.quarantine] == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
    ]
    words = ["byte 0xe9 at 24", "not JSON", "type list", "NaN", "UTF-8", "not JSON"]
    for refused, word in zip(stream.quarantine, words, strict=True):
        assert word in refused.reason
    assert str(stream.quarantine[0]).startswith(f"{path}, line 2: ")


def test_broken_array(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"text": "a"}, ')
    with pytest.raises(BrokenData, match="write one object per line"):
        list(read_entries(tmp_path / "rows.json"))


# Tables


def test_types_in_a_table(tmp_path: Path) -> None:
    """A year compares as a number, a postal code keeps its zero; a mixed column is text."""
    path = tmp_path / "rows.csv"
    path.write_text(
        "text, price, zip, flag, mixed, empty, phone\n"
        "one, 1.50, 01234, true, 7, , 12345678901234567\n"
        "two, -2, 90210, False, seven, , 1\n"
        '"three, four", 1e3, 10115, , 8, , 2\n'
    )
    one, two, three = read_entries(path)
    assert one.metadata == {
        "price": 1.5,
        "zip": "01234",
        "flag": True,
        "mixed": "7",
        "phone": "12345678901234567",
    }
    assert two.metadata == {
        "price": -2,
        "zip": "90210",
        "flag": False,
        "mixed": "seven",
        "phone": "1",
    }
    assert three.metadata == {"price": 1000.0, "zip": "10115", "mixed": "8", "phone": "2"}
    assert three.text == "three, four"


def test_bad_lines_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b'id,text\n1,"two\nlines"\n2,one,too many\n3\n\n4,caf\xe9\n5,'
        + b"x" * 140_000
        + b"\n6,good\n"
    )
    stream = read_entries(path)
    assert [(entry.id, entry.text) for entry in stream] == [
        ("1", "two\nlines"),
        ("5", "x" * 140_000),  # no limit on a cell: JSON Lines have none
        ("6", "good"),
    ]
    assert [item.location.rsplit(" ", 1)[1] for item in stream.quarantine] == ["4", "5", "7"]
    assert "3 values; the first line names 2 columns" in stream.quarantine[0].reason
    assert "UTF-8" in stream.quarantine[2].reason


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,kind,kind\na,b,c\n")
    with pytest.raises(InvalidInput, match='two columns called "kind"'):
        list(read_entries(tmp_path / "rows.csv"))


# Parquet


def test_parquet_images_as_bytes(pictures: Path) -> None:
    """Hugging Face stores {bytes, path}; the path is used if there are no bytes."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    red, blue = ((pictures / name).read_bytes() for name in ("red.png", "blue.png"))
    structs = [
        {"bytes": red, "path": "gone.png"},
        {"bytes": None, "path": "pictures/blue.png"},
        None,
    ]
    table = pyarrow.table({"image": structs, "text": ["r", "b", "t"], "mask": [b"1", b"2", b"3"]})
    parquet.write_table(table, pictures.parent / "structs.parquet")
    stream = read_entries(pictures.parent / "structs.parquet")
    assert [entry.image for entry in stream] == [red, str(pictures / "blue.png"), None]
    assert len({entry.id for entry in stream}) == 3
    assert "mask" in stream.quarantine[0].location
    assert "left out" in stream.quarantine[0].reason

    parquet.write_table(pyarrow.table({"image": [red, blue]}), pictures.parent / "bytes.parquet")
    assert [entry.image for entry in read_entries(pictures.parent / "bytes.parquet")] == [red, blue]


def test_parquet_values_become_json(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    rows = [
        {
            "id": number,
            "text": f"row {number}",
            "day": datetime.date(2020, 1, number),
            "price": decimal.Decimal("1.25"),
            "score": float("nan") if number == 1 else 0.5,
            "facts": {"tags": ["x", "y"], "when": datetime.datetime(2020, 1, 1, 12)},
        }
        for number in (1, 2)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    one, two = read_entries(tmp_path / "rows.parquet")
    facts = {"tags": ["x", "y"], "when": "2020-01-01T12:00:00"}
    assert (one.id, one.metadata) == ("1", {"day": "2020-01-01", "price": 1.25, "facts": facts})
    assert two.metadata["score"] == 0.5
    json.dumps(two.metadata)


def test_damaged_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"text": [f"text number {i} {i * 7919}" for i in range(4000)]})
    parquet.write_table(table, path, row_group_size=2000, compression="gzip", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[200:240] = bytes(40)  # within the first row group
    path.write_bytes(content)
    stream = read_entries(path)
    texts = [entry.text for entry in stream]
    assert texts[-2000:] == [f"text number {i} {i * 7919}" for i in range(2000, 4000)]
    assert stream.quarantine[0].location.endswith("to 2000")

    path.write_bytes(content[:300])
    with pytest.raises(BrokenData, match="write it again"):
        list(read_entries(path))


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    """One such row failed the conversion of its whole batch, with a UnicodeDecodeError."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    texts = pyarrow.array([b"one", b"caf\xe9", b"three"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "rows.parquet")
    stream = read_entries(tmp_path / "rows.parquet")
    assert [entry.text for entry in stream] == ["one", "three"]
    assert [refused.location.rsplit(" ", 1)[1] for refused in stream.quarantine] == ["2"]


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and so on")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r'pip install "ravlm\[parquet\]"'):
        list(read_entries(tmp_path / "rows.parquet"))


# Round trips

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
METADATA = st.dictionaries(TEXT.filter(lambda key: key not in RESERVED_KEYS), JSON, max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.lists(TEXT, min_size=1, max_size=3), METADATA), min_size=1, max_size=8
    )
)
def test_json_lines_round_trip(
    rows: list[tuple[list[str], dict[str, Any]]], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    contents = [{"id": n, "texts": texts, **data} for n, (texts, data) in enumerate(rows)]
    lines = [json.dumps(content, ensure_ascii=content["id"] % 2 == 0) for content in contents]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    stream = read_entries(path)
    assert [(entry.id, list(entry.texts), entry.metadata) for entry in stream] == [
        (str(n), texts, data) for n, (texts, data) in enumerate(rows)
    ]
    assert stream.quarantine == []


CELL = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1
).filter(str.strip)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1), delimiter=st.sampled_from(",;\t|"))
def test_table_round_trip(rows: list[tuple[str, str]], delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "text", "note"])
        writer.writerows([n, text, f"note {note}"] for n, (text, note) in enumerate(rows))
    stream = read_entries(path)
    assert [(entry.id, entry.text, entry.metadata["note"]) for entry in stream] == [
        (str(n), text, f"note {note}") for n, (text, note) in enumerate(rows)
    ]
