"""Readers without write permission see every change of the owner, and never half of one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import Busy
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.local import readers
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder
from tests.helpers.kill_writers import REPOSITORY, environment, vector_of

# Counts the entries and the stored texts that SQLite still finds whole, at each line of input.
READER = """
import os, sys
from pathlib import Path
from ravlm.knowledge.local.store import SqliteStore
os.setgid(65534)
os.setuid(65534)
store = SqliteStore(Path(sys.argv[1]))
assert not store.writable
for line in sys.stdin:
    with store.reading() as db:
        print(store.count(), sum(len(row.texts) > 3000 for row in store.rows()), flush=True)
"""


def add(base: KnowledgeBase, numbers: range) -> None:
    """Add texts of 3 kB, so that a checkpoint rewrites many pages."""
    entries = [Entry(f"{i}", None, (f"text {i} " + "x" * 3000,)) for i in numbers]
    vectors = np.stack([vector_of(f"{i}", 0) for i in numbers])
    base.add(entries, vectors={"text": vectors})


@pytest.fixture
def folder() -> Iterator[Path]:
    """A closed base of 40 entries in a folder that everybody may read."""
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    with KnowledgeBase.build(parent / "kb", [], encoder=FakeEncoder()) as base:
        add(base, range(40))
    yield parent / "kb"
    shutil.rmtree(parent)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs a second user")
def test_a_user_without_permission_sees_each_change_of_the_owner(folder: Path) -> None:
    """The file was opened as immutable for good: six of six such readers went on with what they had
    read before, or called the base damaged once the owner had folded the log into the file."""
    command = [sys.executable, "-c", READER, str(folder)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def counts() -> str:
            reader.stdin.write("\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert counts() == "40 40"
        with KnowledgeBase.open(folder) as base:
            add(base, range(40, 70))
            assert counts() == "70 70"
            base.remove([f"{i}" for i in range(20)])
            assert counts() == "50 50"
            base.compact()
            assert counts() == "50 50"
            add(base, range(70, 80))
        assert counts() == "60 60"
        with KnowledgeBase.open(folder) as base:
            base.remove([f"{i}" for i in range(20, 40)])
            base.optimize()
            base.compact()
        assert counts() == "40 40"
        reader.stdin.close()
        assert reader.wait() == 0


def test_a_state_that_changes_while_it_is_read_without_locks_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the pages are old and half are new: the search fails, and the next one sees all."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        reader = KnowledgeBase.open(folder, FakeEncoder())
    query = {"vector": vector_of("3", 0), "k": 100}
    assert len(reader.search(**query)) == 40

    def search_meanwhile() -> None:
        with reader._backend.searcher() as searcher:
            (candidates,) = searcher.nearest("text", np.ones((1, 64), np.float32), 100, None)
            assert len(candidates.ranking.parts) == 40
            with KnowledgeBase.open(folder) as owner:
                add(owner, range(40, 60))
                owner.remove(["0", "1"])

    with pytest.raises(Busy, match="Another process wrote to the knowledge base"):
        search_meanwhile()
    assert len(reader.search(**query)) == 58
    assert reader.count() == 58
    reader.close()


def test_a_log_that_vanishes_while_it_is_opened_is_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner closes the base between the look for its log and the opening of the file."""
    owner = KnowledgeBase.open(folder)
    owner.remove(["7"])
    connect = readers.connect
    options: list[str] = []

    def connect_late(file: Path, option: str = "") -> object:
        options.append(option)
        if len(options) == 1:
            owner.close()
            file = file.with_name("gone")  # root may open a file without its log
        return connect(file, option)

    monkeypatch.setattr(readers, "connect", connect_late)
    reader = readers.UnprivilegedReader(folder / "store.sqlite")
    with reader.transaction() as db:
        assert db.execute("SELECT COUNT(*) FROM entry").fetchone() == (39,)
    reader.close()
    assert options == ["mode=ro", "immutable=1", "immutable=1"]


def test_a_base_on_a_read_only_folder_exists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite could not create a log there, and `exists` reported a base that cannot be opened."""
    before = sorted(folder.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert KnowledgeBase.exists(folder)
    assert sorted(folder.iterdir()) == before
