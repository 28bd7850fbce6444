"""`verify` finds each planted fault."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import auto, faiss_index, snapshots
from ravlm.knowledge.local.verify import LocalVerifier
from ravlm.records import Entry
from tests.knowledge.conformance import ids


def plant(base: KnowledgeBase, sql: str, *parameters: object) -> None:
    db = sqlite3.connect(base.path / "store.sqlite")
    with db:
        db.execute(sql, parameters)
    db.close()


def test_a_sound_base(base: KnowledgeBase) -> None:
    report = base.verify()
    assert report.sound
    assert report.checked == {
        "entries": 7,
        "vectors": 11,
        "images": 4,
        "entries encoded again": 6,
    }
    assert str(report).startswith("Sound: 7 entries, 11 vectors")
    base.optimize()
    base.remove(["red"])
    assert base.verify().sound


FAULTS: dict[str, tuple[str, str]] = {
    "a flipped vector": (
        "UPDATE part SET vector = zeroblob(128) WHERE number = 3",
        "checksum differs",
    ),
    "a cut vector": ("UPDATE part SET vector = x'00' WHERE number = 3", "wrong length"),
    "a part without an entry": ("DELETE FROM entry WHERE id = 'given'", "parts without an entry"),
    "an entry without parts": ("DELETE FROM part WHERE given = 1", "entries without a part"),
    "lost keywords": ("UPDATE part SET words = NULL WHERE number = 2", "without keywords"),
    "a lost filter value": ("DELETE FROM facet WHERE key = 'tags'", 'filter values of "flag"'),
    "a removed part that is back": (
        "INSERT INTO removed VALUES (1, 3)",
        "removed parts that still exist",
    ),
    "a part that is stored twice": (
        "INSERT INTO part SELECT 99, entry, modality, position, passage, given, checksum, change, "
        "vector, words FROM part WHERE number = 4",
        "is stored 2 times",
    ),
    "a changed canary": ("UPDATE canary SET vector = zeroblob(256) WHERE modality = 0", "canary"),
    "texts of another entry": (
        "UPDATE entry SET texts = '[\"black night\"]' WHERE id = '橘猫'",
        "another vector",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_finds(base: KnowledgeBase, fault: str) -> None:
    sql, message = FAULTS[fault]
    plant(base, sql)
    report = base.verify()
    assert not report.sound
    assert any(message in finding for finding in report.findings), str(report)


def test_a_text_may_repeat_a_passage(base: KnowledgeBase) -> None:
    """Each is a part; a third one is none of the text."""
    base.add([Entry("refrain", None, ("la la " * 40,))])  # two passages of 40 words
    assert base.verify().sound
    plant(
        base,
        "INSERT INTO part SELECT 99, entry, modality, position, passage, given, checksum, change, "
        "vector, words FROM part ORDER BY number DESC LIMIT 1",
    )
    assert any('"refrain" is stored 3 times' in finding for finding in base.verify().findings)


def test_verify_finds_exchanged_vectors(base: KnowledgeBase) -> None:
    """Two vectors are exchanged with their checksums: only encoding them again can tell."""
    with base._backend.store.writing() as (db, _):
        rows = db.execute(
            "SELECT number, vector, checksum FROM part WHERE modality = 0 LIMIT 2"
        ).fetchall()
        for (number, *_), (_, *exchanged) in zip(rows, rows[::-1], strict=True):
            db.execute(
                "UPDATE part SET vector = ?, checksum = ? WHERE number = ?", (*exchanged, number)
            )
    base._backend.indexes.forget()
    report = base.verify()
    assert sum("another vector than the stored one" in finding for finding in report.findings) == 2


def test_verify_finds_an_index_that_differs_from_the_store(base: KnowledgeBase) -> None:
    base.search(vector=np.ones(64))
    index = base._backend.indexes.vectors().by_modality["text"]
    index.delete(index.parts()[:1])
    assert any("parts" in finding for finding in base.verify().findings)


def test_a_missing_image_is_reported(base: KnowledgeBase, pictures: Path) -> None:
    """Its vectors and texts can still be searched."""
    (pictures / "red.png").unlink()
    report = base.verify()
    assert any('"red"' in finding and "gone" in finding for finding in report.findings)
    assert ids(base.search(text="red", modality="image", k=1)) == ["red"]


def test_many_faults_of_a_kind_are_counted(base: KnowledgeBase) -> None:
    plant(base, "UPDATE part SET checksum = checksum + 1")
    findings = base.verify().findings
    assert len(findings) == 6
    assert "6 more of this kind" in findings[-1]


# while other processes write


def test_a_snapshot_that_is_replaced_meanwhile_is_not_damaged(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13 of 1,079 verifications next to a process that optimized found damaged index files: those
    of the snapshot that it had just replaced."""
    base.optimize()
    measure, replaced = snapshots._size_and_checksum, []

    def measure_late(path: Path) -> list[int]:
        if not replaced:
            replaced.append(path)
            with KnowledgeBase.open(base.path) as other:
                other.optimize()
            assert not path.exists()
        return measure(path)

    with base._backend.store.reading():
        monkeypatch.setattr(snapshots, "_size_and_checksum", measure_late)
        assert snapshots.find_damage(base.derived_folder) == []
    assert replaced
    (file,) = base.derived_folder.glob("vectors-*/facets.json")
    file.write_text("{}")
    assert [finding for finding in base.verify().findings if "facets.json" in finding]


