"""Token vectors in 8 bit or one bit per dimension, which may be memory-mapped.

The codes find the best items. Their scores are computed again from the vectors in the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from ravlm.encoders.token_vectors import TokenVectors, token_positions
from ravlm.search.maxsim import chunk_items, sum_of_best

MAX_CODE = 127


class TokenCodec(ABC):
    """A way to store unit vectors of `dim` dimensions."""

    kind: ClassVar[str]
    """Name in `CODECS`, in snapshots and in the report of `tune`."""
    dtype: ClassVar[Any] = np.uint8
    max_step: ClassVar[int] = 0
    """How much the codes of one vector may differ between processors."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @property
    @abstractmethod
    def width(self) -> int:
        """Bytes per token."""

    @abstractmethod
    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes (tokens, width) of unit vectors (tokens, dim)."""

    @abstractmethod
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors of codes, float32 (tokens, dim)."""

    @abstractmethod
    def similarities(self, query: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the dot products of a query (t, dim) with the decoded codes, (t, tokens)."""


class EightBitCodec(TokenCodec):
    """One byte per dimension: a component of a unit vector lies between -1 and 1."""

    kind: ClassVar[str] = "tokens-8bit"
    dtype: ClassVar[Any] = np.int8
    max_step: ClassVar[int] = 1

    @property
    def width(self) -> int:
        return self.dim

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        scaled = np.rint(np.asarray(vectors, np.float32) * MAX_CODE)
        return np.clip(scaled, -MAX_CODE, MAX_CODE).astype(np.int8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return codes.astype(np.float32) / MAX_CODE

    def similarities(self, query: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return (query / np.float32(MAX_CODE)) @ codes.astype(np.float32).T


class BinaryCodec(TokenCodec):
    """The sign of each dimension; a query is not rounded."""

    kind: ClassVar[str] = "tokens-binary"

    @property
    def width(self) -> int:
        return (self.dim + 7) // 8

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        return np.packbits(np.asarray(vectors) > 0, axis=1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        signs = 2 * np.unpackbits(codes, axis=1, count=self.dim).astype(np.float32) - 1
        return signs / np.float32(np.sqrt(self.dim))

    def similarities(self, query: np.ndarray, codes: np.ndarray) -> np.ndarray:
        bits = np.unpackbits(codes, axis=1, count=self.dim).astype(np.float32)  # (tokens, dim)
        scaled = query / np.float32(np.sqrt(self.dim))
        return (2 * scaled) @ bits.T - scaled.sum(axis=1, keepdims=True)  # of signs, not of bits


CODECS: dict[str, type[TokenCodec]] = {
    EightBitCodec.kind: EightBitCodec,
    BinaryCodec.kind: BinaryCodec,
}
"""All codecs by kind; the first is the default."""


class CodedTokens:
    """The tokens of rows, one row after the other, as codes of a codec.

    `codes` (tokens, width) may be memory-mapped; row i has starts[i]:starts[i + 1], at least one.
    """

    def __init__(self, codec: TokenCodec, codes: np.ndarray, starts: np.ndarray) -> None:
        self.codec = codec
        self.starts = starts
        self._codes = [codes]

    @classmethod
    def empty(cls, codec: TokenCodec) -> CodedTokens:
        """Return no rows; `append` adds some."""
        return cls(codec, np.zeros((0, codec.width), codec.dtype), np.zeros(1, np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def codes(self) -> np.ndarray:
        """The codes of all rows (tokens, width)."""
        if len(self._codes) > 1:  # joined only when they are read
            self._codes = [np.concatenate(self._codes)]
        return self._codes[0]

    def append(self, tokens: TokenVectors) -> None:
        """Append the rows of `tokens`. Only those in memory grow."""
        self._codes.append(self.codec.encode(tokens.vectors))
        self.starts = np.concatenate([self.starts, self.starts[-1] + tokens.starts[1:]])

    def scores(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the MaxSim of a query (t, dim) with these rows, float32 (rows,)."""
        starts = self._starts(rows)
        scores = np.zeros(len(rows), np.float32)
        for first, last in chunk_items(starts):
            codes = self._gather(rows[first:last])
            similarities = self.codec.similarities(query, codes)
            scores[first:last] = sum_of_best(similarities, starts[first : last + 1] - starts[first])
        return scores

    def matches(self, rows: np.ndarray, tokens: TokenVectors) -> np.ndarray:
        """Return whether these rows hold the codes of `tokens`, bool (rows,)."""
        is_equal = np.diff(self._starts(rows)) == np.diff(tokens.starts)
        for row in np.flatnonzero(is_equal).tolist():
            codes = self.codec.encode(tokens[row]).astype(np.int16)
            steps = np.abs(self._gather(rows[row : row + 1]).astype(np.int16) - codes)
            is_equal[row] = steps.max() <= self.codec.max_step
        return is_equal

    def decode(self, rows: np.ndarray) -> TokenVectors:
        """Return the vectors of these rows, as the codec keeps them."""
        return TokenVectors(self.codec.decode(self._gather(rows)), self._starts(rows))

    def _starts(self, rows: np.ndarray) -> np.ndarray:
        """Return `starts` of these rows alone, as if they were joined: int64 (rows + 1,)."""
        counts = self.starts[rows + 1] - self.starts[rows]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Return the codes of these rows, joined."""
        if not len(rows):
            return self.codes[:0]
        if len(rows) == rows[-1] - rows[0] + 1 and (np.diff(rows) == 1).all():
            return self.codes[self.starts[rows[0]] : self.starts[rows[-1] + 1]]
        return self.codes[token_positions(self.starts, rows)]
