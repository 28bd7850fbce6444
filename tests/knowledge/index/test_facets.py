"""Facets against the definition of a filter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravlm.knowledge.index import snapshots
from ravlm.knowledge.index.facets import MAX_TEXT_LENGTH, FacetIndex
from ravlm.search.filter_parser import read_filter
from ravlm.search.filters import TEXT, Filter, facets, matches
from tests.helpers.filter_strategies import FILTERS, METADATA


@settings(max_examples=200, deadline=None)
@given(st.lists(METADATA, max_size=12), FILTERS, st.lists(st.integers(1, 4), max_size=12))
def test_entry_mask_equals_the_filter(
    entries: list[dict[str, object]], where: Filter, batch_sizes: list[int]
) -> None:
    """However the entries are split into batches."""
    index = FacetIndex()
    last = 0
    for size in [*batch_sizes, 100]:
        end = min(last + size, len(entries))
        numbers = range(last + 1, end + 1)
        rows = [(*facet, n) for n in numbers for facet in facets(entries[n - 1])]
        index.update(rows, end)
        last = end
    expected = [False, *(matches(where, metadata) for metadata in entries)]
    assert index.entry_mask(where).tolist() == expected


def test_long_texts_are_kept_short() -> None:
    """Every process that opened a base held all metadata values in full."""
    long = "x" * 1000
    entries = [{"a": long + "1"}, {"a": long + "2"}, {"a": "short"}, {"a": ["y" * 257, 3]}]
    index = FacetIndex()
    for number, metadata in enumerate(entries, 1):
        index.update([(*facet, number) for facet in facets(metadata)], number)
    values = [row[2] for segment in index.segments for row in segment.rows()]
    assert max(len(value) for value in values if isinstance(value, str)) == MAX_TEXT_LENGTH + 64
    for where in (
        {"a": long + "2"},
        {"a": {"$ne": long + "1"}},
        {"a": {"$in": ["y" * 257, "short"]}},
        {"a": {"$gt": "x" * 256}},
        {"a": {"$lt": "x" * 300}},
        {"a": "x" * 256},
    ):
        tree = read_filter(where)
        assert tree is not None
        expected = [False, *(matches(tree, metadata) for metadata in entries)]
        assert index.entry_mask(tree).tolist() == expected, where


def test_a_snapshot_of_long_texts_is_read_again_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_checked_manifest", lambda *_: {})
    index = FacetIndex()
    index.update([("a", TEXT, "x" * 300, 1), ("a", TEXT, "b", 2)], 2)
    snapshots._write_facets(tmp_path, index)
    record = json.loads((tmp_path / "facets.json").read_text())
    old = {"last": 2, "columns": [["a", TEXT, ["b", "x" * 300]]]}
    short = {"last": 2, "columns": [["a", TEXT, ["b", "c"]]]}
    for content, last in ((record, 2), (old, 0), (short, 2)):
        (tmp_path / "facets.json").write_text(json.dumps(content))
        assert snapshots.read_facets(tmp_path).last == last
