"""Which texts describe which images, where images or texts occur more than once.

In a batch, a caption of two images is right for both: taken for a negative, it would push an image
away from its own words.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ravlm.records import ImageSource, Pair, image_path


class PositivePairs:
    """The relation between the images and the texts of a data set.

    `images` (n,) numbers the images, equal images alike. Image i has the texts offsets[i] to
    offsets[i + 1], of which `texts` (num_texts,) has the numbers, equal texts alike.
    """

    def __init__(self, images: np.ndarray, texts: np.ndarray, offsets: np.ndarray) -> None:
        self.images = images
        self.texts = texts
        owners = np.repeat(images, np.diff(offsets))
        pairs = np.unique(np.stack([texts, owners], axis=1), axis=0)  # sorted by text
        self._owners = pairs[:, 1]
        self._first = np.searchsorted(pairs[:, 0], np.arange(texts.max(initial=-1) + 2))

    @classmethod
    def of_pairs(cls, pairs: Sequence[Pair]) -> PositivePairs:
        """Return the relation of the pairs' images and texts."""
        return cls(image_numbers(pairs), text_numbers(pairs), text_offsets(pairs))

    def matrix(self, rows: np.ndarray, texts: np.ndarray) -> Tensor:
        """Return whether each text describes each image: (len(rows), len(texts)) bool. `rows` and
        `texts` are indices into the images and the texts of the data set."""
        images, row_of = np.unique(self.images[rows], return_inverse=True)
        position = np.full(self.images.max() + 1, -1)
        position[images] = np.arange(len(images))
        first, last = self._first[self.texts[texts]], self._first[self.texts[texts] + 1]
        columns = np.repeat(np.arange(len(texts)), last - first)
        skipped = np.repeat(np.cumsum(last - first) - last, last - first)
        owners = position[self._owners[np.arange(len(columns)) - skipped]]  # -1: not in the batch
        relevant = np.zeros((len(images), len(texts)), bool)
        relevant[owners[owners >= 0], columns[owners >= 0]] = True
        return torch.from_numpy(relevant[row_of])

    def relevant_texts(self) -> np.ndarray:
        """Return whether each text describes each image: (num_texts, n) bool."""
        return self.matrix(np.arange(len(self.images)), np.arange(len(self.texts))).numpy().T


def text_offsets(pairs: Sequence[Pair]) -> np.ndarray:
    """Return offsets (n + 1,): pair i has the texts offsets[i] to offsets[i + 1]."""
    return np.cumsum([0, *(len(pair.texts) for pair in pairs)])


def image_numbers(pairs: Sequence[Pair]) -> np.ndarray:
    """Number the images of the pairs (n,): images of equal content have the same number."""
    return _numbers(image_keys([pair.image for pair in pairs]))


def text_numbers(pairs: Sequence[Pair]) -> np.ndarray:
    """Number the texts of all pairs (num_texts,): texts that differ only in case and spaces have
    the same number."""
    return _numbers([" ".join(t.casefold().split()) for pair in pairs for t in pair.texts])


def _numbers(keys: Sequence[str]) -> np.ndarray:
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([number_of[key] for key in keys], np.int64)


def image_keys(images: Sequence[ImageSource]) -> list[str]:
    """Return a key for each image: equal contents have the same.

    Only files whose sizes are equal are read.
    """
    sizes = [_file_size(image) for image in images]
    counts = Counter(sizes)
    return [
        image_path(image) if size >= 0 and counts[size] == 1 else _content_key(image)
        for image, size in zip(images, sizes, strict=True)
    ]


def _file_size(image: ImageSource) -> int:
    """Return the size of an image file; -1 for other images."""
    try:
        return os.stat(image_path(image)).st_size
    except (OSError, ValueError):
        return -1


def _content_key(image: ImageSource) -> str:
    """Return the hash of the content; the path or address of what is not a readable file."""
    try:
        if isinstance(image, str | os.PathLike):
            content = Path(image).read_bytes()
        else:
            content = image if isinstance(image, bytes) else np.asarray(image).tobytes()
    except (OSError, ValueError):
        return image_path(image)
    return hashlib.sha256(content).hexdigest()
