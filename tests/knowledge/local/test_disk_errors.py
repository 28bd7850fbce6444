"""A full or failing disk, or one without locks, is named as such and never as damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ravlm.errors import BrokenData, Busy, DiskError, RavlmError
from ravlm.knowledge.local import sqlite_errors
from ravlm.knowledge.local.sqlite_errors import readable_errors
from tests.helpers.failing_calls import is_supported
from tests.helpers.kill_writers import REPOSITORY, environment

SETUP = """
import io, os, shutil, sys
from pathlib import Path
from PIL import Image
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.local import readers
from ravlm.records import Entry
from tests.helpers.failing_calls import FAULTS, fail
from tests.helpers.fakes import FakeEncoder
readers.WAIT_SECONDS = 0.1
root = Path(sys.argv[1])
def picture(shade):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 9, 90)).save(file, "PNG")
    return file.getvalue()
entries = [Entry(f"{i}", picture(i), (f"text {i}",)) for i in range(9)]
VERBS = {
    "picture": lambda base: base.add([Entry("p", picture(200))]),
    "remove": lambda base: base.remove(["4"]),
    "optimize": lambda base: base.optimize(),
    "export": lambda base: base.export_to(root / "again"),
    "import": lambda base: base.import_from(root / "export"),
    "search": lambda base: base.search(text="text 5"),
}
def attempt(verb, folder, fault=None):
    try:
        if fault == "no locks":  # SQLite tries for 10 s to lock a log that is open
            fail(FAULTS[fault])
        with KnowledgeBase.open(folder, FakeEncoder()) as base:
            if fault is not None:
                fail(FAULTS[fault])
            VERBS[verb](base)
        print("done", flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).replace(chr(10), " "), flush=True)
"""
# Runs each verb in a process whose calls fail, and then looks at what is left of the base.
FAULTY = f"""{SETUP}
with KnowledgeBase.build(root / "kb", entries, FakeEncoder()) as base:
    base.optimize()
    base.export_to(root / "export")
for name in sys.argv[2:]:
    shutil.copytree(root / "kb", root / "copy")
    for verb in VERBS:
        print(name, verb, end=" ", flush=True)
        if not os.fork():
            attempt(verb, root / "copy", name)
            os._exit(0)
        os.wait()
    with KnowledgeBase.open(root / "copy", FakeEncoder()) as base:
        assert base.verify().sound, base.verify()
        assert base.count() == 9
    shutil.rmtree(root / "copy")
"""
# Fills a disk of 1 MB with a base, then tries each verb.
FULL = f"""{SETUP}
with KnowledgeBase.build(root / "kb", entries, FakeEncoder()) as base:
    base.export_to(root / "export")
