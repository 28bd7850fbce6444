"""A bounded cache of the text vectors of one encoder: each text is encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np

from ravlm.encoders.base import Encoder

_MAX_TEXTS = 20_000


class EmbeddingCache:
    """Call it with texts to get their (n, dim) float32 unit vectors.

    The most recently used ones are kept.
    """

    def __init__(self, encoder: Encoder, max_texts: int = _MAX_TEXTS) -> None:
        self.encoder = encoder
        self._max_texts = max_texts
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()  # one thread must not drop what another is about to read

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors (n, dim) of the texts, in order."""
        unique = list(dict.fromkeys(texts))
        with self._lock:
            vectors = {text: self._vectors[text] for text in unique if text in self._vectors}
        missing = [text for text in unique if text not in vectors]
        if missing:
            vectors.update(zip(missing, self.encoder.encode_texts(missing), strict=True))
        with self._lock:
            for text, vector in vectors.items():
                self._vectors[text] = vector
                self._vectors.move_to_end(text)
            while len(self._vectors) > self._max_texts:
                self._vectors.popitem(last=False)
        return np.stack([vectors[text] for text in texts])
