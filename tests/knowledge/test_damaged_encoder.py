"""An encoder whose vectors are not numbers is refused, and never stored as a match."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.encoders.base import check_finite
from ravlm.errors import BrokenData, Mismatch
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry, ImageSource
from tests.helpers.fakes import FakeEncoder


class Damaged(FakeEncoder):
    """Has the fingerprint of the undamaged encoder. `value` stands for texts with `word`."""

    value, word = np.nan, ""

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
    ) -> np.ndarray:
        vectors = super().encode_texts(texts)
        vectors[[self.word in text for text in texts], 7] = self.value
        return vectors

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        vectors = super().encode_images(images)
        if not self.word:
            vectors[:] = self.value
        return vectors


class Strict(Damaged):
    """Refuses such vectors itself, for the whole batch, as ravlm's encoders do."""

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
    ) -> np.ndarray:
        return check_finite(super().encode_texts(texts), self.name)

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        return check_finite(super().encode_images(images), self.name)


@pytest.mark.parametrize("encoder_class", [Damaged, Strict])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_open_base_refuses_it(
    base: KnowledgeBase, encoder_class: type[Damaged], value: float
) -> None:
    """`NaN < 0.999` is false, so it passed the canaries and answered with scores of -3.4e38."""
    encoder = encoder_class()
    encoder.value = value
    with KnowledgeBase.open(base.path, encoder) as other:
        for use in (
            lambda: other.search(text="red"),
            lambda: other.search(image=Image.new("RGB", (8, 8))),
            lambda: other.add([Entry("new", None, ("new",))]),
            lambda: other.encoder,
        ):
            with pytest.raises(BrokenData, match='encoder "fake" returned NaN or infinite values'):
                use()
        assert any("NaN" in finding for finding in other.verify().findings)
    assert base.count() == 7


def test_no_base_is_built_with_it(tmp_path: Path) -> None:
    with pytest.raises(BrokenData, match="for 3 of 3 inputs"):
        KnowledgeBase.build(tmp_path / "kb", [Entry("a", None, ("a",))], encoder=Damaged())
    assert not (tmp_path / "kb").exists()


def test_damaged_canaries_of_a_base_match_no_encoder(base: KnowledgeBase) -> None:
    """The smallest of 1 and NaN is 1, so they matched every encoder."""
    nan = np.full(64, np.nan, "<f4").tobytes()
    with sqlite3.connect(base.path / "store.sqlite") as db:
        db.execute("UPDATE canary SET vector = ? WHERE modality = 1 AND position = 2", (nan,))
    db.close()
    with KnowledgeBase.open(base.path, FakeEncoder()) as other:
        with pytest.raises(Mismatch, match="cosine of a canary: nan"):
            other.search(text="red")
        assert not other.verify().sound


@pytest.mark.parametrize("encoder_class", [Damaged, Strict])
def test_one_input_without_a_vector_stops_nothing(
    base: KnowledgeBase, encoder_class: type[Damaged]
) -> None:
    """In half precision some inputs overflow; a batch with one was lost as a whole."""
    encoder = encoder_class()
    encoder.word = "overflow"
    texts = [f"text {i} {'overflow' * (i == 5)}" for i in range(9)]
    with KnowledgeBase.open(base.path, encoder) as other:
        report = other.add([Entry(f"t{i}", None, (text,)) for i, text in enumerate(texts)])
        assert report.added == 8
        (rejected,) = report.quarantined
        assert '"t5"' in rejected.location
        assert "no direction" in rejected.reason
        assert other.search(text="text 3", k=1)[0].entry.id == "t3"
        with pytest.raises(BrokenData, match="for 1 of 1 inputs"):
            other.search(text="an overflow")
    base.add([Entry("late", None, ("overflow",))])
    with KnowledgeBase.open(base.path, encoder) as other:
        findings = other.verify(sample=99).findings
        assert [f for f in findings if '"late" cannot be encoded again' in f]
    new = encoder_class("new", seed=3)
    new.word = "overflow"
    with pytest.raises(Mismatch, match='"late" cannot be re-encoded'):
        base.reencode(new)


class Counting(FakeEncoder):
    """Counts the images that it encodes; `drift` is added to their vectors."""

    drift = 0.0
    num_images = 0

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        self.num_images += len(images)
        vectors = super().encode_images(images) + self.drift
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_search_for_a_text_verifies_no_image(base: KnowledgeBase) -> None:
    """The first search loaded the image network for the canaries: a sixth of its time. A search
    for an image still refuses an image network that gives other vectors."""
    encoder = Counting()
    with KnowledgeBase.open(base.path, encoder) as reopened:
        assert reopened.search(text="red", k=1)
        assert encoder.num_images == 0
        encoder.drift = 0.1
        with pytest.raises(Mismatch, match="canary"):
            reopened.search(image=Image.new("RGB", (8, 8)))
        with pytest.raises(Mismatch, match="canary"):
            _ = reopened.encoder
        assert reopened.search(text="red", k=1)
        encoder.drift = 0.0
        assert reopened.search(image=Image.new("RGB", (8, 8)), k=1)
        num_images = encoder.num_images
        assert reopened.search(image=Image.new("RGB", (8, 8)), k=1)
        assert encoder.num_images == num_images + 1  # the canaries were verified once
