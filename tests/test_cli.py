"""The command line: each verb on a small base, `--json`, `-`, exit codes, and a clear sentence for
every bad input."""

from __future__ import annotations

import array
import fcntl
import io
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
import zlib
from pathlib import Path
from typing import IO, Any

import pytest

from ravlm.cli import main
from ravlm.cli.commands import COMMANDS
from ravlm.cli.output import shorten, wrap
from tests.helpers.fakes import FakeEncoder

Ran = tuple[int, str, str]


@pytest.fixture(autouse=True)
def fake_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "starter" is the fake encoder here, "other" one that gives other vectors; folders load as
    they do."""
    from ravlm.encoders import auto

    real = auto.load_encoder
    fakes = {"starter": FakeEncoder("starter"), "other": FakeEncoder("other", seed=7)}
    monkeypatch.setattr(auto, "load_encoder", lambda name: fakes.get(str(name)) or real(name))


@pytest.fixture
def ravlm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command line; gives exit code, stdout and stderr."""

    def run(*arguments: object, stdin: str | bytes = "") -> Ran:
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


def refused(ran: Ran, *words: str, code: int = 1) -> None:
    """Exit code `code` and one sentence on stderr that has these words."""
    got, _, err = ran
    last = err.strip().splitlines()[-1]
    assert got == code, err
    assert last.startswith("ravlm: ")
    assert "Traceback" not in err
    for word in words:
        assert word in last


# what it does


def test_search_by_words_picture_and_filter(ravlm: Any, kb: Path, pictures: Path) -> None:
    code, out, _ = ravlm("search", kb, "--text", "red", "--modality", "image", "-k", 2)
    assert code == 0
    assert [line.split()[3] for line in out.splitlines()] == ["red", "blue"]
    code, out, _ = ravlm(
        "search", kb, "--image", pictures / "blue.png", "--where", "year >= 2000", "--json"
    )
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["blue"]
    assert json.loads(out)["metadata"] == {"year": 2020}
    assert json.loads(out)["image"] == str(pictures / "blue.png")


def test_searches_from_stdin(ravlm: Any, kb: Path, pictures: Path) -> None:
    code, out, _ = ravlm(
        "search", kb, "--text", "-", "-k", 1, "--json", stdin="fluffy cat\n\n毛茸茸的橘猫\n"
    )
    assert code == 0
    assert [json.loads(line)["query"] for line in out.splitlines()] == [
        "fluffy cat",
        "毛茸茸的橘猫",
    ]
    picture = (pictures / "red.png").read_bytes()
    code, out, _ = ravlm("search", kb, "--image", "-", "-k", 1, "--json", stdin=picture)
    assert json.loads(out)["id"] == "red"


def test_add_remove_info_verify(ravlm: Any, kb: Path, pictures: Path) -> None:
    row = json.dumps({"id": "green", "image": str(pictures / "green.png")})
    code, out, _ = ravlm("add", kb, "-", "--json", stdin=row + "\n")
    assert (code, json.loads(out)["added"], json.loads(out)["entries"]) == (0, 1, 5)
    code, out, _ = ravlm("remove", kb, "-", "red", "--json", stdin="green\nnowhere\n")
    assert (code, json.loads(out)) == (0, {"removed": 2, "entries": 3})
    code, out, _ = ravlm("info", kb, "--json")
    assert (code, json.loads(out)["entries"]) == (0, 3)
    assert ravlm("info", kb)[1].count("\n") == len(json.loads(out))
    code, out, _ = ravlm("verify", kb, "--json")
    assert (code, json.loads(out)["sound"]) == (0, True)


def test_optimize_compact_reencode(ravlm: Any, kb: Path) -> None:
    code, out, _ = ravlm("optimize", kb, "--json")
    assert (code, json.loads(out)) == (0, {"entries": 4})
    ravlm("remove", kb, "note")
    code, out, _ = ravlm("compact", kb, "--json")
    assert code == 0
    assert json.loads(out)["bytes"] <= json.loads(out)["bytes_before"]
    code, out, _ = ravlm("reencode", kb, "--encoder", "other", "--json")
    assert (code, json.loads(out)["encoder"], json.loads(out)["entries"]) == (0, "other", 3)
    assert [
        json.loads(line)["id"]
        for line in ravlm("search", kb, "--text", "red", "-k", 1, "--json")[1].splitlines()
    ]


