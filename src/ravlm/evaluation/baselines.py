"""What every model must beat: the nearest entry's text copied, and what most of the entries found
agree on.

They are generators, so that they run on the same code path. Know their evidence only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ravlm.data.facts import entity_name
from ravlm.generation.base import Generator, Request, abstain
from ravlm.metrics import token_f1
from ravlm.records import Answer, Hit

_MOST_TEXTS = 24


class CopyGenerator(Generator):
    """Says what the nearest entry says: the text that was found, else its first."""

    name = "copy"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """The nearest entry's text for each request."""
        return [_copied(request) for request in requests]


class MajorityGenerator(Generator):
    """Asked, it answers the name that most entries bear; else of all their texts the one most like
    the others."""

    name = "majority"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """The vote or the consensus for each request."""
        return [_voted(request) for request in requests]


def _copied(request: Request) -> Answer:
    hits = [hit for hit in request.evidence.hits if _text(hit)]
    if not hits:
        return abstain(request, "the evidence has no text")
    return Answer(
        _text(hits[0]), request.evidence.hits, (hits[0].entry.id,), request.evidence.support
    )


def _voted(request: Request) -> Answer:
    hits = request.evidence.hits
    if request.task == "ask":
        votes = Counter(name for hit in hits if (name := entity_name(hit.entry)))
        if votes:
            name, most = votes.most_common(1)[0]
            cited = tuple(hit.entry.id for hit in hits if entity_name(hit.entry) == name)
            return Answer(name, hits, cited, most / len(hits))
    said = [(hit, text) for hit in hits for text in hit.entry.texts if text.strip()][:_MOST_TEXTS]
    if len(said) < 2:
        return _copied(request)
    texts = [text for _, text in said]
    others = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
    agreement = [
        sum(token_f1([text] * len(rest), [[other] for other in rest]).items) / len(rest)
        for text, rest in zip(texts, others, strict=True)
    ]
    best = max(range(len(said)), key=agreement.__getitem__)
    return Answer(texts[best], hits, (said[best][0].entry.id,), agreement[best])


def _text(hit: Hit) -> str:
    return (hit.part.text or hit.entry.text).strip()
