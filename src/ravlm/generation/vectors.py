"""Text vectors of one encoder, each computed once: a bounded memory of what was encoded lately.

Knows no question and no entry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from ravlm.encoders.base import DualEncoder

_KEPT = 20_000


class TextVectors:
    """Call it with texts to get their (n, dim) float32 unit vectors; the latest ones are remembered."""

    def __init__(self, encoder: DualEncoder, kept: int = _KEPT) -> None:
        self.encoder, self._kept = encoder, kept
        self._memory: OrderedDict[str, np.ndarray] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        missing = list(dict.fromkeys(text for text in texts if text not in self._memory))
        if missing:
            self._memory.update(zip(missing, self.encoder.encode_texts(missing), strict=True))
        found = np.stack([self._memory[text] for text in texts])
        for text in texts:
            self._memory.move_to_end(text)
        while len(self._memory) > self._kept:
            self._memory.popitem(last=False)
        return found
