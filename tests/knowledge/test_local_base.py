"""The local knowledge base: the conformance test, and what only a folder can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.fakes import FakeEncoder
from tests.knowledge.conformance import Build, Conformance


class TestLocal(Conformance):
    @pytest.fixture
    def opened(self) -> Iterator[list[KnowledgeBase]]:
        bases: list[KnowledgeBase] = []
        yield bases
        for base in bases:
            base.close()

    @pytest.fixture
    def build(self, tmp_path: Path, fake_encoder: FakeEncoder, opened: list[KnowledgeBase]) -> Build:
        def make(entries: Iterable[Entry]) -> KnowledgeBase:
            opened.append(KnowledgeBase.build(tmp_path / "kb", entries, encoder=fake_encoder))
            return opened[-1]

        return make

    @pytest.fixture
    def reopen(self, tmp_path: Path, opened: list[KnowledgeBase]) -> Callable[[], KnowledgeBase]:
        def again() -> KnowledgeBase:
            opened.append(KnowledgeBase.open(tmp_path / "kb", FakeEncoder()))
            return opened[-1]

        return again
