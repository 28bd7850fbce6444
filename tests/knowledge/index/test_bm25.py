"""Keyword search: stems, BM25 against its formula, and MaxScore against the exhaustive search."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest

from ravlm.data.text import porter_stem
from ravlm.knowledge.index import bm25
from ravlm.knowledge.index.bm25 import BM25_B, BM25_K1, KeywordIndex

PORTERS = """
caresses caress, ponies poni, ties ti, cats cat, feed feed, agreed agre, plastered plaster,
bled bled, sing sing, motoring motor, conflated conflat, troubled troubl, sized size, hopping hop,
falling fall, hissing hiss, happy happi, failing fail, filing file, sky sky, relational relat,
conditional condit, rational ration, vietnamization vietnam, operator oper, feudalism feudal,
decisiveness decis, hopefulness hope, formative form, electrical electr, goodness good,
revival reviv, airliner airlin, adjustable adjust, replacement replac, adoption adopt,
effective effect, probate probat, rate rate, cease ceas, controll control, roll roll, toys toi,
generalizations gener, oscillators oscil, at at, 狗 狗, mp3s mp3s
"""
"""Examples of Porter's paper (1980), of single steps and of the whole algorithm."""


def test_stems_are_porters() -> None:
    for pair in PORTERS.split(","):
        word, expected = pair.split()
        assert porter_stem(word) == expected, word


def texts(n: int, seed: int) -> list[str]:
    """Return texts of Zipf-distributed words: the first ones are in nearly all texts."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(300)]
    weights = [1 / (i + 1) for i in range(300)]
    return [" ".join(rng.choices(words, weights, k=rng.randrange(1, 25))) for _ in range(n)]


def bm25_scores(query: list[str], documents: list[str]) -> np.ndarray:
    """Return the BM25 score of each document, computed word by word."""
    bags = [Counter(document.split()) for document in documents]
    mean = sum(sum(bag.values()) for bag in bags) / len(bags)
    scores = np.zeros(len(bags))
    for word in query:
        frequency = sum(word in bag for bag in bags)
        idf = math.log(1 + (len(bags) - frequency + 0.5) / (frequency + 0.5))
        for i, bag in enumerate(bags):
            count, length = bag[word], sum(bag.values())
            norm = BM25_K1 * (1 - BM25_B + BM25_B * length / mean)
            scores[i] += idf * count * (BM25_K1 + 1) / (count + norm)
    return scores


def build(documents: list[str], batch: int) -> KeywordIndex:
    index = KeywordIndex()
    for start in range(0, len(documents), batch):
        rows = [
            (10 + i, i // 2, documents[i]) for i in range(start, min(start + batch, len(documents)))
        ]
        index.update(rows, [], start)
    return index


def test_scores_are_bm25() -> None:
    documents = texts(400, 1)
    index = build(documents, 400)
    for query in (["w0"], ["w1", "w30"], ["w0", "w1", "w2", "w150", "w151", "nowhere"]):
        expected = bm25_scores(query, documents)
        ranking = index.search(query, 1000)
        assert len(ranking.parts) == (expected > 0).sum()
        assert ranking.scores == pytest.approx(expected[ranking.parts - 10], rel=1e-5)
        assert (np.diff(ranking.scores) <= 0).all()
        assert (ranking.entries == (ranking.parts - 10) // 2).all()


@pytest.mark.parametrize("n", [1, 3, 10, 50])
def test_max_score_changes_no_result(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frequent words are looked up for leading rows only, once no other row can reach the top n."""
    documents = texts(3000, 2)
    index = build(documents, 3000)
    index.update([], list(range(10, 400, 7)), 1)
    entry_mask = np.arange(1500) % 3 != 0
    rng = random.Random(n)
    queries = [
        [*rng.sample([f"w{i}" for i in range(300)], rng.randrange(1, 9)), "w0", "w1"]
        for _ in range(40)
    ]
    for mask in (None, entry_mask):
        fast = [index.search(query, n, mask) for query in queries]
        monkeypatch.setattr(bm25, "FREQUENT_SHARE", 2.0)  # never
        for query, ranking in zip(queries, fast, strict=True):
            slow = index.search(query, n, mask)
            assert ranking.scores == pytest.approx(slow.scores, rel=1e-5)
            assert not set(ranking.parts) & set(range(10, 400, 7))
            assert mask is None or mask[ranking.entries].all()
        monkeypatch.undo()


def test_an_index_grown_in_batches_finds_the_same() -> None:
    documents = texts(500, 3)
    whole, grown = build(documents, 500), build(documents, 9)
    assert len(grown.segments) < 10
    for query in (["w3"], ["w2", "w80"], ["w299", "w5", "w0"]):
        one, two = whole.search(query, 500), grown.search(query, 500)
        assert sorted(one.parts) == sorted(two.parts)
        # The mean length of a segment is that of its time, so scores differ slightly.
        assert np.intersect1d(one.parts[:10], two.parts[:10]).size >= 8


def test_forms_of_a_word_match() -> None:
    index = KeywordIndex()
    index.update(
        [(1, 1, "two dogs running"), (2, 1, "a café"), (3, 2, "the dog's bone"), (4, 3, "?")], [], 1
    )
    index.update([(5, 4, "")], [], 2)
    assert sorted(index.search(["dog"], 9).parts) == [1, 3]
    assert index.search(["runs"], 9).parts.tolist() == [1]
    assert index.search(["cafe"], 9).parts.tolist() == [2]
    assert len(index.search([], 9).parts) == len(index.search(["cat"], 9).parts) == 0
    assert len(KeywordIndex().search(["dog"], 9).parts) == 0
