"""Interface of the editors: an image, an instruction and retrieved examples to an edited image.

The model retrieves, the editor edits. Knows no knowledge base and no implementation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ravlm.data.images import load_image
from ravlm.records import Edit, Hit, ImageSource


@dataclass(frozen=True)
class EditRequest:
    """One image to edit: everything that an editor may use."""

    image: ImageSource
    instruction: str
    """In English or Chinese."""
    evidence: tuple[Hit, ...] = ()
    """Retrieved entries, best first. Those with an image can steer the edit."""
    seed: int = 0
    """For editors that sample."""


class Editor(ABC):
    """Edits images by instruction. `ravlm.editing.auto.load_editor` loads one by name."""

    name: str

    @abstractmethod
    def retrieval_query(self, instruction: str) -> str:
        """Return the text to search example images with; empty if the edit needs no examples."""

    @abstractmethod
    def edit(self, request: EditRequest) -> Edit:
        """Return the edited image, upright, with the size and the transparency of the input.

        Only a crop changes the size. An edit is done in full or not at all: if a part of the
        instruction can't be done, the image equals the input, the region is None, and `understood`
        says why and what can be asked for instead.
        """


def unchanged(request: EditRequest, reason: str) -> Edit:
    """Return an edit that changes nothing, for the given reason."""
    return Edit(load_image(request.image, mode="original"), understood=reason)
