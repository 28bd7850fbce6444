"""Three processes use one base at once with all verbs; a disk fails, and all are killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.kill_writers import REPOSITORY, environment
from tests.helpers.soak import Ledger


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_a_short_soak() -> None:
    """`make soak` is the long one."""
    command = [sys.executable, "-m", "tests.helpers.soak", "--lives", "2", "--seconds", "0.6"]
    result = subprocess.run(
        command, env=environment(), cwd=REPOSITORY, text=True, capture_output=True, timeout=100
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 lives of 3 processes" in result.stdout


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Entries a, b and c were added, a and c removed but perhaps not, and d begun."""
    log = tmp_path / "log"
    log.write_text(
        "begin add 1 a b c\ndone\n"
        "begin remove 2 a c\nrefused DiskError The disk fails.\n"
        "begin search 3 a b\ndone\n"
        "begin add 4 d\nbegin add"
    )
    ledger = Ledger()
    outcomes = ledger.read(log)
    assert outcomes == {"add": 1, "remove: DiskError": 1, "search": 1}
    return ledger


@pytest.mark.parametrize("stored", [
    {"a": 1, "b": 1, "c": 1}, {"b": 1}, {"b": 1, "d": 4}, {"a": 1, "b": 1, "c": 1, "d": 4},
])  # fmt: skip
def test_the_ledger_allows_what_was_acknowledged_or_uncertain(
    ledger: Ledger, stored: dict[str, int]
) -> None:
    ledger.check(stored)
    assert ledger.acknowledged == stored


@pytest.mark.parametrize("stored", [
    {"a": 1, "c": 1}, {"a": 1, "b": 4, "c": 1}, {"b": 1, "d": 1}, {"b": 1, "x": 1},
])  # fmt: skip
def test_the_ledger_finds_what_is_lost_or_wrong(ledger: Ledger, stored: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        ledger.check(stored)


def test_the_ledger_finds_half_of_a_change(ledger: Ledger) -> None:
    ledger.uncertain.pop()
    with pytest.raises(AssertionError, match="half of a change"):
        ledger.check({"a": 1, "b": 1})


def test_a_refused_change_may_not_undo_a_later_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("begin add 1 a\ndone\nbegin remove 2 a\nrefused Busy x\nbegin add 3 a\ndone\n")
    ledger = Ledger()
    ledger.read(log)
    with pytest.raises(AssertionError):
        ledger.check({})
    ledger.check({"a": 3})
