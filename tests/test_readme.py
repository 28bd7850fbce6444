"""Both READMEs, run as a newcomer would run them after `make demo`: commands, snippets, data lines,
links."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ravlm.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def after_demo(made_demo: tuple[Path, Any], tmp_path: Path) -> Path:
    """The place where `make demo` was run: a copy of what it left."""
    shutil.copytree(made_demo[0], tmp_path / "demo")
    return tmp_path


def run(command: list[str], where: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", READMES)
def test_it_begins_with_the_two_commands(name: str) -> None:
    first = blocks(name, "bash")[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]
    before = (ROOT / name).read_text(encoding="utf-8").split("```bash")[0]
    assert len(before.splitlines()) <= 3, "only the title stands before them"
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\ndemo:" in targets
    assert "\ntest:" in targets


@pytest.mark.parametrize("name", READMES)
def test_commands_run(name: str, after_demo: Path) -> None:
    """Commands that are in both READMEs run once, and need nothing of the others."""
    (commands,) = blocks(name, "bash")[1:]
    lines = commands.splitlines()
    if name != READMES[0]:
        (english,) = blocks(READMES[0], "bash")[1:]
        lines = [line for line in lines if line not in english.splitlines()]
    assert len(lines) >= 4
    out = run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], after_demo)
    assert "motorcycle" in out or "temple" in out
    assert "猫" in out
    if name == READMES[0]:
        assert '"entries": 31' in out
        assert "Sound" in out


@pytest.mark.parametrize("name", READMES)
def test_snippet_runs(name: str, after_demo: Path) -> None:
    (snippet,) = blocks(name, "python")
    out = run([sys.executable, "-c", snippet], after_demo)
    assert out.splitlines()[0].endswith("motorcycle")
    assert "['cat'" in out.replace("(", "[")


@pytest.mark.parametrize("name", READMES)
def test_data_lines_are_what_the_reader_takes(name: str, tmp_path: Path) -> None:
    from PIL import Image

    from ravlm import read_entries

    (lines,) = blocks(name, "json")
    (tmp_path / "entries.jsonl").write_text(lines, encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.jpg")
    stream = read_entries(tmp_path / "entries.jsonl")
    first, second = list(stream)
    assert stream.quarantine == []
    assert (first.id, first.metadata) == ("cat", {"year": 2011})
    assert second.image is None
    assert [json.loads(line)["id"] for line in lines.splitlines()] == ["cat", "note-1"]


@pytest.mark.parametrize("name", READMES)
def test_what_is_named_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", text):
        assert (ROOT / link).exists(), link
    assert set(re.findall(r"`ravlm (\w+)", text)) <= set(COMMANDS)
    for verb in set(COMMANDS):
        assert re.search(rf"\b{verb}\b", text), f"{verb} is not in {name}"


def test_examples_run(pictures: Path, tmp_path: Path) -> None:
    (pictures / "red.txt").write_text("Name: red square\nA red square on a wall.")
    examples = sorted((ROOT / "examples").glob("*.py"))
    arguments = {
        "ask_your_pictures": [pictures, pictures / "red.png", "What is this?"],
        "find_lookalikes": [pictures, 0.1],
        "tune_encoder": [_pairs(tmp_path), tmp_path / "encoder"],
        "tune_generator": [*_tuning(pictures, tmp_path), tmp_path / "adapter", "What is red?"],
    }
    assert {example.stem for example in examples} == set(arguments)
    for example in examples:
        out = run(
            [sys.executable, str(example), *map(str, arguments[example.stem])], pictures.parent
        )
        expected = {"tune_encoder": "R@1", "tune_generator": "answers: right"}
        assert expected.get(example.stem, "red") in out
    assert (tmp_path / "encoder" / "README.md").is_file()
    assert (tmp_path / "adapter" / "README.md").is_file()


def _pairs(folder: Path) -> Path:
    """Return a file of twelve pictures with captions."""
    from PIL import Image

    rows = []
    for i in range(12):
        Image.new("RGB", (16, 16), (20 * i, 255 - 20 * i, 90)).save(folder / f"{i}.png")
        rows.append(json.dumps({"image": f"{i}.png", "text": f"picture number {i}"}))
    (folder / "pairs.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder / "pairs.jsonl"


def _tuning(pictures: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Return a tiny chat model, questions about the pictures and a base of them."""
    from ravlm import KnowledgeBase, read_entries
    from tests.helpers.chat_checkpoints import qwen2

    row = {"question": "What is red?", "answer": "red square"}
    (folder / "questions.jsonl").write_text(f"{json.dumps(row)}\n" * 8, encoding="utf-8")
    KnowledgeBase.build(folder / "kb", read_entries(pictures)).close()
    return qwen2(folder / "model"), folder / "questions.jsonl", folder / "kb"
