"""The records of ravlm as JSON for clients: hits, answers, entries, citations. Knows no request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ravlm.data.facts import entity_name
from ravlm.generation.base import pieces
from ravlm.records import Answer, Entry, Hit

_MARK = re.compile(r"\[(\d{1,3})\]")


def entry_json(entry: Entry, base: str) -> dict[str, Any]:
    """An entry; `base` is the server's address with a slash at its end."""
    return {
        "id": entry.id,
        "texts": list(entry.texts),
        "metadata": dict(entry.metadata),
        "image_url": None if entry.image is None else f"{base}v1/images/{quote(entry.id, safe='')}",
    }


def hit_json(hit: Hit, base: str) -> dict[str, Any]:
    """A hit: its entry, its score, and the part that matched."""
    part = {"modality": hit.part.modality, "index": hit.part.index, "text": hit.part.text}
    return {"id": hit.entry.id, "score": round(float(hit.score), 6), "part": part} | entry_json(
        hit.entry, base
    )


def hits_json(hits: Sequence[Hit], base: str) -> list[dict[str, Any]]:
    """Hits, best first."""
    return [hit_json(hit, base) for hit in hits]


def answer_json(answer: Answer, base: str) -> dict[str, Any]:
    """An answer with its evidence and trace."""
    return {
        "text": answer.text,
        "citations": list(answer.citations),
        "confidence": round(float(answer.confidence), 6),
        "abstained": answer.abstained,
        "evidence": hits_json(answer.evidence, base),
        "trace": dict(answer.trace),
    }


def citation_urls(answer: Answer, base: str) -> list[str]:
    """Where each cited entry is shown, in the order of the marks [1], [2]."""
    return [f"{base}#entry={quote(identity, safe='')}" for identity in answer.citations]


def annotations_of(answer: Answer, base: str) -> list[dict[str, Any]]:
    """The citations as OpenAI's clients show them: a mark [1] points to the first cited entry; a
    text without marks rests on all of them."""
    entries = {hit.entry.id: hit.entry for hit in answer.evidence}
    urls = citation_urls(answer, base)
    names = [entity_name(entries[i]) or i if i in entries else i for i in answer.citations]
    marks = [(int(mark[1]) - 1, mark.start(), mark.end()) for mark in _MARK.finditer(answer.text)]
    places = [mark for mark in marks if 0 <= mark[0] < len(urls)]
    places = places or [(place, 0, len(answer.text)) for place in range(len(urls))]
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": urls[place],
                "title": names[place],
                "start_index": start,
                "end_index": end,
            },
        }
        for place, start, end in places
    ]


def count_tokens(text: str) -> int:
    """Words and Chinese characters: what stands in `usage`, whatever the generator's own tokens
    are."""
    return len(pieces(text))
