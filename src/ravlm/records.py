"""Records that cross layers: small frozen dataclasses, and the one JSON form of each.

An image is a path (`str` or `Path`; `report.pdf#page=3` for a page), an http(s) address, bytes, a
PIL image, or an array or tensor of pixels everywhere. Only `ravlm.data.images` opens it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ravlm.regions import Box, Region, location_to_dict

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | PdfPage"
Modality: TypeAlias = Literal["image", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
_DIGITS = 6
"""Decimal places of scores and confidences in JSON."""


@dataclass(frozen=True)
class DocumentBytes:
    """A document in memory, whose pages are images."""

    data: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class PdfPage:
    """A page of a PDF in memory: an image, as the path `report.pdf#page=3` is for a file."""

    document: DocumentBytes
    page: int
    """From 1."""


@dataclass(frozen=True)
class Pair:
    """An image and the texts that describe it: one training example of an encoder.

    >>> Pair("cat.jpg", ("a tabby cat", "a cat on a chair")).text
    'a tabby cat'
    """

    image: ImageSource
    texts: tuple[str, ...]
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):  # or its characters would be the texts
            object.__setattr__(self, "texts", (self.texts,))

    @property
    def text(self) -> str:
        """The first text."""
        return self.texts[0]


@dataclass(frozen=True, init=False)
class Entry:
    """A record of a knowledge base: an image, texts, or both, and metadata (JSON types).

    `regions` are what is written on the image or the page, and where; search and answers use their
    words like texts.

    Entries with the same metadata key `group` belong together: the leakage guard hides them from
    each other.

    >>> Entry("cat", "cat.jpg", ("a tabby cat",), {"year": 2011}).text
    'a tabby cat'
    >>> Entry("cat", text="a tabby cat").texts
    ('a tabby cat',)
    """

    id: str
    image: ImageSource | None
    texts: tuple[str, ...]
    metadata: Mapping[str, Any]
    regions: tuple[Region, ...] = ()

    def __init__(
        self,
        id: str = "",
        image: ImageSource | None = None,
        texts: Iterable[str] | str = (),
        metadata: Mapping[str, Any] | None = None,
        regions: Iterable[Region] = (),
        *,
        text: str | None = None,
    ) -> None:
        """Without an id, a base derives one from the content. `text` is the first text, before
        `texts`; a single string is one text."""
        all_texts = (texts,) if isinstance(texts, str) else tuple(texts)
        fields = self.__dict__  # faster than `setattr`: a search makes an entry for each hit
        fields["id"], fields["image"] = id, image
        fields["texts"] = all_texts if text is None else (text, *all_texts)
        fields["metadata"] = {} if metadata is None else metadata
        fields["regions"] = tuple(regions)

    @property
    def text(self) -> str:
        """The first text, or an empty string if there is none."""
        return self.texts[0] if self.texts else ""

    def to_dict(self, image_url: ImageUrl | None = None, regions: bool = True) -> dict[str, Any]:
        """Return the JSON form.

        `image_url` maps an entry with an image to where its image can be read; the default is the
        stored path or address, and None for an image in memory. `regions` are left out if there
        are none, or with `regions=False`: a page has many.

        >>> Entry("cat", "cat.jpg", ("a tabby cat",)).to_dict()
        {'id': 'cat', 'texts': ['a tabby cat'], 'metadata': {}, 'image_url': 'cat.jpg'}
        """
        locate = image_url or image_location
        values: dict[str, Any] = {
            "id": self.id,
            "texts": list(self.texts),
            "metadata": dict(self.metadata),
            "image_url": None if self.image is None else locate(self),
        }
        if self.regions and regions:
            values["regions"] = [region.to_dict() for region in self.regions]
        return values


ImageUrl: TypeAlias = Callable[[Entry], "str | None"]
"""Maps an entry to the address under which a client can read its image."""


def image_path(image: ImageSource | None) -> str:
    """Return the path or address of an image; "" for bytes, an open image, or none."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else ""


def image_location(entry: Entry) -> str | None:
    """Return the path or address of the entry's image; None if it has none or only bytes."""
    return os.fspath(entry.image) if isinstance(entry.image, str | os.PathLike) else None


