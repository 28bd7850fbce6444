"""Sharing a budget of tokens among entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravlm.errors import InvalidInput
from ravlm.generation.token_budget import fair_share


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 200))
def test_a_budget_is_shared_fairly(lengths: list[int], budget: int) -> None:
    shares = fair_share(lengths, budget)
    assert all(0 <= share <= length for share, length in zip(shares, lengths, strict=True))
    assert sum(shares) == min(budget, sum(lengths))
    cut = [share for share, length in zip(shares, lengths, strict=True) if share < length]
    if cut:  # no entry that was cut has less than another, except for the remainder
        assert max(shares) - min(cut) <= 1


def test_a_negative_budget_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="must be at least 0"):
        fair_share([1], -1)
