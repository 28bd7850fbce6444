"""Fixtures of the knowledge tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import color_entries


@pytest.fixture
def base(tmp_path: Path, pictures: Path) -> Iterator[KnowledgeBase]:
    """Six entries in a folder, and one with a precomputed vector."""
    with KnowledgeBase.build(tmp_path / "kb", color_entries(pictures), encoder=FakeEncoder()) as kb:
        kb.add([Entry("given", None, ("given",))], vectors={"text": np.ones((1, 64))})
        yield kb
