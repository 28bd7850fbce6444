"""Facets against the definition of a filter."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ravlm.knowledge.index.facets import FacetIndex
from ravlm.search.filters import Filter, facets, matches
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
