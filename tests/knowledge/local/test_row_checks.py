"""Rows that nothing of ravlm has written: SQLite stores any value in any column."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import BrokenData, RavlmError
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import snapshots
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder

DEEP = '{"a":' * 1500 + "1" + "}" * 1500
DAMAGE = {
    "texts that are not JSON": "UPDATE entry SET texts = 'x' WHERE number = 3",
    "a number as texts": "UPDATE entry SET texts = '5' WHERE number = 3",
    "two values as texts": "UPDATE entry SET texts = '[], {}, []' WHERE number = 3",
    "numbers as texts": "UPDATE entry SET texts = '[5]' WHERE number = 3",
    "bytes as texts": "UPDATE entry SET texts = x'ff00' WHERE number = 3",
    "a list as metadata": "UPDATE entry SET metadata = '[]' WHERE number = 3",
    "deep metadata": f"UPDATE entry SET metadata = '{DEEP}' WHERE number = 3",
    "bytes as id": "UPDATE entry SET id = x'ff' WHERE number = 3",
    "bytes as image": "UPDATE entry SET image = x'ff' WHERE number = 3",
    "an odd vector": "UPDATE part SET vector = x'00ff00' WHERE number = 3",
    "a text as vector": "UPDATE part SET vector = 'abc' WHERE number = 3",
    "a modality of its own": "UPDATE part SET modality = 'x' WHERE number = 3",
    "modality 7": "UPDATE part SET modality = 7 WHERE number = 3",
    "a text as position": "UPDATE part SET position = 'x' WHERE number = 3",
    "bytes as words": "UPDATE part SET words = x'ff' WHERE number = 3",
    "a part of nobody": "UPDATE part SET entry = 9000000000000 WHERE number = 3",
    "bytes as filter key": "UPDATE facet SET key = x'ff' WHERE entry = 3 AND key = 'year'",
    "a filter value of nobody": "UPDATE facet SET entry = 90000000000 WHERE entry = 3",
    "no identity": "DELETE FROM base WHERE key = 'identity'",
    "a list as identity": "UPDATE base SET value = '[]' WHERE key = 'identity'",
    "a text as change": "UPDATE base SET value = 'x' WHERE key = 'change'",
    "a short canary": "UPDATE canary SET vector = x'00' WHERE position = 1",
    "no canaries": "DELETE FROM canary",
    "a huge number": "UPDATE sqlite_sequence SET seq = 9223372036854775807",
}
VERBS: dict[str, Callable[[KnowledgeBase, Path], object]] = {
    "get": lambda base, folder: base.get([f"{i}" for i in range(9)]),
    "page": lambda base, folder: base.page(20),
    "search": lambda base, folder: base.search(vector=np.ones(64), k=20),
    "hybrid": lambda base, folder: base.search(
        text="more", k=20, options=SearchOptions("hybrid"), where="year >= 1990"
    ),
    "count": lambda base, folder: base.count("year >= 1990"),
    "info": lambda base, folder: base.info(),
    "sample": lambda base, folder: base.sample(20, "text"),
    "export": lambda base, folder: base.export_to(folder / "export"),
    "optimize": lambda base, folder: base.optimize(),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "kb"
    entries = [Entry(f"{i}", None, (f"text {i}", "more"), {"year": 1990 + i}) for i in range(9)]
    KnowledgeBase.build(folder, entries, encoder=FakeEncoder()).close()
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_rows_are_reported(sound: Path, tmp_path: Path, damage: str) -> None:
    """Most of them were a KeyError, TypeError or JSONDecodeError of one verb or the other, and
    `verify` itself failed on half of them."""
    folder = Path(shutil.copytree(sound, tmp_path / "kb"))
    db = sqlite3.connect(folder / "store.sqlite")
    with db:
        db.execute(DAMAGE[damage])
    db.close()
    for verb in VERBS.values():
        with suppress(RavlmError), KnowledgeBase.open(folder, FakeEncoder()) as base:
            verb(base, tmp_path)
        shutil.rmtree(tmp_path / "export", ignore_errors=True)
    try:
        with KnowledgeBase.open(folder, FakeEncoder()) as base:
            report = base.verify(sample=20)
    except BrokenData:
        return
    assert not report.sound


def test_a_large_index_file_is_checked_when_it_fails(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files above 256 MB are not checked when they are opened: a damaged one was an IndexError."""
    folder = Path(shutil.copytree(sound, tmp_path / "kb"))
    with KnowledgeBase.open(folder, FakeEncoder()) as base:
        base.optimize()
    monkeypatch.setattr(snapshots, "MAX_CHECKED_BYTES", 0)
    (file,) = (folder / "derived").glob("vectors-*/facets-entries.npy")
    entries = np.load(file)
    np.save(file, np.full_like(entries, 2**40))
    with (
        KnowledgeBase.open(folder, FakeEncoder()) as base,
        pytest.raises(BrokenData, match=r"facets-entries\.npy.*Run `ravlm optimize`"),
    ):
        base.search(vector=np.ones(64), where="year >= 1990")
    with KnowledgeBase.open(folder, FakeEncoder()) as base:
        base.optimize()
        assert len(base.search(vector=np.ones(64), where="year >= 1995")) == 4
