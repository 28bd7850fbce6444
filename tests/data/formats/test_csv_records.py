"""Strict quoting of CSV: no quote swallows rows, no cell is cut, and faults name their line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravlm import read_entries
from ravlm.data.formats.csv_records import Dialect, split_records
from ravlm.errors import BrokenData


def read(path: Path, content: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    path.write_text(content, encoding="utf-8", newline="")
    stream = read_entries(path)
    entries = [(entry.id, entry.text) for entry in stream]
    lines = [(item.location.rpartition(" ")[2], item.reason) for item in stream.quarantine]
    return entries, lines


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_unclosed_quote_costs_its_own_line_only(end: str, tmp_path: Path) -> None:
    """An unclosed quote on line 3 swallowed the rows up to the end of the file into one text."""
    rows = ["id,text", "a,one", 'b,"two', "c,three", 'd,"four, and more"', "e,five"]
    entries, faults = read(tmp_path / "rows.csv", end.join(rows) + end)
    assert entries == [("a", "one"), ("c", "three"), ("d", "four, and more"), ("e", "five")]
    assert [line for line, _ in faults] == ["3"]
    assert "text follows its closing quote on line 5" in faults[0][1]


def test_quote_that_is_open_at_the_end_of_the_file(tmp_path: Path) -> None:
    entries, faults = read(tmp_path / "rows.csv", 'id,text\na,one\nb,"two\nc,three')
    assert entries == [("a", "one"), ("c", "three")]
    assert faults == [
        ("3", 'The line opens a quoted cell, but it is never closed; write "" for a quote.')
    ]


def test_text_after_a_closing_quote_is_a_fault(tmp_path: Path) -> None:
    """`"7 inch" single` was read as `7 inch single`: the quotes were lost without a word."""
    content = 'id;text\na;"7 inch" single\nb;a 12" record\nc;"say ""hi"""\n'
    entries, faults = read(tmp_path / "rows.csv", content)
    assert entries == [("b", 'a 12" record'), ("c", 'say "hi"')]
    assert [line for line, _ in faults] == ["2"]


def test_long_cells_of_many_lines_are_one_cell(tmp_path: Path) -> None:
    """A quoted cell over 131,072 characters was cut; its other lines became invented rows."""
    log = "".join(f"{n},entry {n} of a ship's log\r\n" for n in range(9000))
    assert len(log) > 200_000
    entries, faults = read(tmp_path / "rows.csv", f'id,text\r\n1,"{log}"\r\n2,short\r\n')
    assert entries == [("1", log), ("2", "short")]
    assert faults == []
    entries, faults = read(tmp_path / "rows.csv", f"id,text\n1,{'sea ' * 50_000}end\n2,b\n")
    assert [len(text) for _, text in entries] == [200_003, 1]
    assert faults == []


@pytest.mark.parametrize("offset", [0, 70_000])
def test_nul_costs_its_own_row_wherever_it_is(offset: int, tmp_path: Path) -> None:
    """A NUL in the first 64 kB refused the whole file; one behind them was kept in the text."""
    padding = "".join(f"p{n},{'x' * 95}\n" for n in range(offset // 100))
    content = f"id,text\n{padding}a,one\nb,t\0wo\nc,three\n"
    entries, faults = read(tmp_path / "rows.csv", content)
    assert entries[-2:] == [("a", "one"), ("c", "three")]
    assert [reason for _, reason in faults] == ["The row has a NUL character; remove it."]


def test_fault_in_the_first_line_stops_with_a_sentence(tmp_path: Path) -> None:
    """The next line would become the names of the columns."""
    with pytest.raises(BrokenData, match="names no columns, line 1: The line opens a quoted cell"):
        read(tmp_path / "rows.csv", 'id,"text\n1,a\n')


def test_column_is_kept_as_written_unless_it_is_numeric_throughout(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,version,code,share\na,1.10,1E5,1.50\nb,1.2.1,E5,2\nc,,0,1E2\n")
    assert [entry.metadata for entry in read_entries(path)] == [
        {"version": "1.10", "code": "1E5", "share": 1.5},
        {"version": "1.2.1", "code": "E5", "share": 2},
        {"code": "0", "share": 100.0},
    ]


def test_ids_that_pandas_wrote_as_floats(tmp_path: Path) -> None:
    """pandas writes a column of numbers with a gap as 1.0, 2.0; other ids stay as written."""
    entries, _ = read(tmp_path / "rows.csv", "id,text\n17.0,a\n,b\n3.0,c\n")
    assert [entries[0][0], entries[2][0]] == ["17", "3"]
    entries, _ = read(tmp_path / "rows.csv", "id,text\n1.0,a\n1.10,b\n007,c\n")
    assert [id_ for id_, _ in entries] == ["1.0", "1.10", "007"]


@given(
    rows=st.lists(st.lists(st.text("ab ,;\"'\n\r\u2028é"), min_size=2, max_size=4), min_size=1),
    delimiter=st.sampled_from(",;\t|"),
)
def test_same_records_as_the_csv_module_for_what_it_writes(
    rows: list[list[str]], delimiter: str
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows(rows)
    records = split_records(io.StringIO(file.getvalue(), newline=""), Dialect(delimiter))
    expected = [tuple(row) for row in rows if any(cell.strip() for cell in row)]
    assert [record.cells for record in records] == expected
