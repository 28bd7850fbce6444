"""What a base of a multi-vector encoder must do, on a backend that stores several vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder
from tests.helpers.multi_vector_fake import (
    FLAGS,
    FakeMultiVectorEncoder,
    check_scores,
    flag,
)
from tests.knowledge.conformance_fixtures import ConformanceFixtures, ids

Flags = Callable[[], KnowledgeBase]


class MultiVectorConformance(ConformanceFixtures):
    """A backend that stores one vector per part sets `stores_several_vectors` to False."""

    @pytest.fixture
    def stores_several_vectors(self) -> bool:
        return True

    @pytest.fixture
    def flags(
        self,
        location: Path | str,
        handles: list[KnowledgeBase],
        stores_several_vectors: bool,
    ) -> KnowledgeBase:
        """A base of `FLAGS`; otherwise the refusal is checked, and the test is skipped."""
        encoder = FakeMultiVectorEncoder()
        if not stores_several_vectors:
            with pytest.raises(InvalidInput, match='"fake" gives several vectors per image, which'):
                KnowledgeBase.build(location, FLAGS[:2], encoder=encoder)
            pytest.skip("it refuses several vectors, in one sentence")
        handles.append(KnowledgeBase.build(location, FLAGS, encoder=encoder))
        return handles[-1]

    def test_searches_compare_all_tokens(self, flags: KnowledgeBase) -> None:
        check_scores(flags, FLAGS, "red blue")
        flags.optimize()
        check_scores(flags, FLAGS, "black green")
        hits = flags.search(text="blue", k=3, modality="image", where={"left": "red"})
        assert hits[0].entry.id == "red-blue"
        assert {hit.entry.metadata["left"] for hit in hits} == {"red"}
        (hit,) = flags.search(image=flag("green", "white").image, k=1)
        assert (hit.entry.id, hit.score) == ("green-white", pytest.approx(1.0, abs=1e-3))

    def test_changes_are_searched(self, flags: KnowledgeBase) -> None:
        flags.optimize()
        flags.add(Entry("white-red", FLAGS[0].image, ("changed",)))
        assert flags.remove(["red-blue"]) == 1
        remaining = [entry for entry in FLAGS if entry.id not in ("red-blue", "white-red")]
        changed = [*remaining, Entry("white-red", FLAGS[0].image)]
        check_scores(flags, changed, "red blue")
        rows = [np.eye(64)[50:53], np.eye(64)[55]]
        flags.add([Entry("p", None, ("x",)), Entry("q", None, ("y",))], vectors={"text": rows})
        assert ids(flags.search(vector=np.eye(64)[51:53], k=1)) == ["p"]
        assert ids(flags.search(vector=np.eye(64)[55], k=1)) == ["q"]
        report = flags.verify()
        assert report.sound, str(report)

    def test_a_base_gets_and_loses_several_vectors(self, flags: KnowledgeBase) -> None:
        flags.reencode(FakeEncoder(seed=1))
        assert ids(flags.search(image=FLAGS[7].image, k=1)) == [FLAGS[7].id]
        assert flags.verify().sound
        flags.reencode(FakeMultiVectorEncoder())
        check_scores(flags, FLAGS, "red blue")
        assert flags.verify().sound
