"""What every generator is given and gives: a request with its evidence in, an answer out.

The model retrieves, the generator reads. Knows no knowledge base and no encoder.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator as Stream
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ravlm.records import CLOSED_BOOK, Answer, Evidence, ImageSource, Message, Modality

if TYPE_CHECKING:
    import numpy as np

VerbName = Literal["ask", "caption", "tell", "chat"]
ABSENT = {False: "That is not in the knowledge base.", True: "知识库中没有这方面的内容。"}
"""What an abstaining answer says, in English and (True) Chinese."""


@dataclass(frozen=True)
class Request:
    """One thing to write: everything a generator may look at."""

    task: VerbName
    text: str = ""
    """The question, the prompt of a story, or the last thing said in a talk; empty for a
    caption."""
    image: ImageSource | None = None
    evidence: Evidence = CLOSED_BOOK
    messages: tuple[Message, ...] = ()
    """The turns of a talk, the last one included."""
    chinese: bool = False
    """Whether to write Chinese."""
    seed: int = 0


class Generator(ABC):
    """Images, words and evidence to text. Implementations are siblings beside this file."""

    name: str
    """What it is found by again: a name, a folder or an address."""
    reads: Modality = "image"
    """What of its entries leads to the evidence on a picture that is to be described: pictures that
    look like it, or texts that describe it."""

    @property
    def network(self) -> Any:
        """The model of Transformers behind it that can be trained; itself where there is none."""
        return self

    def query(self, vectors: np.ndarray, fingerprint: str) -> np.ndarray:
        """Where to look for evidence on pictures that are to be described, from their vectors (n,
        dim) by the encoder with that fingerprint: there itself, unless the generator has learnt
        better."""
        return vectors

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer for each request, in order. Whatever is not to be had from the evidence is
        abstained from, unless the generator knows by itself (closed book)."""

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Pieces of the text as they come, together the answer's text; returns the answer."""
        answer = self.generate([request])[0]
        yield from pieces(answer.text)
        return answer


def pieces(text: str) -> list[str]:
    """A text in pieces to be shown one after another: words with the space after them, Chinese
    characters."""
    return re.findall(r"[\x21-\x7e]+\s*|.", text, re.DOTALL)


def abstain(request: Request, reason: str, **trace: Any) -> Answer:
    """The answer that says there is nothing; `reason` goes into its trace."""
    known = request.evidence.support if request.evidence.hits else 0.0
    return Answer(
        text=ABSENT[request.chinese],
        evidence=request.evidence.hits,
        confidence=round(max(0.0, min(1.0, 1 - known)), 4) if request.evidence.hits else 0.0,
        abstained=True,
        trace={**request.evidence.trace, "abstained": reason, **trace},
    )
