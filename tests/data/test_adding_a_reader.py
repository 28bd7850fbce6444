"""The example of docs/adding-a-reader.md works as it is printed there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from ravlm import read_entries, read_pairs
from ravlm.data import readers
from ravlm.records import Entry
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "adding-a-reader.md"


@pytest.fixture
def token_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> readers.Reader:
    """The page's module, entered into READERS before the others."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len(code.splitlines()) < 60
    (tmp_path / "token.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ravlm_example_token", tmp_path / "token.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader = readers.Reader(module.recognises, module.rows)
    monkeypatch.setattr(readers, "READERS", {"captions with numbers": reader, **readers.READERS})
    return reader


def test_example(token_reader: readers.Reader, pictures: Path) -> None:
    pictures.rename(pictures.parent / "images")
    path = pictures.parent / "captions.token"
    path.write_text(
        "red.png#0\tA red picture .\n"
        "red.png#1\tRed all over .\n"
        "gone.png#0\tNobody sees this .\n"
        "a line of another form\n"
        "and one more\n"
        "blue.png#0\tA blue picture .\n"
    )
    red, blue = (str(pictures.parent / "images" / name) for name in ("red.png", "blue.png"))
    stream = read_entries(path)
    assert list(stream) == [
        Entry("red.png", red, ("A red picture .", "Red all over .")),
        Entry("blue.png", blue, ("A blue picture .",)),
    ]
    assert [refused.place for refused in stream.quarantine] == [f"{path}, line {number}" for number in (3, 4, 5)]
    assert [pair.id for pair in read_pairs(path)] == ["red.png", "blue.png"]


def test_example_leaves_other_sources_alone(token_reader: readers.Reader, tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("id\ttext\n1\tone\n2\ttwo\n")
    assert not token_reader.recognises(path, path.read_bytes())
    assert [entry.text for entry in read_entries(path)] == ["one", "two"]