reader = KnowledgeBase.open(root / "kb", FakeEncoder())
assert reader.count() == 9
with open(root / "filling", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
for verb in VERBS:
    print("full", verb, end=" ", flush=True)
    attempt(verb, root / "kb")
reader.close()
(root / "filling").unlink()
with KnowledgeBase.open(root / "kb", FakeEncoder()) as base:
    assert base.verify().sound, base.verify()
    assert base.count() == 9
"""
SENTENCES = {
    "full": "is full",
    "quota": "is full",
    "failing": "Input/output error",
    "no locks": "does not lock files (No locks available)",
}


def run(program: str, *arguments: str, prefix: tuple[str, ...] = ()) -> list[str]:
    """Return the lines that a program prints."""
    command = [*prefix, sys.executable, "-c", program, *arguments]
    result = subprocess.run(
        command, env=environment(), cwd=REPOSITORY, text=True, capture_output=True, timeout=100
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def check(lines: list[str], unaffected: tuple[str, ...]) -> None:
    """Check that each line is a sentence for its fault."""
    for line in lines:
        fault = next(name for name in SENTENCES if line.startswith(name))
        verb, _, outcome = line.removeprefix(f"{fault} ").partition(" ")
        if verb in unaffected:
            assert outcome == "done", line
        else:
            assert outcome.startswith("DiskError"), line
            assert SENTENCES[fault] in outcome, line
            assert "damaged" not in outcome, line


@pytest.mark.skipif(not is_supported(), reason="system calls can't be made to fail here")
def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    """The text of an error was searched for words: a disk without quota, one whose fsync fails and
    one without locks were a damaged base, to be built again. An export listed the pictures that
    did not fit as missing."""
    lines = run(FAULTY, str(tmp_path), *SENTENCES)
    assert len(lines) == 24
    check([line for line in lines if not line.startswith("no locks")], ("search",))
    check([line for line in lines if line.startswith("no locks")], ())


def test_a_full_disk_is_named_with_its_free_bytes(tmp_path: Path) -> None:
    """On a real file system of 1 MB, which this process mounts for itself."""
    mount = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$0" "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount)
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    lines = run(FULL, str(tmp_path), prefix=prefix)
    assert len(lines) == 6
    check(lines, ("search",))
    assert all("(0 bytes free)" in line for line in lines if "DiskError" in line)


@pytest.mark.parametrize(
    ("name", "message", "kind", "sentence"),
    [
        ("SQLITE_CORRUPT", "database disk image is malformed", BrokenData, "damaged"),
        ("SQLITE_NOTADB", "file is not a database", BrokenData, "damaged"),
        ("SQLITE_IOERR_SHORT_READ", "disk I/O error", BrokenData, "damaged"),
        ("SQLITE_ERROR", "no such table: part", BrokenData, "damaged"),
        ("SQLITE_IOERR_FSYNC", "disk I/O error", DiskError, "fails (disk I/O error, SQLITE_IOERR"),
        ("SQLITE_IOERR_SHMLOCK", "disk I/O error", DiskError, "does not lock files"),
        ("SQLITE_PROTOCOL", "locking protocol", DiskError, "does not lock files"),
        ("SQLITE_FULL", "database or disk is full", DiskError, "bytes free"),
        ("SQLITE_BUSY_SNAPSHOT", "database is locked", Busy, "Another process"),
        ("SQLITE_READONLY_DIRECTORY", "attempt to write", RavlmError, "copy it to a folder"),
        ("SQLITE_NOMEM", "out of memory", RavlmError, "too little memory"),
        ("SQLITE_ERROR", "Expression tree is too large", RavlmError, "refuses this"),
    ],
)
def test_errors_are_distinguished_by_their_code(
    tmp_path: Path, name: str, message: str, kind: type[RavlmError], sentence: str
) -> None:
    """A folder that is named "full" or "locked" changes nothing."""
    folder = tmp_path / "locked, full, readonly"
    folder.mkdir()
    error = sqlite3.OperationalError(message)
    error.sqlite_errorname = name
    with pytest.raises(RavlmError) as raised, readable_errors(folder / "store.sqlite"):
        raise error
    assert isinstance(raised.value, kind)
    is_damage = isinstance(raised.value, BrokenData)
    assert is_damage == (kind is BrokenData)
    assert isinstance(raised.value, Busy | DiskError) == (kind in (Busy, DiskError))
    assert sentence in str(raised.value)


def test_the_fuller_of_two_disks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VACUUM writes its copy to SQLite's temporary folder, which may be on a smaller disk."""
    (tmp_path / "base").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(
        sqlite_errors, "free_bytes", lambda folder: {"temporary": 9}.get(folder.name, 99)
    )
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    with (
        pytest.raises(DiskError, match='temporary" is full'),
        readable_errors(tmp_path / "base" / "store.sqlite"),
    ):
        raise error


def test_too_many_open_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite is "unable to open database file", and the advice was to copy the base elsewhere."""

    def fail(**options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sqlite_errors.tempfile, "TemporaryFile", fail)
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorname = "SQLITE_CANTOPEN"
    with (
        pytest.raises(RavlmError, match="Too many open files"),
        readable_errors(tmp_path / "store.sqlite"),
    ):
        raise error
