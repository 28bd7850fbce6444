"""CLIPScore and related metrics: similarity of texts and images in the space of an encoder.

Hessel, Holtzman, Forbes, Le Bras and Choi 2021 (with the encoder CLIP ViT-B/32 and "A photo
depicts" before each caption, which the caller may add); Gal et al. 2022 for the direction of an
edit. Scores of different encoders can't be compared. All are tested against arithmetic on paper; no
texts are tokenized.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score

_SCALE = 2.5


def clip_score(images: np.ndarray, candidates: np.ndarray, encoder: str = "") -> Score:
    """Compute CLIPScore, 0 to 2.5: the mean of 2.5 times the cosine of image and caption.

    Negative cosines count as 0. `images`, `candidates`: vectors (n, dim), normalized here.
    `encoder`: a name for the signature, such as its fingerprint.
    """
    images = _unit_vectors("images", images)
    candidates = _unit_vectors("candidates", candidates)
    _require_same_shape(images, candidates)
    cosines = (images * candidates).sum(axis=1)  # (n,)
    return _score(_SCALE * np.maximum(cosines, 0), "clip-score", encoder)


def ref_clip_score(
    images: np.ndarray, candidates: np.ndarray, references: Sequence[np.ndarray], encoder: str = ""
) -> Score:
    """Compute RefCLIPScore, 0 to 1.43: the mean over the items.

    It is the harmonic mean of the CLIPScore and the cosine with the nearest reference.
    `references[i]`: vectors (at least 1, dim) of the references of item i.
    """
    score = clip_score(images, candidates, encoder)
    texts = _unit_vectors("candidates", candidates)
    if len(references) != len(texts):
        raise InvalidInput(
            "candidates and references must have the same length "
            f"({len(texts)} and {len(references)})."
        )
    items = []
    for i, vectors in enumerate(references):
        cosines = _unit_vectors(f"references[{i}]", vectors) @ texts[i]  # (references,)
        items.append(_harmonic_mean(score.items[i], max(0.0, float(cosines.max()))))
    return _score(np.array(items), "ref-clip-score", encoder)


def directional_similarity(
    images: np.ndarray,
    edited_images: np.ndarray,
    texts: np.ndarray,
    edited_texts: np.ndarray,
    encoder: str = "",
) -> Score:
    """Compute the cosine of the change in image and the change in text, -1 to 1: the mean.

    All are vectors (n, dim): images and their descriptions, before and after the edit. An item in
    which either did not change counts 0.
    """
    images = _unit_vectors("images", images)
    edited_images = _unit_vectors("edited_images", edited_images)
    texts = _unit_vectors("texts", texts)
    edited_texts = _unit_vectors("edited_texts", edited_texts)
    for vectors in (edited_images, texts, edited_texts):
        _require_same_shape(images, vectors)
    image_change = edited_images - images  # (n, dim)
    text_change = edited_texts - texts
    norms = np.linalg.norm(image_change, axis=1) * np.linalg.norm(text_change, axis=1)
    cosines = (image_change * text_change).sum(axis=1) / np.maximum(norms, 1e-9)
    return _score(np.where(norms > 1e-9, cosines, 0.0), "directional-similarity", encoder)


def _score(items: np.ndarray, name: str, encoder: str) -> Score:
    return Score(float(items.mean()), tuple(items.tolist()), signature(name, f"encoder:{encoder}"))


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _unit_vectors(name: str, vectors: np.ndarray) -> np.ndarray:
    array = np.asarray(vectors, np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise InvalidInput(
            f"{name} has the shape {array.shape}; it must be finite vectors (n, dim), at least one."
        )
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)


def _require_same_shape(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise InvalidInput(f"The vectors must have the same shape ({a.shape} and {b.shape}).")
