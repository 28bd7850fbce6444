"""Killed processes, damaged files and concurrent writers lose no acknowledged change."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import BrokenData, Busy
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.local import readers
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.helpers.kill_writers import REPOSITORY, Ledger, environment, interrupted_build, vector_of
from tests.helpers.multi_vector_fake import FakeMultiVectorEncoder
from tests.knowledge.conformance import ids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with KnowledgeBase.build(tmp_path / "kb", [], encoder=FakeEncoder()):
        return tmp_path / "kb"


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_keeps_every_acknowledged_change(tmp_path: Path, seed: int) -> None:
    """Kill three writers one after the other; half of the bases have several vectors per part."""
    encoder = FakeMultiVectorEncoder() if seed % 2 else FakeEncoder()
    KnowledgeBase.build(tmp_path / "kb", [], encoder=encoder).close()
    ledger = Ledger(tmp_path / "kb")
    for life in range(3):
        ledger.live_and_die(10 * seed + life)
    assert ledger.acknowledged


def test_a_build_that_is_killed_ends_as_a_single_run(tmp_path: Path) -> None:
    """On a fast machine a build may finish before it is killed; then try another one."""
    assert any(interrupted_build(tmp_path / f"kb{seed}", seed) for seed in range(7, 15))


def test_two_processes_add_at_once(folder: Path) -> None:
    """Each writer waits for the other's batch; the entries of both are stored."""
    program = """
import sys
import numpy as np
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
base, name = KnowledgeBase.open(sys.argv[1]), sys.argv[2]
for batch in range(15):
    rows = np.random.default_rng(batch).standard_normal((20, 64))
    entries = [Entry(f"{name}-{batch}-{i}", None, ("x",)) for i in range(20)]
    base.add(entries, vectors={"text": rows})
"""
    command = [sys.executable, "-c", program, str(folder)]
    processes = [
        subprocess.Popen([*command, name], env=environment(), cwd=REPOSITORY) for name in "ab"
    ]
    assert [process.wait() for process in processes] == [0, 0]
    with KnowledgeBase.open(folder) as base:
        assert base.count() == 600
        assert base.verify().sound


def test_a_writer_gives_up_waiting_for_the_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "WAIT_SECONDS", 0.05)
    writer = sqlite3.connect(folder / "store.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with KnowledgeBase.open(folder) as base:
        with pytest.raises(Busy, match="Another process"):
            base.remove(["x"])
        assert base.count() == 0  # readers don't wait
        writer.execute("ROLLBACK")
        assert base.remove(["x"]) == 0
    writer.close()


@pytest.fixture
def indexed(folder: Path) -> Path:
    """A base of 50 entries with an index on disk, ten newer entries and five removed ones."""
    with KnowledgeBase.open(folder) as base:
        rows = np.stack([vector_of(f"{i}", 0) for i in range(60)])
        entries = [Entry(f"{i}", None, (f"text {i}",)) for i in range(60)]
        base.add(entries[:50], vectors={"text": rows[:50]})
        base.optimize()
        assert base.info().indexed_change == base.change
        base.add(entries[50:], vectors={"text": rows[50:]})
        base.remove([f"{i}" for i in range(5)])
    return folder


def nearest_ids(folder: Path) -> list[str]:
    with KnowledgeBase.open(folder) as base:
        assert base.count() == 55
        return ids(base.search(vector=vector_of("52", 0), k=60))


def test_newer_entries_are_searched_and_removed_ones_are_not(
    indexed: Path,
) -> None:
    expected = nearest_ids(indexed)
    assert expected[0] == "52"
    assert sorted(expected, key=int) == [f"{i}" for i in range(5, 60)]
    shutil.rmtree(indexed / "derived")
    assert nearest_ids(indexed) == expected


@pytest.mark.parametrize("damage", ["cut", "garbage", "flipped", "gone", "manifest"])
@pytest.mark.parametrize("name", ["text-rows.faiss", "text-parts.npy", "text-entries.npy"])
def test_a_damaged_index_is_rebuilt(indexed: Path, damage: str, name: str) -> None:
    expected = nearest_ids(indexed)
    (path,) = indexed.glob(f"derived/vectors-*/{name}")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        path.write_bytes(os.urandom(len(data)))
    elif damage == "flipped":
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    elif damage == "gone":
        path.unlink()
    else:
        (path.parent / "manifest.json").write_text("{}")
    assert nearest_ids(indexed) == expected
    with KnowledgeBase.open(indexed) as base:
        assert not base.verify().sound
        base.optimize()
        assert base.verify().sound
        assert base.info().indexed_change == base.change
    assert nearest_ids(indexed) == expected


def test_an_index_of_another_history_is_not_used(indexed: Path, tmp_path: Path) -> None:
    """An older copy replaced the store and was changed: the same numbers mean other parts."""
    shutil.copy(indexed / "store.sqlite", tmp_path / "older.sqlite")
    with KnowledgeBase.open(indexed) as base:
        base.add(
            [Entry("a", None, ("a",)), Entry("b", None, ("b",))], vectors={"text": np.eye(64)[:2]}
        )
        base.optimize()
    shutil.copy(tmp_path / "older.sqlite", indexed / "store.sqlite")
    with KnowledgeBase.open(indexed) as base:
        base.add(
            [Entry("c", None, ("c",)), Entry("d", None, ("d",))], vectors={"text": np.eye(64)[2:4]}
        )
        assert ids(base.search(vector=np.eye(64)[3], k=1)) == ["d"]
        assert base.search(vector=np.eye(64)[0], k=1)[0].score < 0.9
        assert base.get(["a"]) == []


def test_an_index_of_another_base_is_not_used(indexed: Path, tmp_path: Path) -> None:
    with KnowledgeBase.build(tmp_path / "other", [], encoder=FakeEncoder()) as base:
        for i in range(4):
            base.add([Entry(f"o{i}", None, ("x",))], vectors={"text": np.eye(64)[i : i + 1]})
    shutil.copytree(indexed / "derived", tmp_path / "other" / "derived")
    with KnowledgeBase.open(tmp_path / "other") as base:
        assert ids(base.search(vector=np.eye(64)[2], k=1)) == ["o2"]


def test_a_damaged_page_of_the_store_is_reported(indexed: Path) -> None:
    data = bytearray((indexed / "store.sqlite").read_bytes())
    for page in range(2, len(data) // 8192):
        data[8192 * page : 8192 * page + 2000] = b"\xa5" * 2000
    (indexed / "store.sqlite").write_bytes(data)
    with KnowledgeBase.open(indexed) as base:
        try:
            findings = base.verify().findings
        except BrokenData as error:
            findings = (str(error),)
        assert findings
        assert "damaged" in findings[0]


def test_a_full_disk_loses_nothing(folder: Path) -> None:
    """SQLite's page limit raises the same error as a full disk."""
    with KnowledgeBase.open(folder) as base:
        base.add([Entry("there", None, ("there",))], vectors={"text": np.ones((1, 64))})
        with base._backend.store.writing() as (db, _):
            db.execute("PRAGMA max_page_count = 40")
        entries = [Entry(f"{i}", None, ("text " * 200,)) for i in range(900)]
        with pytest.raises(Exception, match=r"disk .* is full"):
            base.add(entries, vectors={"text": np.ones((900, 64))})
        assert ids(base.search(text="there", options=SearchOptions(method="keyword"))) == ["there"]
        assert base.count() == 1
        assert base.verify().sound
