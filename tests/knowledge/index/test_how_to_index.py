"""The example of docs/how-to/index.md works as it is printed there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import auto
from ravlm.knowledge.index.faiss_index import FaissIndex
from ravlm.knowledge.index.vector_index import Segment
from tests.conftest import REPOSITORY
from tests.helpers.fakes import FakeEncoder
from tests.helpers.vectors import clustered
from tests.knowledge.conformance import ids
from tests.knowledge.index import test_faiss_index
from tests.knowledge.index.conftest import ROWS, index_kind

PAGE = REPOSITORY / "docs" / "how-to" / "index.md"


@pytest.fixture(scope="module")
def lsh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[FaissIndex]]:
    """The class on the page, added to INDEX_KINDS."""
    code, registration = re.findall(
        r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(code.splitlines()) < 60
    path = tmp_path_factory.mktemp("lsh") / "lsh.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ravlm_example_lsh", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    namespace = {**vars(auto), **vars(module)}
    exec(compile(registration, str(PAGE), "exec"), namespace)  # the page's list
    kinds: dict[str, type[FaissIndex]] = namespace["INDEX_KINDS"]
    assert {kind: index for kind, index in kinds.items() if kind != "lsh"} == auto.INDEX_KINDS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "INDEX_KINDS", kinds)
        yield module.LshIndex


@pytest.fixture(scope="module")
def segment(lsh: type[FaissIndex]) -> Segment:
    index = auto.build_index("lsh", clustered(ROWS, 0).astype("<f2"))
    assert type(index) is lsh
    return Segment(index, np.arange(ROWS) + 7, np.arange(ROWS))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001])
def test_recall_against_exact_search(
    segment: Segment, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_faiss_index.test_recall_under_filters(segment, share, monkeypatch)


def test_the_conformance_tests_hold(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_faiss_index.test_deleted_rows_are_masked_and_k_results_remain(segment, monkeypatch)
    test_faiss_index.test_k_larger_than_the_index_returns_all_rows(segment)
    test_faiss_index.test_a_saved_index_gives_the_same_results(segment, tmp_path)
    test_faiss_index.test_every_candidate_setting_can_be_searched(segment)


def test_a_base_is_tuned_and_opened_with_it(lsh: type[FaissIndex], large: KnowledgeBase) -> None:
    assert "lsh" in [trial.kind for trial in large.tune(recall=0.9).trials]
    large._backend.store.choose_index("lsh", 0.9)
    large.optimize()
    assert index_kind(large) == "lsh"
    with KnowledgeBase.open(large.path, FakeEncoder()) as other:
        assert index_kind(other) == "lsh"
        assert ids(other.search(vector=clustered(ROWS, 0)[17], k=1)) == ["17"]
    assert large.verify().sound
