"""The baselines that every model must beat, as generators on the same code path: copy the text of
the nearest entry, or answer what most of the entries agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ravlm.data.facts import entity_name
from ravlm.generation.base import Generator, Request, abstain
from ravlm.metrics import token_f1
from ravlm.records import Answer, Hit

_MAX_TEXTS = 24


class CopyGenerator(Generator):
    """Answers with the text of the nearest entry: the passage that matched, else its first text."""

    name = "copy"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the nearest entry's text for each request."""
        return [_nearest_text(request) for request in requests]


class MajorityGenerator(Generator):
    """Answers a question with the most frequent entity name; else returns the text that is most
    similar to all other texts."""

    name = "majority"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the vote or the consensus for each request."""
        return [_majority_answer(request) for request in requests]


def _nearest_text(request: Request) -> Answer:
    evidence = request.evidence
    for hit in evidence.hits:
        if text := _text(hit):
            return Answer(text, evidence.hits, (hit.entry.id,), confidence=evidence.support)
    return abstain(request, "the evidence has no text")


def _majority_answer(request: Request) -> Answer:
    hits = request.evidence.hits
    if request.task == "ask":
        votes = Counter(name for hit in hits if (name := entity_name(hit.entry)))
        if votes:
            name, count = votes.most_common(1)[0]
            citations = tuple(hit.entry.id for hit in hits if entity_name(hit.entry) == name)
            return Answer(name, hits, citations, confidence=count / len(hits))
    return _consensus_text(request)


def _consensus_text(request: Request) -> Answer:
    """Return the text with the highest mean token F1 to all other texts of the evidence."""
    hits = request.evidence.hits
    candidates = [(hit, text) for hit in hits for text in hit.entry.texts if text.strip()]
    candidates = candidates[:_MAX_TEXTS]
    if len(candidates) < 2:
        return _nearest_text(request)
    texts = [text for _, text in candidates]
    agreement = [_mean_f1(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)]
    best = max(range(len(texts)), key=agreement.__getitem__)
    citations = (candidates[best][0].entry.id,)
    return Answer(texts[best], hits, citations, confidence=agreement[best])


def _mean_f1(text: str, references: Sequence[str]) -> float:
    scores = token_f1([text] * len(references), [[reference] for reference in references])
    return sum(scores.items) / len(references)


def _text(hit: Hit) -> str:
    return (hit.part.text or hit.entry.text).strip()
