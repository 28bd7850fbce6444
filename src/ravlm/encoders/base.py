"""The encoder's interface: images and texts to unit vectors of one space.

Knows no architecture: each implementation is a module beside this one, named in `ARCHITECTURES` of
`loading.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ravlm.records import ImageSource

if TYPE_CHECKING:
    from PIL import Image


class DualEncoder(ABC):
    """Two towers, one for images and one for texts, that end in the same space.

    Vectors are float32, shape (n, dim), of length 1, in input order; an empty input gives shape (0,
    dim)."""

    name: str
    """What `DualEncoder.load` takes to get this encoder again: "starter", a hub name or an absolute
    folder."""
    dim: int
    fingerprint: str
    """Hexadecimal hash of weights and preprocessing, a dictionary that it glosses by included."""
    languages: tuple[str, ...]
    """ISO 639-1 codes that the text tower reads by itself; `glosses` names those it reads through a
    dictionary."""
    glosses: tuple[str, ...] = ()
    image_size: int
    """Edge in pixels that the image tower looks at: a decoder needs to give no more."""

    @abstractmethod
    def encode_images(self, images: Sequence[ImageSource], batch_size: int = 32) -> np.ndarray:
        """Images to (n, dim) float32 unit vectors. Raises BrokenData for one that can't be
        decoded."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Texts to (n, dim) float32 unit vectors; what a tower can't read whole is cut (see
        `passages`)."""

    @abstractmethod
    def passages(self, text: str) -> list[str]:
        """`text` in pieces that each fit the text tower, in order; a text that fits is one piece,
        unchanged."""

    def prepare(self, image: Image.Image) -> Image.Image:
        """What the image tower looks at, shrunk where it can be: a decoding thread keeps this, not
        the whole photo.

        `encode_images` gives the same vector for it as for `image`.
        """
        return image

    def gloss(self, text: str) -> str:
        """What the text tower is given for `text`: itself, unless a dictionary stands in
        between."""
        return text

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the encoder as a checkpoint folder that `DualEncoder.load` reads."""

    @staticmethod
    def load(name_or_folder: str | Path) -> DualEncoder:
        """Load "starter", a checkpoint folder, a Hugging Face model by hub name, or a preset of
        `encoders.presets`.

        Raises NotFound, BrokenData or Mismatch with a sentence that says what to do.
        """
        from ravlm.encoders.auto import load_encoder

        return load_encoder(name_or_folder)

    @staticmethod
    def from_backbones(
        image: str | Path, text: str | Path, dim: int = 512, seed: int = 0
    ) -> DualEncoder:
        """An encoder to be trained: an image model and a text model of Transformers, by folder or
        hub name.

        Each gets a linear head to `dim` numbers, drawn at random from `seed`: until it is trained,
        pictures and texts do not find each other. Raises NotFound, BrokenData or Mismatch with a
        sentence that says what to do."""
        from ravlm.encoders.vision_text_dual import VisionTextDualEncoder

        return VisionTextDualEncoder.from_backbones(image, text, dim, seed)