def test_export_and_import_into_a_new_base(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    code, out, _ = ravlm("export", kb, tmp_path / "out", "--json")
    assert (code, json.loads(out)["entries"]) == (0, 4)
    refused(ravlm("export", kb, tmp_path / "out"), "out")
    new = tmp_path / "new"
    refused(ravlm("import", new, tmp_path / "nowhere"), "nowhere")
    assert not new.exists()
    code, out, _ = ravlm("import", new, tmp_path / "out", "--json")
    assert (code, json.loads(out)["entries"]) == (0, 4)
    assert "red square" in ravlm("search", new, "--text", "red", "-k", 1, "--modality", "text")[1]


def test_build_again_adds_what_is_missing(ravlm: Any, kb: Path, source: Path) -> None:
    with source.open("a") as file:
        file.write('{"id": "more", "text": "one more"}\n')
    code, out, _ = ravlm("build", kb, source, "--json")
    assert (code, json.loads(out)["added"], json.loads(out)["entries"]) == (0, 1, 5)


def test_ask_caption_tell_chat(ravlm: Any, kb: Path, pictures: Path) -> None:
    red, blue = pictures / "red.png", pictures / "blue.png"
    code, out, _ = ravlm("ask", kb, "What is in the picture?", "--image", red, "--json")
    answer = json.loads(out)
    assert code == 0
    assert {"text", "citations", "confidence", "abstained", "evidence", "trace"} <= set(answer)
    assert answer["evidence"][0]["id"] == "red"
    code, out, _ = ravlm(
        "ask", kb, "-", "--image", red, "--json", stdin="What is it?\n它是什么？\n"
    )
    assert (code, len(out.splitlines())) == (0, 2)
    code, out, _ = ravlm("caption", kb, red, blue)
    assert code == 0
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(red), str(blue)]
    assert ravlm("tell", kb, blue)[0] == 0
    code, out, _ = ravlm(
        "chat", kb, blue, "--json", stdin="What is it?\nAnd what kind is it?\n\nnever read\n"
    )
    assert (code, len(out.splitlines())) == (0, 2)


def test_closed_book_is_allowed(ravlm: Any, kb: Path, pictures: Path) -> None:
    """k = 0 is the closed book on the same path: an answer without evidence, and no error."""
    code, out, _ = ravlm(
        "ask", kb, "What is it?", "--image", pictures / "red.png", "-k", 0, "--json"
    )
    assert (code, json.loads(out)["evidence"]) == (0, [])


def test_k_larger_than_the_base_returns_all(ravlm: Any, kb: Path) -> None:
    code, out, _ = ravlm("search", kb, "--text", "red", "-k", 1000)
    assert (code, len(out.splitlines())) == (0, 4)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"ravlm {name}" in text.split("examples:")[1]
    assert "--json" in text or COMMANDS[name].kinds
    for kind in COMMANDS[name].kinds:
        with pytest.raises(SystemExit):
            main([name, kind, "--help"])
        text = capsys.readouterr().out
        assert "--json" in text
        assert f"ravlm {name} {kind}" in text.split("examples:")[1]


def test_lines_are_measured_in_terminal_columns() -> None:
    """Chinese takes two columns a character; no line begins with a stop or a mark."""
    assert wrap("a striped cat looks past", 10) == ["a striped", "cat looks", "past"]
    assert wrap("一只猫。[1]它睡了。", 8) == ["一只", "猫。[1]", "它睡了。"]
    assert wrap("unbreakable", 4) == ["unbreakable"]
    assert wrap("", 4) == [""]
    assert shorten("Name: cat\n\nKind: animal", 40) == "Name: cat · Kind: animal"
    assert shorten("一只毛茸茸的橘猫", 11) == "一只毛茸茸…"


# what it refuses


def test_wrong_usage_is_exit_code_2(ravlm: Any, kb: Path) -> None:
    refused(ravlm("serach", kb), 'no command "serach"', 'Did you mean "search"', code=2)
    refused(ravlm(), "ravlm demo", code=2)
    refused(ravlm("search", kb), "--text", code=2)
    refused(ravlm("search", kb, "--text", "red", "-k", "two"), "two", code=2)
    refused(ravlm("search", kb, "--tetx", "red"), "--tetx", code=2)
    refused(ravlm("search", kb, "--text", "-", "--image", "-"), "stdin", code=2)
    refused(ravlm("ask", kb), "QUESTION", code=2)
    refused(ravlm("tell", kb), "--prompt", code=2)


