"""The MaxSim index finds what an exact comparison of all token vectors finds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ravlm.encoders.token_vectors import TokenVectors
from ravlm.knowledge.index.maxsim_index import MaxSimIndex, TokenCells, token_cell_count
from ravlm.knowledge.index.token_codes import CODECS, BinaryCodec, EightBitCodec
from ravlm.knowledge.index.token_tuning import exact_scores
from ravlm.search.maxsim import chunk_items, maxsim, weighted_query

ROWS, TOKENS, DIM = 2500, 8, 32


def _units(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def tokens() -> TokenVectors:
    """Rows of 1 to 15 tokens around 200 centers; the tokens of a row share a direction."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 2 * TOKENS, ROWS)
    starts = np.concatenate([[0], np.cumsum(counts)])
    centers = rng.standard_normal((200, DIM))
    shared = np.repeat(rng.standard_normal((ROWS, DIM)), counts, axis=0)
    vectors = centers[rng.integers(0, 200, starts[-1])] + 0.4 * shared
    vectors += 0.3 * rng.standard_normal(vectors.shape)
    return TokenVectors(_units(vectors).astype(np.float16), starts)


@pytest.fixture(scope="module")
def queries(tokens: TokenVectors) -> list[np.ndarray]:
    """Twenty queries: six tokens near those of two rows each."""
    rng = np.random.default_rng(1)
    queries = []
    for row in range(0, ROWS, ROWS // 20):
        of_rows = np.concatenate([tokens[row], tokens[(row + 7) % ROWS]]).astype(np.float32)
        sample = of_rows[rng.integers(0, len(of_rows), 6)]
        noisy = sample + 0.1 * rng.standard_normal((6, DIM))
        queries.append(weighted_query(_units(noisy)))
    return queries


def _exact(tokens: TokenVectors, query: np.ndarray) -> np.ndarray:
    return maxsim(query, tokens.vectors, tokens.starts)


@pytest.mark.parametrize(("kind", "min_recall"), [("tokens-8bit", 0.97), ("tokens-binary", 0.95)])
def test_the_best_rows_are_among_the_best_codes(
    kind: str, min_recall: float, tokens: TokenVectors, queries: list[np.ndarray], tmp_path: Path
) -> None:
    index = MaxSimIndex.build(tokens, kind, tmp_path / "codes")
    assert index.cells is not None
    index.settings = {"probes": 16, "candidates": 256}
    recalls = []
    for query in queries:
        best = set(np.argsort(-_exact(tokens, query))[:10].tolist())
        recalls.append(len(best & set(index.search(query, 60).rows.tolist())) / 10)
    assert np.mean(recalls) >= min_recall
    assert index.row_bytes == pytest.approx(
        (index.tokens.codec.width * tokens.starts[-1] + 8 * (ROWS + 1)) / ROWS
        + sum(array.nbytes for array in index.cells) / ROWS
    )


def test_only_rows_that_pass_are_returned(
    tokens: TokenVectors, queries: list[np.ndarray], tmp_path: Path
) -> None:
    index = MaxSimIndex.build(tokens, "tokens-8bit", tmp_path / "codes")
    for share in (0.002, 0.4):
        mask = np.random.default_rng(2).random(ROWS) < share
        for query in queries[:5]:
            scores, rows = index.search(query, 12, mask)
            assert mask[rows].all()
            assert len(rows) == min(12, mask.sum())
            assert (np.diff(scores) <= 0).all()
            exact = _exact(tokens, query)
            best = np.flatnonzero(mask)[np.argsort(-exact[mask])[:3]]
            assert len(set(best.tolist()) & set(rows.tolist())) >= 2
            assert scores == pytest.approx(exact[rows], abs=0.02)
    assert len(index.search(queries[0], 5, np.zeros(ROWS, bool)).rows) == 0
    assert len(index.search(queries[0], 10 * ROWS).rows) == ROWS  # k beyond all of them


def test_codes_are_near_the_vectors(tokens: TokenVectors) -> None:
    vectors = tokens.vectors[:100].astype(np.float32)
    query = weighted_query(vectors[:3])
    for codec in (EightBitCodec(DIM), BinaryCodec(DIM)):
        codes = codec.encode(vectors)
        assert codes.shape == (100, codec.width)
        decoded = codec.decode(codes)
        assert codec.similarities(query, codes) == pytest.approx(query @ decoded.T, abs=1e-6)
        assert ((decoded > 0) == (vectors > 0))[np.abs(vectors) > 0.01].all()
    eight_bit = EightBitCodec(DIM)
    assert np.abs(eight_bit.decode(eight_bit.encode(vectors)) - vectors).max() <= 0.5 / 127 + 1e-6
    assert (eight_bit.width, BinaryCodec(DIM).width, BinaryCodec(12).width) == (32, 4, 2)


def test_saved_indexes_are_mapped_again(
    tokens: TokenVectors, queries: list[np.ndarray], tmp_path: Path
) -> None:
    for kind in CODECS:
        index = MaxSimIndex.build(tokens, kind, tmp_path / f"codes of {kind}")
        index.settings["probes"] = 4
        record = index.save(tmp_path, "image")
        loaded = MaxSimIndex.load(tmp_path, "image", record, DIM)
        assert loaded.kind == kind
        for query in queries[:3]:
            one, two = index.search(query, 20), loaded.search(query, 20)
            assert one.rows.tolist() == two.rows.tolist()
            assert one.scores == pytest.approx(two.scores)
        with pytest.raises(ValueError, match="do not match"):
            MaxSimIndex.load(tmp_path, "image", record, DIM + 8)


def test_appended_rows_are_those_of_a_build(
    tokens: TokenVectors, queries: list[np.ndarray]
) -> None:
    index = MaxSimIndex.empty(DIM)
    for first in range(0, 90, 30):
        index.append(tokens.take(range(first, first + 30)))
    assert len(index) == 90
    first_rows = tokens.take(range(90))
    for query in queries[:3]:
        result = index.search(query, 90)
        assert result.scores == pytest.approx(_exact(first_rows, query)[result.rows], abs=0.02)
    decoded = index.tokens.decode(np.array([4, 60]))
    assert decoded[1] == pytest.approx(tokens[60].astype(np.float32), abs=0.01)


def test_a_bound_completes_what_was_not_visited() -> None:
    """Two cells, of which one is visited: a row that only the other lists has the same bound as
    one with a token in the visited cell, no more."""
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    tokens = TokenVectors(vectors, np.array([0, 1, 2, 3]))
    rows, starts = np.array([0, 1, 2], np.int32), np.array([0, 2, 3])
    cells = TokenCells(np.eye(2, dtype=np.float32), rows, starts)
    query = np.array([[0.8, 0.6]], np.float32)
    assert cells.bounds(query, len(tokens), 1) == pytest.approx([0.8, 0.8, 0.8])
    assert cells.bounds(query, len(tokens), 2) == pytest.approx([0.8, 0.8, 0.6])
    assert [token_cell_count(n) for n in (1, 640_000, 6_400_000)] == [2, 2048, 4096]


def test_the_ground_truth_of_tuning_is_exact(
    tokens: TokenVectors, queries: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is computed in chunks, since the tokens of a base need not fit into memory."""
    small = partial(chunk_items, size=500)
    monkeypatch.setattr("ravlm.knowledge.index.token_tuning.chunk_items", small)
    scores = exact_scores(tokens, queries[:2])
    for of_query, query in zip(scores, queries, strict=False):
        assert of_query == pytest.approx(_exact(tokens, query), abs=1e-6)
    assert np.ptp(scores[0]) > 0.1
