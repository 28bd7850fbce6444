"""Answer what is written on an image, such as a label or a sign, by all of its words."""

from __future__ import annotations

import re

from ravlm.generation.base import Request
from ravlm.generation.extractive.passages import passages_of
from ravlm.records import Answer

_ASKS_FOR_TEXT = re.compile(
    r"\bwhat (?:does|do) .{1,40}\b(?:say|read)\b(?! about)"
    r"|\b(?:what|which)\b.{0,20} (?:is|are|'s) (?:written|printed)\b"
    r"|(?:写|印)(?:着|了|的是)(?:些?什么|哪些)",
    re.IGNORECASE,
)
_MAX_CHARACTERS = 300
"""Characters on an image that are an answer as a whole."""
_CONFIDENCE = 0.9


def written_text(request: Request) -> Answer | None:
    """Return all words on the first image of the evidence, if the question asks for them.

    Return None for another question, and for an image with more than a few lines.
    """
    if _ASKS_FOR_TEXT.search(request.text) is None:
        return None
    for passage in passages_of(request):
        text = passage.part.text
        is_short = passage.page is not None and len(text) <= _MAX_CHARACTERS
        if is_short and passage.is_certain(0, len(text)):
            return Answer(
                text=text,
                evidence=request.evidence.hits,
                citations=(passage.hit.entry.id,),
                sources=(passage.source(0, len(text)),),
                confidence=_CONFIDENCE,
                trace={**request.evidence.trace, "read by": "all words"},
            )
    return None
