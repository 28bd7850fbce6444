"""What every editor is given and gives: a picture, an instruction and retrieved pictures in, a
picture out.

The model retrieves, the editor edits. Knows no knowledge base.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ravlm.data.images import load_image
from ravlm.records import Edit, Hit, ImageSource


@dataclass(frozen=True)
class EditRequest:
    """One picture to change: everything an editor may look at."""

    image: ImageSource
    instruction: str
    evidence: tuple[Hit, ...] = ()
    """What was retrieved for it, best first; those with a picture can steer the edit."""
    seed: int = 0


class Editor(ABC):
    """Pictures, instructions and evidence to pictures. Implementations are siblings beside this
    file."""

    name: str

    @abstractmethod
    def wanted(self, instruction: str) -> str:
        """The words to search pictures by that would steer this edit; empty where none are
        needed."""

    @abstractmethod
    def edit(self, request: EditRequest) -> Edit:
        """The changed picture, of the upright input's size (a crop's apart), with its transparency.

        Nothing that can't be done is done by half: then the image equals the input, the region is
        None, and `understood` says why and what can be asked."""


def refused(request: EditRequest, sentence: str) -> Edit:
    """The edit that does nothing, and says why."""
    return Edit(load_image(request.image, form="own"), understood=sentence)


def everywhere(image: Image.Image) -> np.ndarray:
    """The region that is the whole picture."""
    return np.ones((image.height, image.width), bool)
