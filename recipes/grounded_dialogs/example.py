"""Evidence as a request has it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ravlm.records import Entry, Evidence, Hit, Part


def make_evidence(texts: Sequence[str], rng: random.Random) -> Evidence:
    """Return evidence of texts, best first, with falling scores and weights."""
    score = rng.uniform(0.5, 0.95)
    scores, weights = [], []
    remaining = rng.uniform(0.85, 0.99)
    for _ in texts:
        scores.append(round(score, 4))
        score *= rng.uniform(0.6, 0.98)
        weight = remaining * (rng.uniform(0.3, 0.8) if len(scores) < len(texts) else 0.9)
        weights.append(weight)
        remaining -= weight
    weights.sort(reverse=True)
    hits = tuple(
        Hit(Entry(f"entry-{rng.randrange(10**6):06d}-{i}", text=text), s, Part("text", 0, text))
        for i, (text, s) in enumerate(zip(texts, scores, strict=True))
    )
    return Evidence(hits, tuple(round(w, 4) for w in weights), linked=True)


def mark(chinese: bool, position: int) -> str:
    """Return the mark of a hit by its position from 1, with the space before it."""
    return f"[{position}]" if chinese else f" [{position}]"
