"""Text vectors of one encoder, each computed once: a bounded memory of what was encoded lately.

Knows no question and no entry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np

from ravlm.encoders.base import Encoder

_KEPT = 20_000


class EmbeddingCache:
    """Call it with texts to get their (n, dim) float32 unit vectors; the latest ones are
    remembered."""

    def __init__(self, encoder: Encoder, kept: int = _KEPT) -> None:
        self.encoder, self._kept = encoder, kept
        self._memory: OrderedDict[str, np.ndarray] = OrderedDict()
        self._alone = Lock()  # what one thread is about to read, another must not drop

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        with self._alone:
            known = {
                text: self._memory[text] for text in dict.fromkeys(texts) if text in self._memory
            }
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known.update(zip(missing, self.encoder.encode_texts(missing), strict=True))
        with self._alone:
            for text, vector in known.items():
                self._memory[text] = vector
                self._memory.move_to_end(text)
            while len(self._memory) > self._kept:
                self._memory.popitem(last=False)
        return np.stack([known[text] for text in texts])
