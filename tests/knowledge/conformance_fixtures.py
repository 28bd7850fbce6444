"""Fixtures and helpers of the conformance test of knowledge-base backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry, Hit
from tests.helpers.fakes import FakeEncoder

Build = Callable[[Iterable[Entry]], KnowledgeBase]


def ids(hits: list[Hit]) -> list[str]:
    return [hit.entry.id for hit in hits]


def color_entries(pictures: Path) -> list[Entry]:
    """Two entries with image and text, two with an image, two with texts."""
    return [
        Entry(
            "red",
            pictures / "red.png",
            ("a red wall",),
            {"split": "train", "year": 1990, "group": "walls"},
        ),
        Entry(
            "green",
            pictures / "green.png",
            ("a green meadow", "grass"),
            {"split": "test", "year": 2001},
        ),
        Entry("blue", str(pictures / "blue.png"), (), {"split": "train", "group": "walls"}),
        Entry("disc", (pictures / "disc.jpg").read_bytes(), (), {"split": "test"}),
        Entry(
            "flag",
            None,
            ("a red flag", "it is blue too"),
            {"split": "train", "tags": ["cloth", "sign"]},
        ),
        Entry("橘猫", None, ("一只毛茸茸的橘猫",), {"split": "zh"}),
    ]


class ConformanceFixtures:
    """Subclasses provide the fixture `locations`, and `has_keywords` if a server may lack it."""

    @pytest.fixture
    def locations(self) -> Callable[[], Path | str]:
        """Return a function that returns unused locations."""
        raise NotImplementedError

    @pytest.fixture
    def has_keywords(self) -> bool:
        return True

    @pytest.fixture
    def location(self, locations: Callable[[], Path | str]) -> Path | str:
        return locations()

    @pytest.fixture
    def handles(self) -> Iterator[list[KnowledgeBase]]:
        bases: list[KnowledgeBase] = []
        yield bases
        for base in bases:
            base.close()

    @pytest.fixture
    def build(
        self, location: Path | str, handles: list[KnowledgeBase], fake_encoder: FakeEncoder
    ) -> Build:
        def make(entries: Iterable[Entry]) -> KnowledgeBase:
            handles.append(KnowledgeBase.build(location, entries, encoder=fake_encoder))
            return handles[-1]

        return make

    @pytest.fixture
    def reopen(
        self, location: Path | str, handles: list[KnowledgeBase]
    ) -> Callable[[], KnowledgeBase]:
        def again() -> KnowledgeBase:
            handles.append(KnowledgeBase.open(location, FakeEncoder()))
            return handles[-1]

        return again

    @pytest.fixture
    def empty(
        self, locations: Callable[[], Path | str], handles: list[KnowledgeBase]
    ) -> Callable[[FakeEncoder], KnowledgeBase]:
        def make(encoder: FakeEncoder) -> KnowledgeBase:
            handles.append(KnowledgeBase.build(locations(), [], encoder=encoder))
            return handles[-1]

        return make

    @pytest.fixture
    def base(self, build: Build, pictures: Path) -> KnowledgeBase:
        return build(color_entries(pictures))
