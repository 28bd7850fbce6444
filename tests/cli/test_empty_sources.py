"""Empty files and folders: a sentence that names them, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import assert_fails


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "generator", "--pairs", "EMPTY", "--out", "out"),
        ("train", "encoder", "--pairs", "EMPTY", "--out", "out"),
        ("train", "language", "--texts", "EMPTY", "--out", "out"),
    ],
    ids=lambda arguments: arguments[1],
)
def test_an_empty_training_file_is_named(
    ravlm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """`train generator` said that no word occurs four times in the texts."""
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").touch()
    Path("photos").mkdir()
    for source, kind in (("pairs.jsonl", "file"), ("photos", "folder")):
        command = [source if argument == "EMPTY" else argument for argument in arguments]
        assert_fails(ravlm(*command), f'The {kind} "{source}" is empty')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl", "photos"]


def test_pairs_that_are_all_refused_are_explained(ravlm: Any, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"image": "gone.jpg", "text": "a cat"}\n', encoding="utf-8")
    run = ravlm("train", "generator", "--pairs", pairs, "--out", tmp_path / "out")
    assert_fails(run, "no pair of an image and a text", "line 1", "gone.jpg")


@pytest.mark.parametrize("existing", ["nothing", "empty folder", "earlier demo"])
def test_a_demo_without_images_leaves_nothing(ravlm: Any, tmp_path: Path, existing: str) -> None:
    """`demo --data emptydir` left a folder with an empty base, which the next one stumbled over."""
    data, out = tmp_path / "data", tmp_path / "a" / "demo"
    data.mkdir()
    if existing != "nothing":
        out.mkdir(parents=True)
    if existing == "earlier demo":
        (out / ".made-by-ravlm-demo").touch()
        (out / "kb").mkdir()
        (out / "kb" / "store").touch()
    before = sorted(tmp_path.rglob("*"))
    assert_fails(ravlm("demo", "--data", data, "--out", out), "contain no images")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_demo_of_unreadable_images_leaves_nothing(tmp_path: Path) -> None:
    from ravlm.demo import run_demo
    from ravlm.errors import RavlmError
    from tests.helpers.fakes import FakeEncoder

    data = tmp_path / "data"
    data.mkdir()
    (data / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    for out in (tmp_path / "new" / "demo", tmp_path / "old"):
        if out.name == "old":
            out.mkdir()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(RavlmError, match=r"broken.jpg|no image"):
            run_demo(out, data, encoder=FakeEncoder())
        assert sorted(tmp_path.rglob("*")) == before
