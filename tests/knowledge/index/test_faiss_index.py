"""Conformance of every vector index kind: recall, filters, deleted rows, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.knowledge.index import vector_index
from ravlm.knowledge.index.auto import (
    INDEX_KINDS,
    build_index,
    choose_kind,
    load_index,
    save_index,
    supported_kinds,
)
from ravlm.knowledge.index.ivf import cell_count
from ravlm.knowledge.index.vector_index import Segment
from tests.helpers.vectors import clustered, nearest, rankings

ROWS = 3000


@pytest.fixture(scope="module", params=list(INDEX_KINDS))
def segment(request: pytest.FixtureRequest) -> Segment:
    index = build_index(request.param, clustered(ROWS, 0).astype("<f2"))
    assert index.kind == request.param
    return Segment(index, np.arange(ROWS) + 7, np.arange(ROWS))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001])
def test_recall_under_filters(
    segment: Segment, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A selector that keeps 1 % of the rows once made an index find a third of what it should."""
    monkeypatch.setattr(vector_index, "MAX_ANN_DEPTH", 0.2)
    rows, queries = clustered(ROWS, 0), clustered(50, 1)
    mask = np.random.default_rng(3).random(ROWS) < share
    results = rankings(segment, queries, 10, None if share == 1 else mask)
    truth = nearest(rows, queries, min(10, int(mask.sum())), None if share == 1 else mask)
    recall = np.mean(
        [
            len(set((ranking.parts - 7).tolist()) & expected) / max(1, len(expected))
            for ranking, expected in zip(results, truth, strict=True)
        ]
    )
    assert recall >= (0.999 if segment.index.kind == "flat" else 0.95)
    for ranking, query in zip(results, queries, strict=True):
        assert len(ranking.parts) == min(10, int(mask.sum()))
        assert (np.diff(ranking.scores) <= 0).all()
        assert mask[ranking.entries].all()
        assert ranking.scores == pytest.approx(rows[ranking.parts - 7] @ query, abs=5e-3)


def test_deleted_rows_are_masked_and_k_results_remain(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "MAX_ANN_DEPTH", 0.2)
    fresh, query = Segment(segment.index, segment.parts, segment.entries), clustered(1, 5)
    before = rankings(fresh, query, 40)[0].parts
    fresh.delete(np.sort(before[:30]))
    after = rankings(fresh, query, 40)[0].parts
    assert not set(after) & set(before[:30])
    assert len(after) == 40
    assert set(before[30:]) <= set(after)
    assert len(rankings(fresh, query, ROWS)[0].parts) == ROWS - 30


def test_k_larger_than_the_index_returns_all_rows(segment: Segment) -> None:
    results = rankings(segment, clustered(2, 8), ROWS + 5)
    assert [sorted(ranking.parts.tolist()) for ranking in results] == [list(range(7, ROWS + 7))] * 2


def test_a_saved_index_gives_the_same_results(segment: Segment, tmp_path: Path) -> None:
    record = save_index(segment.index, tmp_path, "text")
    loaded = load_index(tmp_path, "text", record)
    assert type(loaded) is type(segment.index)
    assert loaded.settings == segment.index.settings
    assert loaded.row_bytes == segment.index.row_bytes
    assert (len(loaded), loaded.dim) == (ROWS, 64)
    queries = clustered(20, 2)
    for one, two in zip(loaded.search(queries, 10), segment.index.search(queries, 10), strict=True):
        assert np.array_equal(one, two)
    rows = np.array([5, 0, 2999])
    assert np.array_equal(loaded.vectors(rows), segment.index.vectors(rows))


def test_every_candidate_setting_can_be_searched(segment: Segment) -> None:
    for settings in segment.index.candidates():
        index = segment.index.with_settings(settings)
        assert index.settings == settings
        assert index.search(clustered(2, 2), 10)[1].shape == (2, 10)


def test_number_of_cells_and_choice_of_kind() -> None:
    assert [cell_count(n) for n in (40, 1000, 100_000, 1_000_000)] == [1, 16, 1024, 4096]
    assert [choose_kind(30_000, 512), choose_kind(30_001, 512), choose_kind(10**6, 509)] == [
        "flat",
        "ivf",
        "flat",
    ]
    assert [choose_kind(999, 512, "hnsw"), choose_kind(1000, 512, "hnsw")] == ["flat", "hnsw"]
    assert choose_kind(1000, 509, "ivf") == choose_kind(1000, 512, "gone") == "flat"
    assert supported_kinds(509) == [kind for kind in INDEX_KINDS if kind not in ("ivf", "binary")]


def test_every_kind_is_listed_under_its_name() -> None:
    assert {index.kind: index for index in INDEX_KINDS.values()} == INDEX_KINDS


def test_binary_codes_find_vectors_of_another_modality() -> None:
    """With signs alone (Faiss LSH), queries reduced to bits as well, a quarter of the nearest ten
    was lost: all texts lie on one side of the images' center."""
    rng = np.random.default_rng(0)
    centers, gap = rng.standard_normal((40, 256)), rng.standard_normal((2, 1, 256))
    topics = rng.integers(0, 40, 4040)
    noise = rng.standard_normal((4040, 256))
    raw = 0.7 * centers[topics] + 0.8 * noise + np.repeat(gap, [4000, 40], axis=0)[:, 0]
    units = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    images, texts = units[:4000], units[4000:]
    index = build_index("binary", images)
    found = index.search(texts, 10)[1]
    truth = nearest(images, texts, 10, None)
    recall = np.mean(
        [len(set(row.tolist()) & best) / 10 for row, best in zip(found, truth, strict=True)]
    )
    assert recall >= 0.95
    assert index.ann_bytes == 256 / 8 + 8
