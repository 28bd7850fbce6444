"""What is searched with is encoded as a query, what is stored as a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Entry, ImageSource
from tests.helpers.fakes import COLORS, FakeEncoder


class Asymmetric(FakeEncoder):
    """Counts the inputs of each role. Vectors of queries are a little different."""

    asymmetric = ("image", "text")

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"query": 0, "document": 0}

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        return self._of_role(super().encode_images(images), role)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
    ) -> np.ndarray:
        return self._of_role(super().encode_texts(texts), role)

    def _of_role(self, vectors: np.ndarray, role: str) -> np.ndarray:
        self.counts[role] += len(vectors)
        if role == "query":
            vectors[:, -1] += 0.25
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder() -> Asymmetric:
    return Asymmetric()


@pytest.fixture
def base(tmp_path: Path, encoder: Asymmetric) -> KnowledgeBase:
    """Six colors with their names; counts start at zero."""
    entries = [
        Entry(color, Image.new("RGB", (32, 32), COLORS[color]), (f"a {color} wall",))
        for color in list(COLORS)[:6]
    ]
    kb = KnowledgeBase.build(tmp_path / "kb", entries, encoder=encoder)
    assert encoder.counts["query"] == 0
    encoder.counts = {"query": 0, "document": 0}
    return kb


def test_searches_encode_queries(base: KnowledgeBase, encoder: Asymmetric) -> None:
    color = base.search(text="a red wall", k=1)[0].entry.id
    base.search(image=Image.new("RGB", (32, 32), COLORS[color]))
    assert encoder.counts == {"query": 2, "document": 0}
    (hit,) = base.search(text="a red wall", k=1, modality="text")
    query, document = (
        encoder.encode_texts(["a red wall"], role=role)[0] for role in encoder.counts
    )
    assert hit.score == pytest.approx(query @ document, abs=2e-3)
    assert hit.score < 0.99


def test_requests_encode_queries(base: KnowledgeBase, encoder: Asymmetric) -> None:
    """The image of a question was encoded as if it were to be found."""
    model = RetrievalAugmentedVLM(base, generator="extractive")
    model.search(image=Image.new("RGB", (32, 32), "red"))
    model.caption(Image.new("RGB", (32, 32), "red"))
    assert encoder.counts["query"] >= 2
    assert base.verify().sound
