"""CLIPScore and its like: how near texts and pictures lie in an encoder's space. Knows vectors
only.

Hessel, Holtzman, Forbes, Le Bras and Choi 2021 (with the encoder CLIP ViT-B/32 and "A photo
depicts" before each caption, which the caller adds or leaves); Gal et al. 2022 for the direction of
an edit. Scores of different encoders can't be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score

_SCALE = 2.5


def clip_score(images: np.ndarray, candidates: np.ndarray, encoder: str = "") -> Score:
    """2.5 times the cosine of each picture and its caption, 0 where negative; the mean of the
    items.

    `images`, `candidates`: vectors (n, dim). `encoder`: a name for the signature, say its
    fingerprint."""
    images, candidates = _units("images", images), _units("candidates", candidates)
    _same(images, candidates)
    items = _SCALE * np.maximum((images * candidates).sum(axis=1), 0)
    return Score(
        float(items.mean()), tuple(items.tolist()), signature("clip-score", f"encoder:{encoder}")
    )


def ref_clip_score(
    images: np.ndarray, candidates: np.ndarray, references: Sequence[np.ndarray], encoder: str = ""
) -> Score:
    """The harmonic mean of the CLIPScore and of the cosine with the nearest reference; the mean of
    the items.

    `references[i]`: vectors (at least 1, dim) of that item's references.
    """
    score = clip_score(images, candidates, encoder)
    texts = _units("candidates", candidates)
    if len(references) != len(texts):
        raise InvalidInput(
            f"There are {len(texts)} candidates, {len(references)} lists of references; each needs one."
        )
    nearest = [
        max(0.0, float((_units(f"references[{i}]", r) @ texts[i]).max()))
        for i, r in enumerate(references)
    ]
    items = [
        2 * a * b / (a + b) if a + b else 0.0 for a, b in zip(score.items, nearest, strict=True)
    ]
    return Score(
        float(np.mean(items)), tuple(items), signature("ref-clip-score", f"encoder:{encoder}")
    )


def directional_similarity(
    images: np.ndarray,
    edited: np.ndarray,
    texts: np.ndarray,
    edited_texts: np.ndarray,
    encoder: str = "",
) -> Score:
    """The cosine of how a picture changed and how its description did, -1 to 1, 0 where either
    stayed; the mean.

    All are vectors (n, dim): before and after, of the pictures and of the texts.
    """
    arrays = [
        _units(name, array)
        for name, array in zip(
            ("images", "edited", "texts", "edited_texts"),
            (images, edited, texts, edited_texts),
            strict=True,
        )
    ]
    for other in arrays[1:]:
        _same(arrays[0], other)
    pictures, words = arrays[1] - arrays[0], arrays[3] - arrays[2]
    norms = np.linalg.norm(pictures, axis=1) * np.linalg.norm(words, axis=1)
    items = np.where(norms > 1e-9, (pictures * words).sum(axis=1) / np.maximum(norms, 1e-9), 0.0)
    return Score(
        float(items.mean()),
        tuple(items.tolist()),
        signature("directional-similarity", f"encoder:{encoder}"),
    )


def _units(name: str, vectors: np.ndarray) -> np.ndarray:
    array = np.asarray(vectors, np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise InvalidInput(
            f"{name} has the shape {array.shape}; finite vectors (n, dim) are needed, at least one."
        )
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)


def _same(one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape:
        raise InvalidInput(
            f"The vectors have the shapes {one.shape} and {other.shape}; they must be the same."
        )
