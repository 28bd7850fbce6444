"""A base that is large enough for an approximate index."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import auto, tuning, vector_index
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder
from tests.helpers.vectors import clustered

ROWS = 3000


@pytest.fixture(scope="session")
def large_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "MAX_FLAT_ROWS", 1000)
        folder = tmp_path_factory.mktemp("large") / "kb"
        with KnowledgeBase.build(folder, [], encoder=FakeEncoder()) as base:
            entries = [
                Entry(f"{i}", None, (f"text {i}",), {"i": i, "odd": bool(i % 2)})
                for i in range(ROWS)
            ]
            base.add(entries, vectors={"text": clustered(ROWS, 0)})
            base.optimize()
    return folder


@pytest.fixture
def large(
    large_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KnowledgeBase]:
    """A base of 3,000 vectors with an IVF index on disk."""
    monkeypatch.setattr(auto, "MAX_FLAT_ROWS", 1000)
    monkeypatch.setattr(vector_index, "MAX_ANN_DEPTH", 0.2)
    monkeypatch.setattr(tuning, "NUM_QUERIES", 200)  # fewer, for speed
    shutil.copytree(large_folder, tmp_path / "kb")
    with KnowledgeBase.open(tmp_path / "kb", FakeEncoder()) as base:
        yield base


def index_kind(base: KnowledgeBase) -> str:
    """Return the kind of the text index, after a search."""
    base.search(vector=np.ones(64))
    return base._backend.indexes.vectors().by_modality["text"].segments[0].index.kind
