"""Checks of command-line results."""

from __future__ import annotations


def assert_fails(result: tuple[int, str, str], *words: str, code: int = 1) -> None:
    """Check the exit code, and that one sentence on stderr contains these words."""
    exit_code, _, err = result
    last_line = err.strip().splitlines()[-1]
    assert exit_code == code, err
    assert last_line.startswith("ravlm: ")
    assert "Traceback" not in err
    for word in words:
        assert word in last_line
