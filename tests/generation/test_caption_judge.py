"""Captions and stories of images that are unlike those of the base are declined."""

from __future__ import annotations

import pytest

from ravlm.generation.base import Request
from ravlm.generation.caption_judge import (
    MIN_FAMILIARITY,
    caption_confidence,
    decline_unlike,
    judged_caption,
)
from ravlm.records import CLOSED_BOOK, Answer, Entry, Evidence, Hit, Part


def evidence_of(familiarity: float, **changes: object) -> Evidence:
    hit = Hit(Entry("e", texts=("a dog",)), 0.4, Part("text", 0, "a dog"))
    return Evidence((hit,), (1.0,), familiarity=familiarity, **changes)  # type: ignore[arg-type]


def judge(evidence: Evidence) -> Answer:
    answer = Answer("a dog", evidence.hits, ("e",), confidence=0.5, trace=dict(evidence.trace))
    return judged_caption(Request("caption", image=b"", evidence=evidence), answer)


def test_an_unlike_image_is_declined() -> None:
    declined = judge(evidence_of(MIN_FAMILIARITY / 2))
    assert declined.abstained
    assert not declined.citations
    assert "not in the knowledge base" in declined.text
    assert declined.confidence > 0.5  # that declining is right
    shown = judge(evidence_of(2 * MIN_FAMILIARITY))
    assert shown.text == "a dog"
    assert not shown.abstained


def test_confidence_rises_with_familiarity() -> None:
    values = [caption_confidence(evidence_of(f)) for f in (0.0, 0.05, 0.5, 0.95)]
    assert values == sorted(values)
    assert values[0] < 0.3 < 0.6 < values[2]


def test_a_recognized_entity_vouches_for_its_caption() -> None:
    evidence = evidence_of(0.0, recognized=True, support=0.9, min_support=0.5)
    assert judge(evidence).confidence == pytest.approx(0.9)
    weak = evidence_of(0.0, recognized=False, support=0.3, min_support=0.5)
    assert judge(weak).abstained


def test_without_a_law_of_its_images_the_texts_must_match() -> None:
    assert judge(evidence_of(1.0, support=0.2, min_support=0.3)).abstained
    assert judge(evidence_of(1.0, support=0.7, min_support=0.3)).confidence == 0.7


def test_what_is_not_judged() -> None:
    assert not judge(CLOSED_BOOK).abstained
    assert decline_unlike(Request("tell", "the sea", evidence=evidence_of(0.0))) is None
    assert decline_unlike(Request("tell", image=b"", evidence=evidence_of(0.0))) is not None
