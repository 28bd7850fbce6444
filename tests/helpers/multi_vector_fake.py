"""A multi-vector encoder small enough to see through."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from ravlm.data.images import load_image
from ravlm.encoders.base import Role
from ravlm.encoders.multi_vector import MultiVectorEncoder
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry, ImageSource
from ravlm.search.maxsim import maxsim, weighted_query
from tests.helpers.fakes import COLORS, FakeEncoder


class FakeMultiVectorEncoder(MultiVectorEncoder, FakeEncoder):
    """Images: the color of each cell of a 2 x 2 grid. Texts: each word; a color is that of a cell.

    The texts of queries have one more token, which is nearly alike for all.
    """

    def __init__(self, name: str = "fake", seed: int = 0) -> None:
        FakeEncoder.__init__(self, name, seed)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return MultiVectorEncoder.fingerprint.fget(self)  # type: ignore[attr-defined, no-any-return]

    @fingerprint.setter
    def fingerprint(self, fingerprint: str) -> None:
        self._whole_fingerprint = hashlib.sha256(f"multi {fingerprint}".encode()).hexdigest()

    def _image_tokens(self, images: Sequence[ImageSource], batch_size: int) -> list[np.ndarray]:
        grids = [np.asarray(load_image(i).resize((2, 2)), np.float32).reshape(4, 3) for i in images]
        return [self._unit([self._color(cell) for cell in grid]) for grid in grids]

    def _text_tokens(self, texts: Sequence[str], batch_size: int, role: Role) -> list[np.ndarray]:
        rows = []
        for text in texts:
            words = text.lower().split() or [""]
            tokens = [self._word(word.strip(".,?!")) for word in words]
            if role == "query":
                tokens.append(np.eye(64, dtype=np.float32)[63])
            rows.append(self._unit(tokens))
        return rows

    def _color(self, color: np.ndarray) -> np.ndarray:
        flat = np.tile(color / 255 - 0.5, 16)
        return np.concatenate([flat, np.full(16, 0.01)]).astype(np.float32)

    def _word(self, word: str) -> np.ndarray:
        if word in COLORS:
            return self._color(np.array(COLORS[word], np.float32))
        return self._text(word)


def flag(left: str, right: str) -> Entry:
    """Return an entry of two colors side by side, and a text that names them."""
    image = Image.new("RGB", (40, 40), COLORS[left])
    image.paste(COLORS[right], (20, 0, 40, 40))
    text = f"a {left} wall and a {right} door"
    return Entry(f"{left}-{right}", image, (text,), {"left": left, "length": len(left)})


FLAGS = [flag(left, right) for left in COLORS for right in COLORS]


def check_scores(kb: KnowledgeBase, entries: Sequence[Entry], text: str) -> None:
    """Check that the best images of `entries` are found, with the MaxSim of all their tokens."""
    encoder = FakeMultiVectorEncoder()
    query = weighted_query(encoder.encode_text_tokens([text], role="query")[0])
    tokens = encoder.encode_image_tokens([entry.image for entry in entries if entry.image])
    scores = maxsim(query, tokens.vectors, tokens.starts)
    order = np.argsort(-scores, kind="stable")[:5]
    hits = kb.search(text=text, k=5, modality="image")
    assert [hit.score for hit in hits] == pytest.approx(scores[order].tolist(), abs=2e-3)
    assert {hit.entry.id for hit in hits[:2]} == {entries[row].id for row in order[:2]}
