"""Hypothesis strategies: metadata, and filters over it."""

from __future__ import annotations

from hypothesis import strategies as st

from ravlm.search.filters import AllOf, AnyOf, Compare, Filter, Not, compare

KEYS = st.sampled_from("xyz")
WORDS = st.sampled_from(["a", "b", "é", ""])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), WORDS)
METADATA = st.dictionaries(KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=3)
ORDERED = st.builds(
    compare, KEYS, st.sampled_from(["<", "<=", ">", ">="]),
    st.one_of(st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["a", "b"])),
)  # fmt: skip
EQUAL = st.builds(compare, KEYS, st.sampled_from(["=", "!="]), SCALARS)
AMONG = st.builds(compare, KEYS, st.just("in"), st.lists(SCALARS, max_size=3))
NOT_AMONG = st.builds(Compare, KEYS, st.just("!="), st.lists(SCALARS, max_size=3).map(tuple))
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    st.one_of(ORDERED, EQUAL, AMONG, NOT_AMONG),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)
