"""Base class of encoders with several vectors per image or text: one per token.

They are compared by MaxSim (late interaction). Where one vector is needed, it is the direction of
the mean of all tokens.
"""

from __future__ import annotations

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ravlm.data.text import check_unicode
from ravlm.encoders.base import Encoder, Role, check_finite, check_role
from ravlm.encoders.token_vectors import TokenVectors, unit_rows
from ravlm.errors import BrokenData, InvalidInput, Mismatch, MissingExtra
from ravlm.records import MODALITIES, ImageSource

MAX_TEXT_TOKENS = 512
"""Tokens of a text, although most of these models could read more: longer ones are split."""


class MultiVectorEncoder(Encoder):
    """Encodes images and texts to the unit vectors of their tokens.

    `token_pooling`: number of tokens of a document that share one vector, on average: the mean of
    those that are most similar (Clavié et al. 2024). Images are pooled as queries, too, so that a
    page finds itself; the texts of queries never are.
    """

    asymmetric = MODALITIES
    token_pooling = 1
    _whole_fingerprint: str
    """Fingerprint of the encoder that pools no tokens."""

    @abstractmethod
    def _image_tokens(self, images: Sequence[ImageSource], batch_size: int) -> list[np.ndarray]:
        """Return the vectors of each image, float32 (tokens, dim)."""

    @abstractmethod
    def _text_tokens(self, texts: Sequence[str], batch_size: int, role: Role) -> list[np.ndarray]:
        """Return the vectors of each text, float32 (tokens, dim). There is at least one text, and
        each fits the model."""

    def with_token_pooling(self, factor: int) -> Self:
        """Return the same encoder with another factor. Raises InvalidInput below 1."""
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise InvalidInput(f"token_pooling is {factor!r}; give a whole number, at least 1.")
        pooled = copy.copy(self)
        pooled.token_pooling = factor
        return pooled

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Hash of weights and preprocessing, and of the token pooling if there is any."""
        whole = self._whole_fingerprint
        if self.token_pooling == 1:
            return whole
        return hashlib.sha256(f"{whole} pooled {self.token_pooling}".encode()).hexdigest()

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> np.ndarray:
        return self.encode_image_tokens(images, batch_size, role).pooled()

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        return self.encode_text_tokens(texts, batch_size, role).pooled()

    def encode_image_tokens(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> TokenVectors:
        check_role(role)
        return self._joined(self._image_tokens(images, batch_size), "document")

    def encode_text_tokens(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> TokenVectors:
        check_role(role)
        for text in texts:
            check_unicode(text)
        passages = [self.passages(text)[0] for text in texts]
        items = self._text_tokens(passages, batch_size, role) if passages else []
        return self._joined(items, role)

    def _joined(self, items: list[np.ndarray], role: Role) -> TokenVectors:
        """Scale the vectors to length 1 and pool those of documents. Raises BrokenData."""
        if not all(map(len, items)):
            raise BrokenData(
                f'The encoder "{self.name}" returned no vector at all for an input: its tokens are '
                "all left out. Choose another checkpoint."
            )
        units = [check_finite(unit_rows(rows), self.name) for rows in items]
        if role == "document" and self.token_pooling > 1:
            units = pool_tokens(units, self.token_pooling)
        return TokenVectors.from_items(units, self.dim)


def several_vectors_error(name: str, item: str) -> Mismatch:
    """Return the error for a model of single vectors that gives several for one `item`."""
    return Mismatch(
        f'The model "{name}" gives several vectors for {item}, and is no multi-vector model that '
        "ravlm knows. Use a model that pools them, a late-interaction model of Transformers "
        "(ColPali, ColQwen2), or a MultiVectorEncoder of sentence-transformers."
    )


def pool_tokens_of(encoder: Encoder, factor: int) -> MultiVectorEncoder:
    """Return the encoder with this token pooling. Raises InvalidInput."""
    if not isinstance(encoder, MultiVectorEncoder):
        raise InvalidInput(
            f'token_pooling is {factor}, but the encoder "{encoder.name}" gives one vector per '
            "image or text; leave the setting out, or use a multi-vector model (ColPali, ColQwen2)."
        )
    return encoder.with_token_pooling(factor)


def pool_tokens(items: Sequence[np.ndarray], factor: int) -> list[np.ndarray]:
    """Return unit vectors (tokens / factor, dim) for those of each item (tokens, dim).

    Similar tokens are merged by Ward's hierarchical clustering. Raises MissingExtra.
    """
    try:
        import torch
        from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling
    except ImportError:
        raise MissingExtra("sentence-transformers", "hub", "Token pooling") from None
    pooling: Any = HierarchicalTokenPooling(factor, num_protected_tokens=0)
    tensors = [torch.from_numpy(np.asarray(rows, np.float32)) for rows in items]
    return [rows.numpy() for rows in pooling.pool(tensors)]
