"""Kinds of index: what they find, under filters and removals too; snapshots of them; the choice by
measurement."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravlm.cli import main
from ravlm.errors import InvalidInput
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.candidates import Ranking
from ravlm.knowledge.index import faiss_index, snapshot_builder, snapshots, vector_index
from ravlm.knowledge.index.facets import FacetIndex
from ravlm.knowledge.index.faiss_index import KINDS, cell_count, chosen_kind
from ravlm.knowledge.index.vector_index import Segment
from ravlm.records import Entry
from ravlm.search.filters import AllOf, AnyOf, Filter, Not, compare, facets, matches
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import ids

ROWS = 3000


def clustered(n: int, seed: int, dim: int = 64) -> np.ndarray:
    """Unit vectors (n, dim) around a hundred centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((100, dim))
    found = centres[rng.integers(0, 100, n)] + rng.standard_normal((n, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def asked(block: Segment, queries: np.ndarray, n: int, passes: np.ndarray | None) -> list[Ranking]:
    """What a block finds, a ranking a query."""
    return [Ranking(*arrays) for arrays in zip(*block.search(queries, n, passes), strict=True)]


def best(
    rows: np.ndarray, queries: np.ndarray, n: int, mask: np.ndarray | None = None
) -> list[set[int]]:
    scores = queries @ rows.T
    if mask is not None:
        scores[:, ~mask] = -np.inf
    return [set(order) for order in np.argsort(-scores, axis=1)[:, :n].tolist()]


@pytest.fixture(scope="module", params=list(KINDS))
def block(request: pytest.FixtureRequest) -> Segment:
    made = faiss_index.make(request.param, clustered(ROWS, 0).astype("<f2"))
    assert made.kind == request.param
    return Segment(made, np.arange(ROWS) + 7, np.arange(ROWS))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001])
