"""Keyword search across scripts, widths and compositions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import snapshots
from ravlm.knowledge.index.analyzer import index_words, query_words
from ravlm.knowledge.index.bm25 import KeywordIndex, TermHashes
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder

TEXTS = {
    "traditional": "名稱：國家圖書館\n地點：臺北",
    "simplified": "名称：上海博物馆",
    "wide": "Ｎａｍｅ：Ｍｏｄｅｌ　Ｘ７",
    "decomposed": "Name: Cre\u0300me bru\u0302le\u0301e",
    "hindi": "नाम: लाल क़िला",
    "curly": "Name: Finnegan’s O’Brien Arms",
}
QUERIES = {
    "国家图书馆": "traditional",
    "上海博物館": "simplified",
    "model x7": "wide",
    "crème": "decomposed",
    "brulee": "decomposed",
    "किला": "hindi",
    "O'Brien": "curly",
    "台北": "traditional",
}


@pytest.mark.parametrize("query", QUERIES)
def test_keywords_meet_in_other_forms(query: str, tmp_path: Path) -> None:
    """Of these queries, only those in the very form of the text found it."""
    entries = [Entry(id_, None, (text,)) for id_, text in TEXTS.items()]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()) as kb:
        hits = kb.search(text=query, options=SearchOptions(method="keyword"))
    assert [hit.entry.id for hit in hits] == [QUERIES[query]]


def test_an_older_base_keeps_finding_its_words() -> None:
    """Words of an older base are stored as they were written; they meet when they are hashed."""
    index = KeywordIndex()
    index.update([(1, 1, "東方 方明 明珠"), (2, 2, "ｔｏｗｅｒ")], [], 1)
    assert index.search(query_words("东方明珠"), 5).parts.tolist() == [1]
    assert index.search(query_words("tower"), 5).parts.tolist() == [2]
    hashes = TermHashes()
    assert hashes["館"] == hashes["馆"]


def test_terms_of_another_analyzer_come_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The postings of an older snapshot have terms that today's queries do not."""
    entries = [Entry(f"{i}", None, (f"舊書 {i}",)) for i in range(3)]
    keyword = SearchOptions(method="keyword")
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()) as kb:
        monkeypatch.setattr(snapshots, "ANALYZER", 1)
        kb.optimize()
    monkeypatch.setattr(snapshots, "ANALYZER", 2)
    with KnowledgeBase.open(tmp_path / "kb", FakeEncoder()) as kb:
        kb.search(vector=np.ones(64))
        (folder,) = (tmp_path / "kb").glob("derived/vectors-*")
        assert not snapshots.read_keywords(folder).segments
        assert len(kb.search(text="旧书", options=keyword)) == 3
        kb.optimize()
        (folder,) = (tmp_path / "kb").glob("derived/vectors-*")
        assert snapshots.read_keywords(folder).segments


def test_index_and_query_split_alike() -> None:
    for text in ("ＡＢＣ公司與國際", "Ｔｏｋｙｏ-Ｔｏｗｅｒ", "Zoe\u0308 3,5"):
        assert set(query_words(text)) <= set(index_words(text).split())
