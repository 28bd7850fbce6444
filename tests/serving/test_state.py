"""The served model: cached text vectors, and a base that other processes change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ravlm.encoders import auto
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.serving.metrics import Metrics
from ravlm.serving.state import CACHE_SIZE, TimedEncoder
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import png, running, url_of


def test_texts_are_encoded_in_one_batch_ahead() -> None:
    """The questions of a batch were once encoded one by one."""

    class Counting(FakeEncoder):
        calls: list[list[str]] = []  # noqa: RUF012 - one instance

        def encode_texts(
            self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
        ) -> np.ndarray:
            self.calls.append(list(texts))
            return super().encode_texts(texts, batch_size)

    encoder = Counting()
    timed = TimedEncoder(encoder, Metrics())
    timed.precompute(["red", "blue"])
    assert np.array_equal(timed.encode_texts(["blue"]), FakeEncoder().encode_texts(["blue"]))
    assert np.array_equal(
        timed.encode_texts(["blue", "red"]), FakeEncoder().encode_texts(["blue", "red"])
    )
    assert encoder.calls == [["red", "blue"]]
    assert timed.encode_texts(["red", "green"]).shape == (2, 64)
    assert timed.encode_texts([]).shape == (0, 64)
    timed.precompute(["green", "red"])
    assert encoder.calls[1:] == [["red", "green"], [], ["green"]]
    timed.precompute([f"word {n}" for n in range(CACHE_SIZE)])
    assert len(timed._cache) == CACHE_SIZE


def test_changes_by_another_process_are_served(kb: Path) -> None:
    """New entries appear in the next search; another encoder is used without a restart."""
    new_encoder = FakeEncoder("other", seed=7)
    with running(kb) as server:
        with KnowledgeBase.open(kb, FakeEncoder()) as writer:
            writer.add([Entry("white", png(COLORS["white"])), Entry("black", png(COLORS["black"]))])
        assert (
            server.post("/v1/search", image=url_of("white"), k=1).json()["hits"][0]["id"] == "white"
        )
        with KnowledgeBase.open(kb, FakeEncoder()) as writer:
            writer.reencode(new_encoder)
        original = auto.load_encoder
        auto.load_encoder = lambda name: new_encoder  # type: ignore[assignment]
        try:
            for color in ("black", "red"):
                response = server.post("/v1/search", image=url_of(color), k=1)
                assert response.json()["hits"][0]["id"] == color, response.text
            assert (
                server.post("/v1/ask", question="What size is it?", image=url_of("red")).json()[
                    "text"
                ]
                == "12 cm"
            )
        finally:
            auto.load_encoder = original
        vectors = server.post("/v1/embeddings", model="ravlm", input=["red"]).json()["data"]
        assert np.allclose(vectors[0]["embedding"], new_encoder.encode_texts(["red"])[0], atol=1e-6)


def test_the_cache_tells_queries_from_documents() -> None:
    """A question was searched with the vector that it has as a document."""

    class Asymmetric(FakeEncoder):
        asymmetric = ("image", "text")
        roles: list[str] = []  # noqa: RUF012 - one instance

        def encode_texts(
            self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
        ) -> np.ndarray:
            self.roles.append(role)
            vectors = super().encode_texts(texts, batch_size)
            return vectors if role == "query" else -vectors

    encoder = Asymmetric()
    timed = TimedEncoder(encoder, Metrics())
    timed.precompute(["red", "blue"])
    assert encoder.roles == ["document", "query"]
    expected = FakeEncoder().encode_texts(["blue"])
    assert np.array_equal(timed.encode_texts(["blue"], role="query"), expected)
    assert np.array_equal(timed.encode_texts(["blue"]), -expected)
    assert len(encoder.roles) == 2