def test_recall_under_filters(block: Segment, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selector that keeps 1 % of the rows once made an index find a third of what it should."""
    monkeypatch.setattr(vector_index, "MAX_ANN_DEPTH", 0.2)
    rows, queries = clustered(ROWS, 0), clustered(50, 1)
    mask = np.random.default_rng(3).random(ROWS) < share
    found = asked(block, queries, 10, None if share == 1 else mask)
    truth = best(rows, queries, min(10, int(mask.sum())), None if share == 1 else mask)
    recall = np.mean(
        [
            len(set((r.parts - 7).tolist()) & t) / max(1, len(t))
            for r, t in zip(found, truth, strict=True)
        ]
    )
    assert recall >= (0.999 if block.made.kind == "flat" else 0.95)
    for ranking, query in zip(found, queries, strict=True):
        assert len(ranking.parts) == min(10, int(mask.sum()))
        assert (np.diff(ranking.scores) <= 0).all()
        assert mask[ranking.entries].all()
        assert ranking.scores == pytest.approx(rows[ranking.parts - 7] @ query, abs=5e-3)


def test_removed_rows_are_masked_and_k_still_come(
    block: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "MAX_ANN_DEPTH", 0.2)
    fresh, query = Segment(block.made, block.parts, block.entries), clustered(1, 5)
    first = asked(fresh, query, 40, None)[0].parts
    fresh.drop(np.sort(first[:30]))
    after = asked(fresh, query, 40, None)[0].parts
    assert not set(after) & set(first[:30])
    assert len(after) == 40
    assert set(first[30:]) <= set(after)
    assert len(asked(fresh, query, ROWS, None)[0].parts) == ROWS - 30


def test_all_rows_can_be_asked_for(block: Segment) -> None:
    found = asked(block, clustered(2, 8), ROWS + 5, None)
    assert [sorted(ranking.parts.tolist()) for ranking in found] == [list(range(7, ROWS + 7))] * 2


def test_sizes_of_cells_and_kinds() -> None:
    assert [cell_count(n) for n in (40, 1000, 100_000, 1_000_000)] == [1, 16, 1024, 4096]
    assert [chosen_kind(30_000, 512), chosen_kind(30_001, 512), chosen_kind(10**6, 509)] == [
        "flat",
        "ivf",
        "flat",
    ]


# facets

WORDS = st.sampled_from(["a", "b", "é", ""])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), WORDS)
METADATA = st.dictionaries(
    st.sampled_from("xyz"), st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=3
)
ORDERED = st.builds(
    compare, st.sampled_from("xyz"), st.sampled_from(["<", "<=", ">", ">="]),
    st.one_of(st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["a", "b"])),
)  # fmt: skip
EQUAL = st.builds(compare, st.sampled_from("xyz"), st.sampled_from(["=", "!="]), SCALARS)
AMONG = st.builds(compare, st.sampled_from("xyz"), st.just("in"), st.lists(SCALARS, max_size=3))
TREES: st.SearchStrategy[Filter] = st.recursive(
    st.one_of(ORDERED, EQUAL, AMONG),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(METADATA, max_size=12), TREES, st.lists(st.integers(1, 4), max_size=12))
def test_facets_mean_what_the_filter_means(
    entries: list[dict[str, object]], tree: Filter, steps: list[int]
) -> None:
    """However the entries came in, a few at a time."""
    index, last = FacetIndex(), 0
    for step in [*steps, 100]:
        to = min(last + step, len(entries))
        rows = [
            (*facet, number)
            for number in range(last + 1, to + 1)
            for facet in facets(entries[number - 1])
        ]
        index.update(rows, to)
        last = to
    assert index.entry_mask(tree).tolist() == [
        False,
        *(matches(tree, metadata) for metadata in entries),
    ]


# in a base


@pytest.fixture(scope="module")
def made_large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_index, "FLAT_ROWS", 1000)
        folder = tmp_path_factory.mktemp("large") / "kb"
        with KnowledgeBase.build(folder, [], encoder=FakeEncoder()) as base:
            entries = [
                Entry(f"{i}", None, (f"text {i}",), {"i": i, "odd": bool(i % 2)})
                for i in range(ROWS)
            ]
            base.add(entries, vectors={"text": clustered(ROWS, 0)})
            base.optimize()
    return folder


@pytest.fixture
def large(
    made_large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KnowledgeBase]:
    """A base of 3,000 vectors that is large enough for cells, with its index on disk."""
    monkeypatch.setattr(faiss_index, "FLAT_ROWS", 1000)
    monkeypatch.setattr(vector_index, "MAX_ANN_DEPTH", 0.2)
    shutil.copytree(made_large, tmp_path / "kb")
    with KnowledgeBase.open(tmp_path / "kb", FakeEncoder()) as base:
        yield base


def kind_of(base: KnowledgeBase) -> str:
    base.search(vector=np.ones(64))
    return base._backend.live.vectors().by_modality["text"].segments[0].made.kind


def test_a_large_base_gets_cells(large: KnowledgeBase) -> None:
    assert kind_of(large) == "ivf"
    queries, rows = clustered(60, 4), clustered(ROWS, 0)
    for where, mask in (
        (None, None),
        ("odd = true", np.arange(ROWS) % 2 == 1),
        ("i < 30", np.arange(ROWS) < 30),
    ):
        together = large.search_many([{"vector": query} for query in queries], k=10, where=where)
        truth = best(rows, queries, 10, mask)
        recall = np.mean(
            [len({int(i) for i in ids(h)} & t) / 10 for h, t in zip(together, truth, strict=True)]
        )
        assert recall >= 0.95
        assert [ids(large.search(vector=query, k=10, where=where)) for query in queries] == [
            ids(h) for h in together
        ]


def test_newer_and_removed_rows_beside_cells(large: KnowledgeBase) -> None:
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


def test_an_open_handle_takes_over_a_snapshot_of_another(large: KnowledgeBase) -> None:
    with KnowledgeBase.open(large.path, FakeEncoder()) as other:
        assert kind_of(other) == "ivf"
        large.add([Entry("new", None, ("new",))], vectors={"text": np.ones((1, 64))})
        assert [len(block.parts) for block in other._backend.live.vectors().by_modality["text"].segments] == [
            ROWS,
            1,
        ]
        large.optimize()
        assert ids(other.search(vector=np.ones(64), k=1)) == ["new"]
        assert [len(block.parts) for block in other._backend.live.vectors().by_modality["text"].segments] == [
            ROWS + 1,
            0,
        ]


def test_words_and_facets_come_from_the_snapshot(
    large: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ravlm.search.options import SearchOptions

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
def test_damaged_words_facets_and_cells_are_read_from_the_store(
    large: KnowledgeBase, name: str
) -> None:
    from ravlm.search.options import SearchOptions

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


def test_a_damaged_card_is_read_from_the_store(
    large: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large file the checksum is not taken when it is opened."""
    monkeypatch.setattr(snapshots, "CHECKED_WHOLE", 0)
    (path,) = large.path.glob("derived/vectors-*/cards.json")
    path.write_bytes(bytes(path.stat().st_size))
    with KnowledgeBase.open(large.path) as other:
        (hit,) = other.search(vector=clustered(ROWS, 0)[17], k=1)
        assert (hit.entry.id, hit.entry.texts, hit.part.text) == ("17", ("text 17",), "text 17")


# tuning


def test_tune_measures_and_keeps(large: KnowledgeBase, capsys: pytest.CaptureFixture[str]) -> None:
    report = large.tune(recall=0.9)
    assert [trial.kind for trial in report.trials] == ["bytes", "ivf", "hnsw"]
    assert report.met
    assert report.rows == ROWS
    assert report.trials[0].recall > 0.97
    assert report.kept.recall >= 0.9
    assert kind_of(large) == report.kept.kind
    assert main(["tune", str(large.path), "--recall", "0.9", "--memory", "210KB"]) == 0
    told = capsys.readouterr().out
    assert "ivf" in told
    assert "does all that was wished" in told
    assert kind_of(large) == "bytes"
    large.optimize()
    assert kind_of(large) == "bytes"  # the choice stays
    assert large.verify().sound


def test_a_wish_that_nothing_fulfils(large: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_builder, "TRIED", ("bytes",))
    report = large.tune(recall=0.9, latency=1e-9)
    assert not report.met
    assert "none does all" in str(report)


def test_wishes_that_are_refused(large: KnowledgeBase, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"recall is 1\.5"):
        large.tune(recall=1.5)
    with pytest.raises(InvalidInput, match="latency is 0"):
        large.tune(latency=0)
    assert main(["tune", str(large.path), "--memory", "2 apples"]) == 1
    assert "GB" in capsys.readouterr().err


def test_tuning_an_empty_base(tmp_path: Path) -> None:
    base = KnowledgeBase.build(tmp_path / "kb", [], encoder=FakeEncoder())
    with base, pytest.raises(InvalidInput, match="too few"):
        base.tune()


# older formats


def test_a_base_of_format_1_is_upgraded(large: KnowledgeBase) -> None:
    large.close()
    db = sqlite3.connect(large.path / "store.sqlite")
    db.execute("CREATE VIRTUAL TABLE keyword USING fts5 (words)")
    db.execute(
        "INSERT INTO keyword (rowid, words) SELECT number, words FROM part WHERE words IS NOT NULL"
    )
    db.execute(
        "CREATE TABLE old (number INTEGER PRIMARY KEY AUTOINCREMENT, entry, modality, position, passage, given, "
        "checksum, change, vector)"
    )
    db.execute(
        "INSERT INTO old SELECT number, entry, modality, position, passage, given, checksum, change, vector FROM part"
    )
    db.execute("DROP TABLE part")
    db.execute("ALTER TABLE old RENAME TO part")
    db.execute("CREATE INDEX part_of_entry ON part (entry)")
    db.execute("ALTER TABLE entry DROP COLUMN look")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    with KnowledgeBase.open(large.path) as base:
        assert base.info().format == 3
        from ravlm.search.options import SearchOptions

        assert ids(base.search(text="text 77", k=1, options=SearchOptions(method="keyword"))) == [
            "77"
        ]
        assert base.count({"i": 5}) == 1
