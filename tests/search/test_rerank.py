"""Reranking with a function, a cross-encoder and exact cosines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index.vector_index import VectorIndex
from ravlm.records import Entry, Hit
from ravlm.search.options import SearchOptions
from ravlm.search.rerank import RerankQuery, rerank_scores
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import color_entries, ids


class Cross:
    """A cross-encoder like those of sentence-transformers, callable like every torch module.

    It prefers texts that share letters with the query."""

    def __call__(self, *inputs: object) -> None:
        raise AssertionError("predict must be called, not forward")

    def predict(self, inputs: list[tuple[str, str]]) -> np.ndarray:
        return np.array([len(set(query) & set(text)) for query, text in inputs], np.float64)


@pytest.fixture
def base(tmp_path: Path, pictures: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.build(tmp_path / "kb", color_entries(pictures), FakeEncoder()) as kb:
        yield kb


def test_a_function_gives_order_and_scores(base: KnowledgeBase) -> None:
    queries: list[RerankQuery] = []

    def backwards(query: RerankQuery, hits: Sequence[Hit]) -> list[float]:
        queries.append(query)
        return [float(rank) for rank, _ in enumerate(hits)]

    plain = ids(base.search(text="red", k=6))
    hits = base.search(text="red", k=6, options=SearchOptions(rerank=backwards))
    assert ids(hits) == plain[::-1]
    assert [hit.score for hit in hits] == [5, 4, 3, 2, 1, 0]
    assert queries[-1] == RerankQuery("red", None)
    pages = [
        ids(base.search(text="red", k=2, options=SearchOptions(rerank=backwards, offset=o)))
        for o in (0, 2, 4)
    ]
    assert [id_ for page in pages for id_ in page] == plain[::-1]
    threshold = SearchOptions(rerank=backwards, min_score=4)
    assert len(base.search(text="red", k=6, options=threshold)) == 2


def test_a_multimodal_reranker_gets_the_image(base: KnowledgeBase, pictures: Path) -> None:
    def has_image(query: RerankQuery, hits: Sequence[Hit]) -> list[float]:
        assert query == RerankQuery("", pictures / "red.png")
        return [hit.entry.image is not None for hit in hits]

    hits = base.search(image=pictures / "red.png", k=6, options=SearchOptions(rerank=has_image))
    assert [hit.score for hit in hits] == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("method", ["dense", "keyword", "hybrid"])
def test_a_cross_encoder_reads_the_matched_text(base: KnowledgeBase, method: str) -> None:
    options = SearchOptions(method=method, rerank=Cross())  # type: ignore[arg-type]
    hits = base.search(text="grass and a red flag", k=3, modality="text", options=options)
    query_letters = set("grass and a red flag")
    assert [hit.score for hit in hits] == [len(query_letters & set(hit.part.text)) for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_threshold_ends_the_search(base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too few hits above the threshold, the search once fetched more and more candidates
    until it had read the whole base."""
    rows = np.random.default_rng(0).standard_normal((3000, 64))
    base.add([Entry(f"{i}", None, ("x",)) for i in range(3000)], vectors={"text": rows})
    requested: list[int] = []
    original = VectorIndex.search
    monkeypatch.setattr(
        VectorIndex,
        "search",
        lambda self, q, n, p=None: requested.append(n) or original(self, q, n, p),
    )
    query = {"vector": rows[7], "modality": "text", "k": 5}
    assert ids(base.search(**query, options=SearchOptions(min_score=0.9))) == ["7"]
    calls: list[int] = []

    def judge(query: RerankQuery, hits: Sequence[Hit]) -> list[float]:
        calls.append(len(hits))
        return [float(hit.entry.id == "7") for hit in hits]

    assert ids(base.search(**query, options=SearchOptions(min_score=0.5, rerank=judge))) == ["7"]
    assert calls == [20]
    assert len(requested) == 2


def test_exact_reranking_gives_the_stored_cosine(base: KnowledgeBase) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    base.add([Entry(f"{i}", None, ("x",)) for i in range(300)], vectors={"text": rows})
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    options = SearchOptions(rerank="exact")
    for query in rows[:5] + rows[5:10]:
        expected = np.sort(rows @ (query / np.linalg.norm(query)))[::-1][:4]
        hits = base.search(vector=query, k=4, modality="text", options=options)
        assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=1e-3)
    assert base.search(text="flag", k=2, options=SearchOptions(method="keyword", rerank="exact"))


def test_invalid_rerankers_are_refused(base: KnowledgeBase) -> None:
    with pytest.raises(InvalidInput, match="rerank is 'fast'"):
        SearchOptions(rerank="fast")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="one finite number for each"):
        base.search(text="red", options=SearchOptions(rerank=lambda query, hits: [1.0]))
    with pytest.raises(InvalidInput, match="give text= too"):
        base.search(vector=np.ones(64), options=SearchOptions(rerank=Cross()))
    assert rerank_scores(Cross(), RerankQuery("a"), []).shape == (0,)
