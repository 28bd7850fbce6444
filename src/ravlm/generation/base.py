"""What every generator is given and gives: a request with its evidence in, an answer out.

The model retrieves, the generator reads. Knows no knowledge base and no encoder.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator as Stream
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ravlm.records import Answer, Hit, ImageSource, Modality

if TYPE_CHECKING:
    import numpy as np

Task = Literal["ask", "caption", "tell", "chat"]
ABSENT = {False: "That is not in the knowledge base.", True: "知识库中没有这方面的内容。"}
"""What an abstaining answer says, in English and (True) Chinese."""


@dataclass(frozen=True)
class Message:
    """A turn of a talk: what was said, and the picture that came with it."""

    role: Literal["system", "user", "assistant"]
    text: str
    image: ImageSource | None = None


@dataclass(frozen=True)
class Evidence:
    """The hits that a generator is given, best first, and how far they are to be trusted."""

    hits: tuple[Hit, ...] = ()
    weights: tuple[float, ...] = ()
    """How likely each hit is about what is asked about, of all that were found (they sum to at most 1)."""
    known: float = 1.0
    """How likely what is asked about is in the base at all, 0 to 1."""
    least: float = 0.0
    """`known` below this is a reason to abstain."""
    subject: str = ""
    """The name in the question that the hits were found by; empty where a picture led to them."""
    trace: Mapping[str, Any] = field(default_factory=dict)
    searched: bool = True
    """False for the closed book: nothing was looked for."""

    @property
    def enough(self) -> bool:
        """Whether there is something to answer from."""
        return bool(self.hits) and self.known >= self.least


CLOSED_BOOK = Evidence(searched=False)


@dataclass(frozen=True)
class Request:
    """One thing to write: everything a generator may look at."""

    task: Task
    text: str = ""
    """The question, the prompt of a story, or the last thing said in a talk; empty for a caption."""
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
    """What of its entries leads to the evidence on a picture that is to be described: pictures that look like it, or
    texts that describe it."""

    @property
    def network(self) -> Any:
        """The model of Transformers behind it that can be trained; itself where there is none."""
        return self

    def query(self, vectors: np.ndarray, fingerprint: str) -> np.ndarray:
        """Where to look for evidence on pictures that are to be described, from their vectors (n, dim) by the encoder
        with that fingerprint: there itself, unless the generator has learnt better."""
        return vectors

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer for each request, in order. Whatever is not to be had from the evidence is abstained from, unless
        the generator knows by itself (closed book)."""

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Pieces of the text as they come, together the answer's text; returns the answer."""
        answer = self.generate([request])[0]
        yield from pieces(answer.text)
        return answer


def pieces(text: str) -> list[str]:
    """A text in pieces to be shown one after another: words with the space after them, Chinese characters."""
    return re.findall(r"[\x21-\x7e]+\s*|.", text, re.DOTALL)


def abstain(request: Request, reason: str, **trace: Any) -> Answer:
    """The answer that says there is nothing; `reason` goes into its trace."""
    known = request.evidence.known if request.evidence.hits else 0.0
    return Answer(
        text=ABSENT[request.chinese],
        evidence=request.evidence.hits,
        confidence=round(max(0.0, min(1.0, 1 - known)), 4) if request.evidence.hits else 0.0,
        abstained=True,
        trace={**request.evidence.trace, "abstained": reason, **trace},
    )
