"""Keyword search: BM25 over the texts' words, in the store's own transactions (SQLite FTS5).

English words are stemmed. Chinese runs are found by their pairs of characters, and single characters by themselves:
that needs no dictionary, so every machine cuts a text into the same words. Knows no vectors.
"""

from __future__ import annotations

import sqlite3

import numpy as np

from ravlm.data.batches import batched
from ravlm.data.words import is_chinese, words
from ravlm.knowledge.vectors import NOTHING, Kept, Ranking

MOST_WORDS = 64
"""Different words of a query that are looked up."""


def index_words(text: str) -> str:
    """The words that `text` is found by, separated by blanks."""
    if not is_chinese(text):
        return " ".join(words(text))
    pairs_and_words = [word for word in words(text) if len(word) > 1 or not is_chinese(word)]
    return " ".join([*pairs_and_words, *(character for character in text if is_chinese(character))])


def search(db: sqlite3.Connection, text: str, n: int, kept: Kept) -> Ranking:
    """The n best text parts that share a word with `text`; scores are BM25, higher is better."""
    asked = list(dict.fromkeys(words(text)))[:MOST_WORDS]
    if not asked:
        return NOTHING
    match = " OR ".join('"' + word.replace('"', '""') + '"' for word in asked)
    everything = kept.allowed is None and kept.excluded is None
    rows = db.execute(
        "SELECT rowid, -rank FROM keyword WHERE keyword MATCH ? ORDER BY rank LIMIT ?", (match, n if everything else -1)
    ).fetchall()
    parts = np.array([part for part, _ in rows], np.int64)
    scores = np.array([score for _, score in rows], np.float32)
    entries = _entries(db, parts)
    mask = np.ones(len(parts), bool)
    if kept.allowed is not None:
        mask &= np.isin(entries, kept.allowed)
    if kept.excluded is not None:
        mask &= ~np.isin(entries, kept.excluded)
    return Ranking(parts[mask][:n], entries[mask][:n], scores[mask][:n])


def _entries(db: sqlite3.Connection, parts: np.ndarray) -> np.ndarray:
    """The entry of each part, in order."""
    found: dict[int, int] = {}
    for some in batched(parts.tolist(), 500):
        marks = ", ".join("?" * len(some))
        found.update(db.execute(f"SELECT number, entry FROM part WHERE number IN ({marks})", some))  # noqa: S608
    return np.array([found[part] for part in parts.tolist()], np.int64)