@pytest.mark.parametrize("change", ["removed", "replaced", "none"])
def test_an_image_that_is_removed_meanwhile_is_not_missing(
    base: KnowledgeBase, pictures: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Its entry was still in the state that was verified, but not in the base."""
    base.add([Entry("own", (pictures / "red.png").read_bytes(), ("own",))])
    check = LocalVerifier._check_vectors

    def check_late(verifier: LocalVerifier) -> None:
        check(verifier)
        with KnowledgeBase.open(base.path) as other:
            (entry,) = other.get("own")
            if change == "removed":
                other.remove("own")
            if change == "replaced":
                other.add([Entry("own", None, ("without an image",))], vectors={"text": [[1] * 64]})
        Path(str(entry.image)).unlink()  # as `compact` does

    monkeypatch.setattr(LocalVerifier, "_check_vectors", check_late)
    findings = base.verify(sample=100).findings
    assert len([f for f in findings if '"own"' in f]) == (2 if change == "none" else 0), findings


def test_values_beyond_the_range_of_a_byte_index_are_no_fault(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The range of each dimension is learned from a sample of 131,072 vectors. In a base of 600,000
    some of the others were clipped to it, and `verify` called them other vectors."""
    monkeypatch.setattr(auto, "MIN_ROWS", 5)
    monkeypatch.setattr(faiss_index, "MAX_TRAINING_ROWS", 10)
    rows = np.random.default_rng(0).standard_normal((40, 64))
    rows[::3] = np.eye(64)[:14]  # a single component of 1
    entries = [Entry(f"v{i}", None, (f"vector {i}",)) for i in range(len(rows))]
    base.add(entries, vectors={"text": rows})
    base._backend.store.choose_index("bytes", 0.9)
    base.optimize()
    index = base._backend.indexes.vectors().by_modality["text"]
    assert index.segments[0].index.kind == "bytes"
    numbers = index.parts()
    exact = np.array([base._backend.store.vectors([n])[n][1] for n in numbers.tolist()])
    assert np.abs(index.vectors(numbers) - exact).max() > 0.3
    assert base.verify().sound
    with base._backend.store.writing() as (db, _):
        db.execute(
            "UPDATE part SET vector = zeroblob(128), checksum = ? WHERE number = ?",
            (zlib.crc32(bytes(128)), int(numbers[-1])),
        )
    assert any("another vector" in finding for finding in base.verify().findings)
