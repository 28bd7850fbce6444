"""`verify` finds each planted fault."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
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
