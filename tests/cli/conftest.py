"""A command runner, and a small knowledge base of images and texts."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ravlm.cli import main
from tests.helpers.fakes import FakeEncoder

Result = tuple[int, str, str]


"""Exit code, stdout and stderr."""


@pytest.fixture(autouse=True)
def fake_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace "starter" by the fake encoder; "other" is one with different vectors. Folders load as
    usual."""
    from ravlm.encoders import auto

    original = auto.load_encoder
    fakes = {"starter": FakeEncoder("starter"), "other": FakeEncoder("other", seed=7)}
    monkeypatch.setattr(auto, "load_encoder", lambda name: fakes.get(str(name)) or original(name))


@pytest.fixture
def ravlm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a command line and returns exit code, stdout and stderr."""

    def run(*arguments: object, stdin: str | bytes = "") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def source(pictures: Path) -> Path:
    rows = [
        {"id": "red", "image": "red.png", "text": "Name: red square\nKind: shape", "year": 1990},
        {"id": "blue", "image": "blue.png", "text": "Name: blue square\nKind: shape", "year": 2020},
        {"id": "note", "text": "a fluffy orange cat"},
        {"id": "笔记", "text": "一只毛茸茸的橘猫"},
    ]
    path = pictures / "entries.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return path


@pytest.fixture
def kb(ravlm: Any, source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "kb"
    code, out, err = ravlm("build", folder, source)
    assert code == 0, err
    assert "4 added" in out
    return folder
