"""A generator small enough to predict its output by hand."""

from __future__ import annotations

from collections.abc import Sequence

from ravlm.generation.base import Generator, Request
from ravlm.records import Answer


class FirstLine(Generator):
    """Answers with the text of its first hit; without evidence it guesses."""

    name = "first-line"

    def __init__(self, guess: str = "no idea") -> None:
        self.guess = guess
        self.num_requests = 0

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        self.num_requests += len(requests)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        hits = request.evidence.hits
        if not hits:
            return Answer(self.guess, confidence=0.1)
        return Answer(hits[0].entry.text, hits, (hits[0].entry.id,), confidence=0.9)
