"""Control characters of entries, file names and errors on the terminal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from ravlm.cli import main
from ravlm.cli.calibration import CalibrationProgress
from ravlm.cli.output import Progress, print_json
from ravlm.cli.terminal import unfiltered, visible, visible_output
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.milvus.address import parse_address
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder

ATTACKS = {
    "clear the screen": "\x1b[2J",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "one-character CSI": "\x9b2J",
    "overwrite the line": "\r",
    "erase": "\x08\x08\x08",
    "bell and delete": "\x07\x7f",
    "reversed text": "\u202egpj.exe",
    "isolated text": "\u2066\u2067",
    "line separator of C1": "\x85",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_control_characters_are_shown(attack: str) -> None:
    escaped = visible(f"a cat{attack}.")
    assert all(character.isprintable() for character in escaped)
    assert escaped.startswith("a cat\\")
    assert visible(escaped) == escaped


@pytest.mark.parametrize("text", ["a cat\n\tname: 猫", "می\u200cخواهم \u200fعربي", "👩\u200d🚀 é"])
def test_text_of_all_scripts_stays(text: str) -> None:
    assert visible(text) == text


def test_entries_cannot_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An entry with an escape sequence cleared the screen of who searched for it, set the clipboard
    or drew a false prompt."""
    attack = "".join(ATTACKS.values())
    with KnowledgeBase.build(
        tmp_path / "kb", [Entry("cat", None, (f"cat{attack}",))], FakeEncoder()
    ) as kb:
        found = kb.search(text="cat", k=1)[0]
    assert found.entry.text == f"cat{attack}", "the base keeps what it was given"
    with visible_output():
        print(found.entry.text)
        print(f"There is no entry {attack!s}.", file=sys.stderr)
        print_json({"text": found.entry.text})
    printed = capsys.readouterr()
    lines = printed.out.split("\n")
    assert all(c.isprintable() for c in "".join(lines) + printed.err.replace("\n", ""))
    assert json.loads(lines[-2]) == {"text": f"cat{attack}"}, "JSON escapes it without loss"


def test_errors_and_usage_are_filtered(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = sys.stdout, sys.stderr
    assert main(["search", "no\x1b[2Jwhere\x9b", "--text", "cat"]) == 1
    assert main(["sea\x1b]0;x\x07rch"]) == 2
    assert (sys.stdout, sys.stderr) == (out, err)
    printed = capsys.readouterr().err
    assert "\\x1b[2J" in printed
    assert not {"\x1b", "\x9b", "\x07"} & set(printed)


def test_progress_still_overwrites_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with visible_output():
        assert unfiltered(sys.stderr) is terminal
        with Progress("entries") as progress:
            progress.last_time -= 2
            progress.show(10, 20)
    assert terminal.getvalue().startswith("\r10 of 20 entries")


def test_a_calibration_ends_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    times = iter([0.0, 0.5, 2.0, 4.0, 10.0, 10.5])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    progress = CalibrationProgress()
    for num_done in (8, 16, 24):
        progress(num_done, 24)
    progress(4, 4)  # the next one, done at once
    assert terminal.getvalue().count("\r") == 2
    assert terminal.getvalue().endswith(
        "24 of 24 images to calibrate the base, 6 per second, 0 s left   \n"
    )


PASSWORDS = [
    "milvus://root:s3cret@host:x/photos",
    "milvus://root:s3cret@host:19530/9photos",
    "milvus://root:s3cret@host:19530/photos?consistency=maybe",
    "milvus://root:s3cret@host:19530/photos?mode=x",
    "milvus://root:s3cret/19530@host/photos",
    "milvus://root:s3cret@/photos",
    "milvus://root:s3cret#@host:19530/photos",
    "milvus://root:[s3cret@host:19530/photos",
    "milvos://root:s3cret@host:19530/photos",
]


@pytest.mark.parametrize("address", PASSWORDS)
def test_errors_show_no_password(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`"milvus://root:s3cret@host:x/photos" names no server` went to logs and bug reports."""
    assert main(["info", address]) == 1
    printed = "".join(capsys.readouterr())
    assert "s3cret" not in printed
    assert printed.startswith("ravlm: ")


def test_no_record_shows_a_password() -> None:
    address = parse_address("milvus://root:s3cret@host:19530/photos")
    assert address.password == "s3cret"
    assert "s3cret" not in f"{address} {address!r} {address.text}"