@dataclass(frozen=True, init=False)
class Part:
    """A piece of an entry with its own vector: the image, a passage of one text, or regions."""

    modality: Modality
    index: int = 0
    """Index of the entry's text; that of its regions comes after `Entry.texts`. 0 for an image."""
    text: str = ""
    """The passage; empty for an image."""
    box: Box | None = None
    """Where it stands on the image or page; None for the whole image and for `Entry.texts`."""
    page: int | None = None
    """Page of the document, from 1; None where there are no pages."""

    def __init__(
        self,
        modality: Modality,
        index: int = 0,
        text: str = "",
        box: Box | None = None,
        page: int | None = None,
    ) -> None:
        fields = self.__dict__  # as in `Entry`
        fields["modality"], fields["index"], fields["text"] = modality, index, text
        fields["box"], fields["page"] = box, page

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `box` and `page` are left out if they are None.

        >>> Part("text", 1, "Eyes: green").to_dict()
        {'modality': 'text', 'index': 1, 'text': 'Eyes: green'}
        """
        values: dict[str, Any] = {"modality": self.modality, "index": self.index}
        return values | {"text": self.text, **location_to_dict(self.box, self.page)}


@dataclass(frozen=True, init=False)
class Hit:
    """An entry returned by a search.

    >>> Hit(Entry("cat", texts=("a tabby cat",)), 0.9, Part("text", 0, "a tabby cat")).score
    0.9
    """

    entry: Entry
    score: float
    """Higher is better: a cosine after dense search, else the score of the last stage."""
    part: Part
    """The part of the entry that matched."""
    relevance: float | None = None
    """How far the entry is above random entries of the base, 0 to 1; the same for every method and
    modality of search. None unless `SearchOptions(relevance=True)` asks for it."""

    def __init__(
        self, entry: Entry, score: float, part: Part, relevance: float | None = None
    ) -> None:
        fields = self.__dict__  # as in `Entry`
        fields["entry"], fields["score"] = entry, score
        fields["part"], fields["relevance"] = part, relevance

    def to_dict(self, image_url: ImageUrl | None = None) -> dict[str, Any]:
        """Return the JSON form: `id`, `score` and `part`, then the other keys of the entry except
        `regions`: the part has the box that matched.

        The score is rounded to 6 decimal places. `relevance` is left out if it is None. `image_url`
        as in `Entry.to_dict`.
        """
        entry = self.entry.to_dict(image_url, regions=False)
        score = round(float(self.score), _DIGITS)
        values: dict[str, Any] = {"id": self.entry.id, "score": score, "part": self.part.to_dict()}
        if self.relevance is not None:
            values["relevance"] = round(self.relevance, _DIGITS)
        return values | entry


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: its text and the images that came with it, in order."""

    role: Literal["system", "user", "assistant"]
    text: str
    image: ImageSource | None = None
    more_images: tuple[ImageSource, ...] = ()
    """The images after the first one."""

    @property
    def images(self) -> tuple[ImageSource, ...]:
        """All images of the message, in order."""
        return (*([] if self.image is None else [self.image]), *self.more_images)


@dataclass(frozen=True)
class Evidence:
    """The hits given to a generator, best first, and how well they support an output."""

    hits: tuple[Hit, ...] = ()
    weights: tuple[float, ...] = ()
    """For each hit, the probability that it is about the subject of the request; the sum is at
    most 1 (candidates beyond the first k take the rest)."""
    support: float = 1.0
    """Probability that the base contains the subject of the request, 0 to 1."""
    min_support: float = 0.0
    """Abstention threshold: abstain when `support` is below it."""
    subject: str = ""
    """The name in the question that led to the hits; empty if an image led to them."""
    familiarity: float = 1.0
    """How much the request's image is like those of the base: the share of the base's own images
    whose neighbors are at most as near; 1 without an image, and if no image near it has a text."""
    recognized: bool = False
    """Whether the request's image shows an entity of the base, which the hits are about."""
    linked: bool = True
    """Whether the hits were linked to the subject, by a name, a fact or the image. Otherwise they
    are the passages most similar to the text, and `support` says nothing about their content."""
    trace: Mapping[str, Any] = field(default_factory=dict)
    searched: bool = True
    """False for the closed book: the base was not searched."""

    @property
    def sufficient(self) -> bool:
        """Whether the evidence supports an output."""
        return bool(self.hits) and self.support >= self.min_support


