"""A request as retrieval sees it, and whether its text or its image is its subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ravlm.errors import InvalidInput
from ravlm.records import Evidence, ImageSource
from ravlm.retrieval.entity_linking import unmatched_entity_name


@dataclass(frozen=True)
class RetrievalQuery:
    """A request for evidence. Raises InvalidInput without a text and an image."""

    text: str = ""
    image: ImageSource | None = None
    history: tuple[str, ...] | None = None
    """The user's earlier turns, oldest first, in a conversation; None outside of one."""
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
