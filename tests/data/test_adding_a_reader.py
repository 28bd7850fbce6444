"""The example of docs/how-to/reader.md works as printed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import cast

import pytest

from ravlm import read_entries, read_pairs
from ravlm.data import readers
from ravlm.records import Entry
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "how-to" / "reader.md"


@pytest.fixture
def notebook_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> readers.SourceReader:
    """The module printed on the page, listed in READERS before the others."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len(code.splitlines()) < 60
    (tmp_path / "notebook.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(
        "ravlm_example_notebook", tmp_path / "notebook.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader = cast(readers.SourceReader, module)
    monkeypatch.setattr(readers, "READERS", {"notebook of images": reader, **readers.READERS})
    return reader


def test_example(notebook_reader: readers.SourceReader, pictures: Path) -> None:
    path = pictures / "notes.txt"
    path.write_text(
        "red.png\nA red picture, flat.\nRed all over.\n\n"
        "gone.png\nNobody sees this.\n\n\n"
        "a line of another form\nand one more\n\n"
        "blue.png\nA blue picture.\n"
    )
    stream = read_entries(path)
    assert list(stream) == [
        Entry("red.png", str(pictures / "red.png"), ("A red picture, flat.", "Red all over.")),
        Entry("blue.png", str(pictures / "blue.png"), ("A blue picture.",)),
    ]
    assert [item.location for item in stream.quarantine] == [
        f"{path}, line {number}" for number in (5, 9)
    ]
    assert [pair.id for pair in read_pairs(path)] == ["red.png", "blue.png"]


def test_example_leaves_other_sources_alone(
    notebook_reader: readers.SourceReader, tmp_path: Path
) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("id\ttext\n1\tone\n2\ttwo\n")
    assert not notebook_reader.recognizes(path, path.read_bytes())
    assert [entry.text for entry in read_entries(path)] == ["one", "two"]
