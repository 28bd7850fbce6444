"""The records of the demo: a step of the plan, its result, and the base that was built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from ravlm.records import Answer, Entry, Hit, ImageSource, Modality

Section = Literal["photo", "search", "questions", "chat", "abstention"]
Verb = Literal["search", "ask", "caption", "tell", "chat"]


@dataclass(frozen=True)
class DemoStep:
    """One search or one request to the model."""

    section: Section
    verb: Verb
    label: str
    """What the step shows, for a heading: "text to image"."""
    text: str = ""
    """The search text, question or prompt."""
    image: ImageSource | None = None
    modality: Modality | Literal["any"] = "any"
    """What a search may match."""
    subject: str = ""
    """Id of the entry that the image shows, if known: then hits can be marked right or wrong."""


@dataclass(frozen=True)
class DemoPlan:
    """The steps of the demo, in order."""

    photo: Image.Image
    """The image of the section "photo"."""
    steps: Sequence[DemoStep]


@dataclass(frozen=True)
class StepResult:
    """A step and what came of it."""

    step: DemoStep
    hits: tuple[Hit, ...]
    """The hits of a search, or the evidence of an answer."""
    answer: Answer | None
    """None for a search."""
    gloss: str
    """The text in English that was encoded in place of `step.text`; empty if it was not
    translated."""
    seconds: float


@dataclass(frozen=True)
class DemoBase:
    """The knowledge base of the demo."""

    path: Path
    entries: tuple[Entry, ...]
    num_parts: int
    encoder: str
    quarantine: tuple[str, ...]
    """Location and reason of the entries that were refused."""
    load_seconds: float
    """Time to load the encoder."""
    build_seconds: float

    @property
    def with_image(self) -> list[Entry]:
        """The entries with an image."""
        return [entry for entry in self.entries if entry.image is not None]

    @property
    def text_only(self) -> list[Entry]:
        """The entries without an image."""
        return [entry for entry in self.entries if entry.image is None]
