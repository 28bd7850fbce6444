"""A request as retrieval sees it, and whether its text or its image is its subject."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ravlm.data.page_text import all_texts
from ravlm.data.text import is_chinese
from ravlm.errors import InvalidInput
from ravlm.records import Evidence, Hit, ImageSource
from ravlm.retrieval.entity_linking import unmatched_entity_name

_REFERENCE = re.compile(
    r"\b(?:it|its|he|his|him|she|her|they|their|them|this|that|these|those|there)\b"
    r"|^(?:and|but|what about|how about|why|when|where|who)\b"
    r"|[它他她其]|^(?:那|还有|为什么|什么时候)",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w-]+")
_CHINESE_HEAD = re.compile(
    r"^(?:那|请问)?(.{2,8}?)(?:有|是|在|的|多|什么|怎|位于|属于|由|为何|哪|，)"
)


@dataclass(frozen=True)
class RetrievalQuery:
    """A request for evidence. Raises InvalidInput without a text and an image."""

    text: str = ""
    image: ImageSource | None = None
    history: tuple[str, ...] | None = None
    """In a conversation, earlier turns that may name its subject, the least likely first; None
    outside of one."""
    accept_similar: bool = False
    """Whether entries may be evidence that are merely similar, if none is about the request."""

    def __post_init__(self) -> None:
        if not self.text and self.image is None:
            raise InvalidInput("There is no text and no image to retrieve for; give one of them.")

    @property
    def text_first(self) -> bool:
        """Whether the text is looked up first.

        In a conversation, an entity that is named goes before the image of an earlier turn.
        """
        return bool(self.text) and (self.image is None or self.history is not None)

    @property
    def follow_up(self) -> str:
        """The text after the turn that it refers to, by a pronoun or "and"; "" without one."""
        if not self.history or not _REFERENCE.search(self.text):
            return ""
        return f"{self.history[-1]} {self.text}"

    def names_other_subject(self, hits: Sequence[Hit]) -> bool:
        """Return whether the text has a name that no hit has, and no pronoun for what they are."""
        if _REFERENCE.search(self.text):
            return False
        texts = " ".join(text for hit in hits for text in all_texts(hit.entry))
        if is_chinese(self.text):
            head = _CHINESE_HEAD.match(self.text)
            return head is not None and head[1] not in texts
        return any(name not in texts for name in _NAME.findall(self.text))

    def needs_text(self, by_image: Evidence, gloss: Callable[[str], str]) -> bool:
        """Return whether the text must be looked up too: the image is unknown or not the subject.

        `gloss` is that of the encoder.
        """
        if not self.text:
            return False
        if not by_image.sufficient:
            return True
        if self.accept_similar:
            return False
        return bool(unmatched_entity_name(self.text, gloss, by_image.hits))


def choose_evidence(
    by_text: Evidence | None, by_image: Evidence | None, needs_text: bool
) -> Evidence:
    """Choose between what a request's text names and what its image shows.

    Evidence that was not retrieved is None.
    """
    if by_text is None or by_image is None:
        return by_text or by_image or Evidence()
    if by_text.subject:
        return by_text
    return by_text if needs_text and by_image.sufficient else by_image
