"""The interface of all generators: a request with its evidence in, an answer out.

The model retrieves and the generator reads: a generator knows no knowledge base and no encoder."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator as Stream
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ravlm.data.page_text import PageText, region_text_index
from ravlm.records import (
    CLOSED_BOOK,
    Answer,
    Evidence,
    Hit,
    ImageSource,
    Message,
    Modality,
    Source,
)

if TYPE_CHECKING:
    import numpy as np

VerbName = Literal["ask", "caption", "tell", "chat"]
ABSENT = {False: "That is not in the knowledge base.", True: "知识库中没有这方面的内容。"}
"""Text of an abstaining answer, in English and (True) Chinese."""
_TOKEN = re.compile(r"[\x21-\x7e]+\s*|.", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """Everything a generator may read for one output."""

    task: VerbName
    text: str = ""
    """The question, the prompt of a story, or the last message; empty for a caption."""
    image: ImageSource | None = None
    evidence: Evidence = CLOSED_BOOK
    messages: tuple[Message, ...] = ()
    """All messages of a conversation, including the last one."""
    chinese: bool = False
    """Whether to write Chinese."""
    seed: int = 0
    more_images: tuple[ImageSource, ...] = ()
    """The images after the first one, of a message with several."""
    declined: bool = False
    """Whether the base was searched and does not support an output; the evidence is left out."""
    base_only: bool = True
    """Whether to decline what the base does not support, rather than go on without evidence."""

    @property
    def images(self) -> tuple[ImageSource, ...]:
        """All images of the request, in order."""
        return (*([] if self.image is None else [self.image]), *self.more_images)


class Generator(ABC):
    """Writes text from images, text and evidence.

    >>> generator.generate([Request("caption", image="cat.jpg")])[0].text
    'a tabby cat on a chair'
    """

    name: str
    """The name, folder or address that loads it."""
    evidence_modality: Modality = "image"
    """Modality used to retrieve evidence for captioning: similar images, or texts that match the
    image."""

    reads_passages: bool = False
    """Whether it judges by itself if passages that are merely similar to a question answer it."""

    talks: bool = False
    """Whether it answers small talk in its own words; for others there is a fixed reply."""

    reads_several_images: bool = False
    """Whether it reads all images of a message with several."""

    def check_reachable(self) -> None:  # noqa: B027 - most generators run here
        """Raise an error if the generator runs elsewhere and can't be reached."""

    def adapt_query(self, vectors: np.ndarray, fingerprint: str) -> np.ndarray:
        """Map image vectors (n, dim) to query vectors (n, dim) for captioning.

        `fingerprint` identifies the encoder of the vectors. By default they are the queries; a
        generator may have learned better ones.
        """
        return vectors

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return an answer for each request, in order.

        Must abstain when the evidence does not support an answer; closed-book generators may answer
        on their own.
        """

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Yield pieces of the answer's text as they are generated, and return the answer."""
        answer = self.generate([request])[0]
        yield from split_pieces(answer.text)
        return answer


def split_pieces(text: str) -> list[str]:
    """Split a text for streaming: words with their trailing space, single Chinese characters.

    >>> split_pieces("a red 苹果")
    ['a ', 'red ', '苹', '果']
    """
    return _TOKEN.findall(text)


def cited_parts(
    citations: Sequence[str], hits: Sequence[Hit], quotes: Mapping[str, str] | None = None
) -> tuple[Source, ...]:
    """Return a source for each citation: the part of its hit that matched, as a whole.

    `quotes` are the texts that the output takes from entries, by id. The source of a quote from an
    entry's regions is the lines that contain it, with their box.
    """
    quotes = quotes or {}
    by_id = {hit.entry.id: hit for hit in reversed(hits)}
    return tuple(
        _quote_source(by_id[entry_id], quotes.get(entry_id, ""))
        or Source(entry_id, by_id[entry_id].part)
        for entry_id in citations
    )


def _quote_source(hit: Hit, quote: str) -> Source | None:
    """Return the lines that contain a quote among an entry's regions; None if none does."""
    if not quote or not hit.entry.regions:
        return None
    page = PageText.of(hit.entry.regions)
    start, end = page.find(quote)
    if start == end:
        return None
    return page.source(hit.entry.id, region_text_index(hit.entry), start, end)


def abstain(request: Request, reason: str, **trace: Any) -> Answer:
    """Return an abstaining answer; `reason` goes into its trace."""
    evidence = request.evidence
    confidence = max(0.0, min(1.0, 1 - evidence.support)) if evidence.hits else 0.0
    return Answer(
        text=ABSENT[request.chinese],
        evidence=evidence.hits,
        confidence=round(confidence, 4),
        abstained=True,
        trace={**evidence.trace, "abstained": reason, **trace},
    )
