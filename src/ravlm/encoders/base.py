"""The encoder interface: images and texts to unit vectors of one space.

Knows no implementation. `ravlm.encoders.auto` loads encoders by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from ravlm.encoders.token_vectors import TokenVectors
from ravlm.errors import BrokenData, InvalidInput
from ravlm.records import ImageSource, Modality

if TYPE_CHECKING:
    from PIL import Image

Role: TypeAlias = Literal["query", "document"]
"""What an input is encoded as: a query to search with, or a document to search in."""


def check_role(role: str) -> None:
    """Raise InvalidInput unless `role` is a `Role`."""
    if role not in get_args(Role):
        raise InvalidInput(f'role is "{role}"; allowed: {", ".join(get_args(Role))}.')


def check_finite(vectors: np.ndarray, encoder: str) -> np.ndarray:
    """Return `vectors` (n, dim) of the encoder with this name.

    Raises BrokenData if they contain NaN or infinite values: every comparison with such a vector is
    false, or every cosine is the lowest possible number.
    """
    num_invalid = int((~np.isfinite(vectors)).any(axis=-1).sum())
    if num_invalid:
        raise BrokenData(
            f'The encoder "{encoder}" returned NaN or infinite values for {num_invalid:,} of '
            f"{len(vectors):,} inputs: its weights are damaged. Download or train it again."
        )
    return vectors


class Encoder(ABC):
    """Two towers, one for images and one for texts, that map to the same space.

    Vectors are float32 of shape (n, dim) and length 1, in input order. An empty input gives shape
    (0, dim).

    Some models encode queries and documents differently: with another prompt, or with another
    tower. `role` says which of the two the inputs are; all other models ignore it.
    """

    name: str
    """What `DualEncoder.load` takes to load this encoder again: "starter", a hub name or an
    absolute folder."""
    dim: int
    fingerprint: str
    """Hexadecimal hash of weights and preprocessing, including the dictionary used for glossing."""
    languages: tuple[str, ...]
    """ISO 639-1 codes of the languages the text tower reads itself."""
    glosses: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages that are glossed by a dictionary first."""
    image_size: int
    """Edge in pixels that the image tower needs: a decoder may shrink an image to this size."""

    matryoshka_dims: tuple[int, ...] = ()
    """Lengths to which a vector may be cut because the model was trained for them (Matryoshka)."""
    asymmetric: tuple[Modality, ...] = ()
    """Modalities of which the same input has one vector as a query and another as a document."""
    token_pooling: int = 0
    """0 for one vector per input. For encoders of several vectors (`encode_image_tokens`), the
    number of tokens that share one, on average."""

    @property
    def is_asymmetric(self) -> bool:
        """Whether queries and documents of any modality are encoded differently."""
        return bool(self.asymmetric)

    @abstractmethod
    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> np.ndarray:
        """Return float32 unit vectors (n, dim) of the images.

        Raises BrokenData for an image that cannot be decoded, and for vectors that are not finite
        (`check_finite`); InvalidInput for an unknown `role`.
        """

    @abstractmethod
    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        """Return float32 unit vectors (n, dim) of the texts. Longer texts are truncated (see
        `passages`). Raises InvalidInput for a text that is not valid Unicode, or an unknown
        `role`."""

    def encode_image_tokens(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> TokenVectors:
        """Return the token vectors of the images, which are compared by MaxSim.

        An encoder of single vectors has one per image. Raises what `encode_images` raises.
        """
        return TokenVectors.single(self.encode_images(images, batch_size, role))

    def encode_text_tokens(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> TokenVectors:
        """Return the token vectors of the texts; see `encode_image_tokens`."""
        return TokenVectors.single(self.encode_texts(texts, batch_size, role))

    @abstractmethod
    def passages(self, text: str) -> list[str]:
        """Split `text` into consecutive pieces that each fit the text tower. A text that fits is
        one piece, unchanged."""

    def prepare(self, image: Image.Image) -> Image.Image:
        """Shrink `image` to what the image tower needs, so that a decoding thread does not keep the
        full photo.

        `encode_images` gives the same vector for the result as for `image`.
        """
        return image

    def gloss(self, text: str) -> str:
        """Return the text that the text tower reads: `text` itself unless it is glossed first."""
        return text

    @property
    def short_text_encoder(self) -> Encoder:
        """The encoder that compares short texts, such as questions and keys, best; by default, this
        one."""
        return self

    def former(self, fingerprint: str) -> Encoder | None:
        """Return this encoder as an earlier version of ravlm ran it, if its fingerprint was
        `fingerprint`; None if it never was."""
        return None

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the encoder as a checkpoint folder that `DualEncoder.load` reads."""
