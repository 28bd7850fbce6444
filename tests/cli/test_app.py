"""Help pages, usage errors, exit codes, shell completion, speed of `ravlm --help`."""

from __future__ import annotations

import array
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO, Any

import pytest

from ravlm.cli import main
from ravlm.cli.app import COMMANDS
from tests.helpers.commands import assert_fails


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"ravlm {name}" in text.split("examples:")[1]
    assert ("--json" in text) == (COMMANDS[name].json and not COMMANDS[name].kinds)
    for kind in COMMANDS[name].kinds:
        with pytest.raises(SystemExit):
            main([name, kind, "--help"])
        text = capsys.readouterr().out
        assert "--json" in text
        assert f"ravlm {name} {kind}" in text.split("examples:")[1]


def test_usage_errors_are_exit_code_2(ravlm: Any, kb: Path) -> None:
    assert_fails(ravlm("serach", kb), 'no command "serach"', 'Did you mean "search"', code=2)
    assert_fails(ravlm(), "ravlm demo", code=2)
    assert_fails(ravlm("search", kb), "--text", code=2)
    assert_fails(ravlm("search", kb, "--text", "red", "-k", "two"), "two", code=2)
    assert_fails(ravlm("search", kb, "--tetx", "red"), "--tetx", 'mean "--text"', code=2)
    assert_fails(ravlm("info", kb, "more"), '"more"', "ravlm info --help", code=2)
    assert_fails(ravlm("search", kb, "--text", "-", "--image", "-"), "stdin", code=2)
    assert_fails(ravlm("ask", kb), "QUESTION", code=2)
    assert_fails(ravlm("tell", kb), "--prompt", code=2)


def test_system_errors_are_one_sentence(ravlm: Any, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert_fails(ravlm("build", tmp_path / "file" / "kb", source), "file")


def test_a_closed_pipe_is_no_error(kb: Path) -> None:
    """`ravlm info kb | head -1` once ended in a traceback when the pipe closed."""
    command = f"{sys.executable} -m ravlm.cli info {kb} | true; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")


def num_unread_bytes(pipe: IO[str]) -> int:
    """Return the number of bytes in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_ctrl_c_is_130_and_a_sentence(tmp_path: Path) -> None:
    """Ctrl-C while a command waits for its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ravlm.cli", "remove", str(tmp_path), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdin is not None
    process.stdin.write("an-id\n")
    process.stdin.flush()
    while num_unread_bytes(
        process.stdin
    ):  # while it is still being loaded, Ctrl-C may fall into nobody's hands
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.startswith("ravlm: Stopped.")
    assert "Traceback" not in err


def test_help_is_fast_and_imports_no_torch() -> None:
    code = "import sys, ravlm.cli.app as a; a.build_parser(a.COMMANDS); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "numpy", "PIL", "shtab", "transformers"} & set(modules)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The script names every command and, where the shell is installed, parses."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "modality" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_completion_needs_a_known_shell(ravlm: Any) -> None:
    assert_fails(ravlm("completion", "dos"), "bash", code=2)
