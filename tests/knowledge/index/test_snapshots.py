"""Snapshots of a large base: what is read from them, newer changes on top, damage."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import snapshots
from ravlm.knowledge.local.schema import FORMAT
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.helpers.vectors import clustered, nearest
from tests.knowledge.conformance import ids
from tests.knowledge.index.conftest import ROWS, index_kind


def test_a_large_base_gets_an_ivf_index(large: KnowledgeBase) -> None:
    assert index_kind(large) == "ivf"
    queries, rows = clustered(60, 4), clustered(ROWS, 0)
    for where, mask in (
        (None, None),
        ("odd = true", np.arange(ROWS) % 2 == 1),
        ("i < 30", np.arange(ROWS) < 30),
    ):
        together = large.search_many([{"vector": query} for query in queries], k=10, where=where)
        truth = nearest(rows, queries, 10, mask)
        recall = np.mean(
            [len({int(i) for i in ids(h)} & t) / 10 for h, t in zip(together, truth, strict=True)]
        )
        assert recall >= 0.95
        assert [ids(large.search(vector=query, k=10, where=where)) for query in queries] == [
            ids(h) for h in together
        ]


def test_newer_and_removed_rows_on_top_of_a_snapshot(large: KnowledgeBase) -> None:
    query = clustered(1, 6)[0]
    first = ids(large.search(vector=query, k=20))
    large.remove(first[:10])
    large.add([Entry("new", None, ("new",))], vectors={"text": query[None]})
    assert ids(large.search(vector=query, k=11)) == ["new", *first[10:]]
    assert large.verify().sound
    with KnowledgeBase.open(large.path, FakeEncoder()) as other:
        assert ids(other.search(vector=query, k=11)) == ["new", *first[10:]]
    large.optimize()
    assert ids(large.search(vector=query, k=1)) == ["new"]
    assert large.verify().sound


def segment_sizes(base: KnowledgeBase) -> list[int]:
    index = base._backend.indexes.vectors().by_modality["text"]
    return [len(segment.parts) for segment in index.segments]


def test_an_open_handle_switches_to_a_newer_snapshot(large: KnowledgeBase) -> None:
    with KnowledgeBase.open(large.path, FakeEncoder()) as other:
        assert index_kind(other) == "ivf"
        large.add([Entry("new", None, ("new",))], vectors={"text": np.ones((1, 64))})
        assert segment_sizes(other) == [ROWS, 1]
        large.optimize()
        assert ids(other.search(vector=np.ones(64), k=1)) == ["new"]
        assert segment_sizes(other) == [ROWS + 1, 0]


def test_keywords_and_facets_come_from_the_snapshot(
    large: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyword = SearchOptions(method="keyword")
    with KnowledgeBase.open(large.path) as other:
        read: list[int] = []
        original = type(other._backend.store).words_after
        monkeypatch.setattr(
            type(other._backend.store),
            "words_after",
            lambda store, last: read.append(last) or original(store, last),
        )
        assert ids(other.search(text="text 1234", k=1, options=keyword)) == ["1234"]
        assert read == []
        large.add([Entry("new", None, ("zebra",), {"i": 5000})], vectors={"text": np.ones((1, 64))})
        assert ids(other.search(text="zebra", k=1, options=keyword)) == ["new"]
        assert ids(other.search(text="zebra 7", k=5, where="i < 8", options=keyword)) == ["7"]
        assert read == [ROWS]
        assert ids(other.search(vector=np.ones(64), where="i >= 5000")) == ["new"]


@pytest.mark.parametrize(
    "name", ["words-rows.npy", "facets.json", "cards.json", "cards-starts.npy", "text-ivf.faiss"]
)
def test_damaged_files_are_replaced_by_the_store(large: KnowledgeBase, name: str) -> None:
    (path,) = large.path.glob(f"derived/vectors-*/{name}")
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data)):
        data[at] ^= 0xFF
    path.write_bytes(data)
    with KnowledgeBase.open(large.path) as other:
        assert ids(
            other.search(text="text 1234", k=1, options=SearchOptions(method="keyword"))
        ) == ["1234"]
        assert sorted(ids(other.search(vector=np.ones(64), where="i in [5, 2999]"))) == [
            "2999",
            "5",
        ]
        assert ids(other.search(vector=clustered(ROWS, 0)[17], k=1)) == ["17"]
        assert any(name in finding for finding in other.verify().findings)


def test_damaged_stored_fields_are_replaced_by_the_store(
    large: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksum of a large file is not verified when it is opened."""
    monkeypatch.setattr(snapshots, "MAX_CHECKED_BYTES", 0)
    (path,) = large.path.glob("derived/vectors-*/cards.json")
    path.write_bytes(bytes(path.stat().st_size))
    with KnowledgeBase.open(large.path) as other:
        (hit,) = other.search(vector=clustered(ROWS, 0)[17], k=1)
        assert (hit.entry.id, hit.entry.texts, hit.part.text) == ("17", ("text 17",), "text 17")


def test_a_base_of_format_1_is_upgraded(large: KnowledgeBase) -> None:
    large.close()
    db = sqlite3.connect(large.path / "store.sqlite")
    db.execute("CREATE VIRTUAL TABLE keyword USING fts5 (words)")
    db.execute(
        "INSERT INTO keyword (rowid, words) SELECT number, words FROM part WHERE words IS NOT NULL"
    )
    columns = "entry, modality, position, passage, given, checksum, change, vector"
    db.execute(f"CREATE TABLE old (number INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
    db.execute(f"INSERT INTO old SELECT number, {columns} FROM part")
    db.execute("DROP TABLE part")
    db.execute("ALTER TABLE old RENAME TO part")
    db.execute("CREATE INDEX part_of_entry ON part (entry)")
    db.execute("ALTER TABLE entry DROP COLUMN look")
    db.execute("ALTER TABLE entry DROP COLUMN regions")
    db.execute("DROP TABLE token_vectors")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    with KnowledgeBase.open(large.path) as base:
        assert base.info().format == FORMAT
        assert ids(base.search(text="text 77", k=1, options=SearchOptions(method="keyword"))) == [
            "77"
        ]
        assert base.count({"i": 5}) == 1
