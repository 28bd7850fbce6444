"""Text that is not UTF-8, in arguments and on standard input: a sentence, and nothing is lost."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ravlm import KnowledgeBase, RetrievalAugmentedVLM
from ravlm.cli.output import print_json
from ravlm.errors import InvalidInput
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder

LATIN_1 = b"Wei\xdfer Turm"


def test_line_that_is_not_utf8_does_not_stop_the_list(ravlm: Any, kb: Path) -> None:
    """A Latin-1 line was a traceback, and the questions after it were not answered."""
    questions = b"red wall\r\n" + LATIN_1 + b"\n\n\xef\xbb\xbfblue wall\n"
    code, out, err = ravlm("search", kb, "--text", "-", "-k", 1, "--json", stdin=questions)
    assert code == 0
    assert [json.loads(line)["query"] for line in out.splitlines()] == ["red wall", "blue wall"]
    assert (
        err.strip()
        == r'The line "Wei\xdfer Turm" is not UTF-8 and was skipped; save the text as UTF-8.'
    )


def test_ids_from_stdin_keep_their_blanks(ravlm: Any, kb: Path) -> None:
    row = '{"id": "quay ", "text": "a quay"}\n{"id": "quay", "text": "no blank"}\n'
    ravlm("add", kb, "-", stdin=row)
    code, out, _ = ravlm("remove", kb, "-", "--json", stdin="quay \r\n")
    assert (code, json.loads(out)["removed"]) == (0, 1)
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        assert "quay" in base


def test_argument_that_is_not_utf8_is_a_sentence(ravlm: Any, kb: Path) -> None:
    """Python decodes bytes of another encoding to surrogates; the tokenizer raised a TypeError."""
    argument = os.fsdecode(LATIN_1)
    code, _, err = ravlm("search", kb, "--text", argument)
    assert code == 2
    assert r'--text: "Wei\xdfer Turm" is not UTF-8' in err
    code, _, err = ravlm("ask", kb, argument)
    assert code == 2
    code, _, err = ravlm("search", os.fsdecode(b"/nowhere/\xdf"), "--text", "red")
    assert code == 1  # a path may have any bytes
    assert "no knowledge base" in err.lower()


@pytest.mark.parametrize("encoding", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_chinese_argument_in_a_c_locale(encoding: dict[str, str]) -> None:
    """Without UTF-8 mode, an argument in Chinese was a traceback."""
    code = (
        "import sys; from ravlm.cli.stdin import utf8_argument as u; print(ascii(u(sys.argv[1])))"
    )
    environment = os.environ | {"PYTHONCOERCECLOCALE": "0"} | encoding
    command = [sys.executable, "-c", code, "灯塔".encode()]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ascii("灯塔")


def test_json_is_valid_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an ASCII terminal, `é` was printed as \\xe9, which is no JSON."""
    values = {"text": "café 灯塔 🏮"}
    for encoding in ("ascii", "latin-1", "utf-8"):
        buffer = io.BytesIO()
        stdout = io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", stdout)
        print_json(values)
        monkeypatch.undo()
        assert json.loads(buffer.getvalue().decode(encoding)) == values
        assert ("é".encode() in buffer.getvalue()) == (encoding == "utf-8")


def test_library_refuses_half_a_surrogate_pair(tmp_path: Path) -> None:
    base = KnowledgeBase.build(tmp_path / "kb", [Entry("a", None, ("red",))], FakeEncoder())
    with base, pytest.raises(InvalidInput, match="character 4 is half of a surrogate pair"):
        base.search(text="caf\udce9")
    with KnowledgeBase.open(tmp_path / "kb", FakeEncoder()) as base:
        model = RetrievalAugmentedVLM(base)
        for ask in (model.ask, lambda text: model.chat([{"role": "user", "content": text}])):
            with pytest.raises(InvalidInput, match="not valid Unicode"):
                ask("caf\udce9?")  # type: ignore[operator]
