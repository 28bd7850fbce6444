"""The records that cross layers: small frozen dataclasses, nothing else.

Knows no file format, no encoder and no store. An image is a path (`str` or `Path`), bytes or a PIL
image, everywhere; it is opened by `ravlm.data.images` only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image"
Modality: TypeAlias = Literal["image", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "text")


@dataclass(frozen=True)
class Pair:
    """An image and the texts that describe it, to train on."""

    image: ImageSource
    texts: tuple[str, ...]
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The first text."""
        return self.texts[0]


@dataclass(frozen=True)
class Entry:
    """A record of a knowledge base: a picture, texts, or both, and metadata (JSON types).

    The metadata key `group` names what belongs together: the leakage guard never shows an entry to
    its own group."""

    id: str
    image: ImageSource | None = None
    texts: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The first text; an empty string where there is none."""
        return self.texts[0] if self.texts else ""


@dataclass(frozen=True)
class Part:
    """What of an entry has a vector of its own: its image, or one passage of one text."""

    modality: Modality
    index: int = 0
    """Which of the entry's texts (0 for an image)."""
    text: str = ""
    """The passage itself; empty for an image."""


@dataclass(frozen=True)
class Hit:
    """An entry that a search found. `score`: higher is better; a cosine for a dense search, else
    the last stage's."""

    entry: Entry
    score: float
    part: Part


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
    """How likely each hit is about what is asked about, of all that were found (they sum to at most
    1)."""
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
class Answer:
    """What a generator said, and what it rests on."""

    text: str
    evidence: tuple[Hit, ...] = ()
    citations: tuple[str, ...] = ()
    """Ids of the entries that the text rests on; empty when abstained."""
    confidence: float = 0.0
    """0 to 1: how likely the answer is right."""
    abstained: bool = False
    trace: Mapping[str, Any] = field(default_factory=dict)
    """What was done: the query as glossed, scores, seconds a stage."""


@dataclass(frozen=True)
class Edit:
    """A picture changed by an instruction; `image` equals the input, upright, where nothing was
    done."""

    image: Image.Image
    region: np.ndarray | None = None
    """Where it was changed: boolean, height x width of the input; None where nothing was done."""
    evidence: tuple[Hit, ...] = ()
    """The retrieved pictures that steered the edit, the one that did so most first."""
    understood: str = ""
    """A sentence: what was understood, and where nothing was done, why, and what can be asked."""


@dataclass(frozen=True)
class Example:
    """One item of a task, with its reference."""

    id: str
    image: ImageSource | None = None
    text: str = ""
    """What is asked, searched or instructed; empty for a caption."""
    references: tuple[str, ...] = ()
    """What is right: captions, answers, or ids of entries."""
    edited_image: ImageSource | None = None
    mask: ImageSource | None = None
    """What an edit should give, and where it should change the picture (white)."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The row's other keys."""


@dataclass(frozen=True)
class Score:
    """What a metric says about many items at once."""

    value: float
    """On the scale of the reference implementation."""
    items: tuple[float, ...]
    """The same for each item alone, in order."""
    signature: str
    """What was computed and how: metric, tokenisation, version. Equal signatures may be
    compared."""
    counts: np.ndarray | None = None
    """Of a metric that is no mean of its items: a row of counts an item; the value is computed from
    their sum."""