CLOSED_BOOK = Evidence(searched=False)


@dataclass(frozen=True)
class Source:
    """What a citation of an answer points to.

    >>> Source("cat", Part("text", 0, "Eyes: green"), 6, 11).part.text[6:11]
    'green'
    """

    entry_id: str
    part: Part
    start: int | None = None
    """First character of `part.text` that the answer is based on; None for the whole part."""
    end: int | None = None
    """One after the last such character."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "entry_id": self.entry_id,
            "part": self.part.to_dict(),
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True)
class Answer:
    """The output of a generator and the evidence it is based on.

    >>> Answer("A tabby cat. [1]", citations=("cat",), confidence=0.8).citations
    ('cat',)
    """

    text: str
    evidence: tuple[Hit, ...] = ()
    """All hits that the generator read."""
    citations: tuple[str, ...] = ()
    """Ids of the entries that the text is based on: `[1]` in the text is the first of them. Empty
    when abstained."""
    sources: tuple[Source, ...] = ()
    """What each citation points to, in the order of `citations`."""
    confidence: float = 0.0
    """Probability that the text is right, 0 to 1."""
    abstained: bool = False
    """Whether the generator declined because the evidence does not support an output."""
    trace: Mapping[str, Any] = field(default_factory=dict)
    """What was done: the query (glossed, if it was translated), scores, seconds per stage."""

    def to_dict(self, image_url: ImageUrl | None = None) -> dict[str, Any]:
        """Return the JSON form: all fields, the evidence as `Hit.to_dict`.

        The confidence is rounded to 6 decimal places. `image_url` as in `Entry.to_dict`.
        """
        return {
            "text": self.text,
            "citations": list(self.citations),
            "sources": [source.to_dict() for source in self.sources],
            "confidence": round(float(self.confidence), _DIGITS),
            "abstained": self.abstained,
            "evidence": [hit.to_dict(image_url) for hit in self.evidence],
            "trace": dict(self.trace),
        }


AnswerStream: TypeAlias = Generator[str, None, Answer]
"""Yields pieces of an answer's text as they are generated, and returns the Answer."""


@dataclass(frozen=True)
class Edit:
    """An image changed by an instruction."""

    image: Image.Image
    """The result; equal to the upright input if nothing was changed."""
    region: np.ndarray | None = None
    """Where the image was changed: boolean (height, width) of the input; None if nowhere."""
    evidence: tuple[Hit, ...] = ()
    """The retrieved images that guided the edit, the most influential first."""
    understood: str = ""
    """How the instruction was understood; if nothing was changed, why and what to try."""

    def to_dict(self, image_url: ImageUrl | None = None) -> dict[str, Any]:
        """Return the JSON form without the pixels; `changed` is the share of changed pixels."""
        share = 0.0 if self.region is None else float(self.region.mean())
        return {
            "understood": self.understood,
            "changed": round(share, _DIGITS),
            "evidence": [hit.to_dict(image_url) for hit in self.evidence],
        }


@dataclass(frozen=True)
class Example:
    """One item of an evaluation task, with its reference."""

    id: str
    image: ImageSource | None = None
    text: str = ""
    """The question, query or instruction; empty for captioning."""
    references: tuple[str, ...] = ()
    """The correct captions, answers or entry ids."""
    edited_image: ImageSource | None = None
    """The expected result of an edit."""
    mask: ImageSource | None = None
    """Where an edit should change the image (white)."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The other keys of the row."""


@dataclass(frozen=True)
class Score:
    """The result of a metric over a list of items."""

    value: float
    """On the scale of the reference implementation."""
    items: tuple[float, ...]
    """The metric of each item alone, in input order."""
    signature: str
    """Metric, tokenization and version. Only scores with equal signatures are comparable."""
    counts: np.ndarray | None = None
    """One row of counts per item, if `value` is computed from their sum and is not a mean."""