def test_bad_searches(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    refused(ravlm("search", kb, "--text", "red", "-k", 0), "k is 0")
    refused(ravlm("search", kb, "--text", ""), "empty")
    refused(ravlm("search", kb, "--text", "red", "--where", "year >="), "year >=")
    refused(ravlm("search", kb, "--image", tmp_path / "none.png"), "none.png")
    refused(ravlm("search", kb, "--image", "-"), "empty")
    refused(ravlm("search", tmp_path / "nowhere", "--text", "red"), "nowhere")
    refused(ravlm("ask", kb, "What?", "--generator", "oracle"), "oracle", "extractive")


def huge_png() -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels."""
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(1000)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


BAD_PICTURES = {
    "words.jpg": (b"these are words", "not a picture"),
    "nothing.png": (b"", "empty"),
    "huge.png": (huge_png(), "too many pixels"),
    "cut.png": (b"\x89PNG\r\n\x1a\n\x00\x00", "cut.png"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_alone_makes_no_base(ravlm: Any, tmp_path: Path, name: str) -> None:
    content, why = BAD_PICTURES[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    ran = ravlm("build", tmp_path / "kb", tmp_path / "in")
    refused(ran)
    assert name in ran[2]
    assert why in ran[2]
    assert not (tmp_path / "kb").exists()


def test_an_empty_folder_stays_when_nothing_could_be_stored(ravlm: Any, tmp_path: Path) -> None:
    (tmp_path / "kb").mkdir()
    refused(
        ravlm("build", tmp_path / "kb", "-", stdin='{"image": "nowhere.png"}\n'), "no base was made"
    )
    assert list((tmp_path / "kb").iterdir()) == []


def test_bad_pictures_beside_good_ones_are_named_and_counted(
    ravlm: Any, pictures: Path, tmp_path: Path
) -> None:
    for name, (content, _) in BAD_PICTURES.items():
        (pictures / name).write_bytes(content)
    code, out, _ = ravlm("build", tmp_path / "kb", pictures, "--json")
    report = json.loads(out)
    assert (code, report["added"], len(report["quarantined"])) == (0, 4, 4)
    for name in BAD_PICTURES:
        assert any(
            name in item["place"] or name in item["reason"] for item in report["quarantined"]
        )
    assert "4 in quarantine" in ravlm("build", tmp_path / "kb", pictures)[1]


def test_bad_sources(ravlm: Any, tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    (tmp_path / "empty").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "columns.csv").write_text("colour,size\nred,3\n")
    (tmp_path / "lines.jsonl").write_text("this is not JSON\n")
    for name in ("nowhere.jsonl", "empty", "papers", "columns.csv", "lines.jsonl"):
        ran = ravlm("build", kb, tmp_path / name)
        refused(ran)
        assert name in ran[2]
        assert not kb.exists()
    ran = ravlm("build", kb, "-", stdin="")
    refused(ran)
    assert not kb.exists()


def test_a_failed_source_leaves_the_base_as_it_was(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(ravlm("add", kb, tmp_path / "empty"), "empty")
    refused(ravlm("build", kb, tmp_path / "nowhere"), "nowhere")
    assert json.loads(ravlm("info", kb, "--json")[1])["entries"] == 4


def test_duplicate_ids_go_to_quarantine(ravlm: Any, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "the first"},
        {"id": "a", "text": "the second"},
        {"id": "b", "text": "another"},
    ]
    source = "".join(json.dumps(row) + "\n" for row in rows)
    code, out, _ = ravlm("build", tmp_path / "kb", "-", "--json", stdin=source)
    report = json.loads(out)
    assert (code, report["added"], len(report["quarantined"])) == (0, 2, 1)
    assert "a" in report["quarantined"][0]["reason"]
    assert "the first" in ravlm("search", tmp_path / "kb", "--text", "the first", "-k", 1)[1]


def test_encoders_that_do_not_fit(ravlm: Any, kb: Path, source: Path, tmp_path: Path) -> None:
    refused(ravlm("build", kb, source, "--encoder", "other"), "other", "reencode")
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text('{"architecture": "generator of another kind"}')
    refused(ravlm("build", tmp_path / "new", source, "--encoder", strange), "strange")
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(
    ravlm: Any, source: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "mine"
    precious.mkdir()
    (precious / "diary.txt").write_text("dear diary")
    refused(ravlm("build", precious, source), "mine")
    refused(ravlm("demo", "--out", precious), "mine")
    assert [path.name for path in precious.iterdir()] == ["diary.txt"]


def test_what_the_system_refuses_is_a_sentence(ravlm: Any, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused(ravlm("build", tmp_path / "file" / "kb", source), "file")


def test_a_reader_that_has_enough_is_no_error(kb: Path) -> None:
    """`ravlm info kb | head -1` once ended in a traceback when the pipe closed."""
    command = f"{sys.executable} -m ravlm.cli info {kb} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def waiting_to_be_read(pipe: IO[str]) -> int:
    """Bytes in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_ctrl_c_is_130_and_a_sentence(tmp_path: Path) -> None:
    """Ctrl-C while a command waits for its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ravlm.cli", "remove", str(tmp_path), "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write("an-id\n")
    process.stdin.flush()
    while waiting_to_be_read(
        process.stdin
    ):  # while it is still being loaded, Ctrl-C may fall into nobody's hands
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.startswith("ravlm: Stopped.")
    assert "Traceback" not in err
