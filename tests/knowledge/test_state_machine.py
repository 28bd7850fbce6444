"""The knowledge base against a plain dict: random operations through two handles must give the same
results."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import auto, vector_index
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import ids

NAMES = st.sampled_from([f"n{i}" for i in range(12)])
WORDS = ("oak", "elm", "fir", "ash")
HANDLE = st.integers(0, 1)


def row_of(name: str, step: int) -> np.ndarray:
    row = np.random.default_rng([int(name[1:]), step]).standard_normal(64).astype(np.float32)
    return row / np.linalg.norm(row)


class Twin(RuleBasedStateMachine):
    """`steps`: the step that last added each id; vector, words and metadata follow from it."""

    @initialize(kind=st.sampled_from([None, "bytes", "hnsw"]))
    def begin(self, kind: str | None) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.handles = [
            KnowledgeBase.build(self.folder / "kb", [], FakeEncoder()),
            KnowledgeBase.open(self.folder / "kb", FakeEncoder()),
        ]
        if kind:
            self.handles[0]._backend.store.choose_index(kind, 0.9)
        self.steps: dict[str, int] = {}
        self.step = 0

    def entry(self, name: str, step: int) -> Entry:
        return Entry(
            name, None, (f"{WORDS[step % 4]} {name}",), {"step": step, "odd": bool(step % 2)}
        )

    @rule(handle=HANDLE, names=st.lists(NAMES, min_size=1, max_size=6, unique=True))
    def add(self, handle: int, names: list[str]) -> None:
        self.step += 1
        rows = np.stack([row_of(name, self.step) for name in names])
        report = self.handles[handle].add(
            [self.entry(n, self.step) for n in names], vectors={"text": rows}
        )
        assert report.updated == len(self.steps.keys() & set(names))
        assert report.added == len(names) - report.updated
        self.steps |= dict.fromkeys(names, self.step)

    @rule(handle=HANDLE, name=NAMES)
    def add_again(self, handle: int, name: str) -> None:
        if name in self.steps:
            step = self.steps[name]
            report = self.handles[handle].add(
                [self.entry(name, step)], vectors={"text": row_of(name, step)[None]}
            )
            assert report.unchanged == 1

    @rule(handle=HANDLE, names=st.lists(NAMES, max_size=5))
    def remove(self, handle: int, names: list[str]) -> None:
        assert self.handles[handle].remove(names) == len(self.steps.keys() & set(names))
        for name in names:
            self.steps.pop(name, None)

    @rule(handle=HANDLE)
    def optimize(self, handle: int) -> None:
        self.handles[handle].optimize()

    @rule(handle=HANDLE)
    def compact(self, handle: int) -> None:
        self.handles[handle].compact()

    @rule(handle=HANDLE)
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = KnowledgeBase.open(self.folder / "kb", FakeEncoder())

    @rule()
    def lose_derived_files(self) -> None:
        shutil.rmtree(self.folder / "kb" / "derived", ignore_errors=True)

    @rule(handle=HANDLE, name=NAMES, k=st.integers(1, 8), odd=st.sampled_from([None, True, False]))
    def search(self, handle: int, name: str, k: int, odd: bool | None) -> None:
        query = row_of(name, self.steps.get(name, 0))
        where = None if odd is None else {"odd": odd}
        expected = {
            n: float(row_of(n, s) @ query)
            for n, s in self.steps.items()
            if odd in (None, bool(s % 2))
        }
        hits = self.handles[handle].search(vector=query, k=k, where=where)
        assert len(hits) == min(k, len(expected))
        for hit, best in zip(hits, sorted(expected.values(), reverse=True), strict=False):
            assert hit.score == pytest.approx(expected[hit.entry.id], abs=2e-2)
            assert hit.score == pytest.approx(best, abs=2e-2)
            assert hit.entry == self.entry(hit.entry.id, self.steps[hit.entry.id])

    @rule(handle=HANDLE, word=st.sampled_from(WORDS))
    def search_by_word(self, handle: int, word: str) -> None:
        hit_ids = ids(
            self.handles[handle].search(text=word, k=20, options=SearchOptions(method="keyword"))
        )
        assert sorted(hit_ids) == sorted(
            n for n, step in self.steps.items() if WORDS[step % 4] == word
        )

    @rule(handle=HANDLE, step=st.integers(0, 20))
    def count(self, handle: int, step: int) -> None:
        assert self.handles[handle].count(f"step >= {step}") == sum(
            s >= step for s in self.steps.values()
        )

    @precondition(lambda self: self.step % 4 == 3)
    @rule(handle=HANDLE)
    def verify(self, handle: int) -> None:
        report = self.handles[handle].verify()
        assert report.sound, str(report)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "steps"):
            for handle in self.handles:
                assert handle.count() == len(self.steps)

    def teardown(self) -> None:
        if hasattr(self, "handles"):
            for handle in self.handles:
                handle.close()
            shutil.rmtree(self.folder)


def test_like_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "MIN_ROWS", 2)
    monkeypatch.setattr(vector_index, "MAX_ANN_DEPTH", 1.0)
    test = Twin.TestCase
    test.settings = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    test().runTest()
