"""Keyword search across scripts, widths and compositions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.data.stemming import detect_language
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import snapshots
from ravlm.knowledge.index.analyzer import index_words, query_words
from ravlm.knowledge.index.bm25 import KeywordIndex
from ravlm.knowledge.index.keyword_fields import TITLE_WEIGHT, keyword_terms
from ravlm.knowledge.index.terms import TermHashes, max_terms
from ravlm.records import Entry
from ravlm.regions import Region
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
    assert hashes.index_terms(["館"]) == hashes.index_terms(["馆"])


def test_terms_of_another_analyzer_come_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The postings of an older snapshot have terms that today's queries do not."""
    entries = [Entry(f"{i}", None, (f"舊書 {i}",)) for i in range(3)]
    keyword = SearchOptions(method="keyword")
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()) as kb:
        monkeypatch.setattr(snapshots, "ANALYZER", 1)
        kb.optimize()
    monkeypatch.undo()
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


def test_joined_words_are_found_as_a_whole() -> None:
    """ "--line-number" was found by "line" and "number", which most pages of a manual have."""
    texts = ["-n, --line-number\nPrefix each line.", "line by line, a number", "USB-C and v10.4.2"]
    index = KeywordIndex()
    index.update([(i, i, index_words(text)) for i, text in enumerate(texts)], [], 1)
    for query, expected in (("--line-number", 0), ("-n", 0), ("usb-c", 2), ("v10.4.2", 2)):
        ranking = index.search(query_words(query), 3)
        assert ranking.parts[0] == expected, query
    assert query_words("What does the option -n do?") == ["option", "n", "-n"]
    assert query_words("to be or not to be") == ["to", "be", "or", "not"]
    assert "什么" not in "".join(query_words("水泵用什么油？"))
    assert query_words("是的") == ["是的"]


def test_a_stem_of_a_rare_language_is_no_rare_word() -> None:
    """One text in Polish gave "what" a second stem, which counted as much as a name."""
    rows = [f"what the house {i} is of the town and in it" for i in range(20)]
    rows += ["a whatis command se na do", "the harbor of the town"]
    index = KeywordIndex()
    index.update([(i, i, index_words(text)) for i, text in enumerate(rows)], [], 1)
    assert index.search(["what", "harbor"], 1).parts.tolist() == [21]
    assert detect_language(["ls", "-e", "-v", "-i", "db", "man"]) == "en"


def test_titles_count_more_than_text() -> None:
    """Of two pages that mention a pump, the one of the pump's manual is first."""

    def page(id_: str, title: str) -> Entry:
        text = "The pump is oiled with care each year by the keeper."
        region = Region(text, (0.1, 0.1, 0.9, 0.12), 1)
        return Entry(id_, metadata={"title": title, "file": f"{id_}.pdf"}, regions=(region,))

    entries = [page("a", "Garden book"), page("b", "Pump PX manual"), page("c", "Songs")]
    rows = [(i, i, keyword_terms(e, 0, e.regions[0].text, False)) for i, e in enumerate(entries)]
    index = KeywordIndex()
    index.update(rows, [], 1)
    assert index.search(query_words("How is the pump oiled?"), 3).parts[0] == 1
    assert rows[1][2].split().count("manual") == TITLE_WEIGHT
    assert rows[1][2].split().count("b") == TITLE_WEIGHT  # the name of the file


DOCUMENTS = {
    "de": "Zwei Häuser stehen am See, und ein Hund läuft über die Wiese.",
    "fr": "Des chevaux blancs courent près de l'eau avec leurs cavaliers.",
    "es": "Las niñas están corriendo por la playa con sus perros.",
    "ru": "Собаки бегут по снегу, и мальчик смотрит на них.",
    "tr": "Çocuklar parkta oynuyor ve köpekler için su var.",
    "ja": "赤いカメラを持っている女の子",
    "th": "แมวสีส้มกำลังนอนหลับอยู่บนโซฟา",
    "ko": "고양이가 창문에서 새를 보고 있다",
    "zh": "一只橘猫在沙发上睡觉",
    "en": "Two houses stand on a hill while the boys are running.",
    "he": "ילד רץ בפארק",
}
FORMS = {
    "de": ("Haus", "Hunde", "hauser"),
    "fr": ("cheval blanc", "eau"),
    "es": ("niña", "correr perro"),
    "ru": ("собака", "мальчики"),
    "tr": ("çocuk",),
    "ja": ("カメラ", "女"),
    "th": ("แมว", "โซฟา"),
    "ko": ("고양이", "새"),
    "zh": ("橘猫",),
    "en": ("run boy", "house"),
    "he": ("בפארק",),
}
"""Document -> queries: its words in other forms, or out of a sentence without spaces."""


def test_words_meet_in_their_languages() -> None:
    """Only English was stemmed; a Thai or Japanese sentence was one word, and a Korean noun was not
    found with its particle."""
    index = KeywordIndex()
    rows = [(i, i, index_words(text)) for i, text in enumerate(DOCUMENTS.values(), 1)]
    index.update(rows[:6], [], 1)
    index.update(rows[6:], [], 2)
    ids = list(DOCUMENTS)
    best = {
        id_: [[ids[part - 1] for part in index.search(query_words(q), 1).parts] for q in queries]
        for id_, queries in FORMS.items()
    }
    assert best == {id_: [[id_]] * len(queries) for id_, queries in FORMS.items()}
    assert index.search(query_words("ラジオ"), 3).parts.tolist() == []
    assert index.search(query_words("หมา"), 3).parts.tolist() == []


OTHER_SCRIPTS = [
    *("Dvě děti 🎈 běží", "दो बच्चे", "🙂🙂", "חתול cat 猫 แมว котик"),
    *("ー", "ๆๆ", "a\u0301\u0301", "ẞ’s", "İ"),
]


@pytest.mark.parametrize("text", OTHER_SCRIPTS)
def test_any_script_is_searched_without_an_error(text: str) -> None:
    """Languages that no stemmer knows, emoji, and scripts within one text."""
    index = KeywordIndex()
    index.update([(1, 1, index_words(text)), (2, 2, index_words("the dog"))], [], 1)
    found = index.search(query_words(text), 5).parts.tolist()
    assert found == ([1] if query_words(text) else [])


def test_a_long_query_without_spaces_is_bounded() -> None:
    terms = TermHashes().query_terms(query_words("กขคงจฉชซ" * 500), ())
    assert len(terms) <= 65
    passage = index_words("カメラのレンズ 写真" * 20)
    assert len(TermHashes().index_terms(passage.split())) <= max_terms(passage)
