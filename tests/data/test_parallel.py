"""Work done ahead: in order, bounded, and errors where they belong."""

from __future__ import annotations

import time

import pytest

from ravlm.data.parallel import batched, parallel_map


def test_batched() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 3)) == []


def test_ahead_keeps_the_order_whoever_is_first() -> None:
    def slow_when_even(number: int) -> int:
        time.sleep(0.01 if number % 2 == 0 else 0)
        return number * number

    assert list(parallel_map(slow_when_even, range(9), workers=4, lookahead=6)) == [
        n * n for n in range(9)
    ]
    assert list(parallel_map(slow_when_even, [], workers=2, lookahead=2)) == []


def test_ahead_does_not_run_away() -> None:
    """A source of a million pictures must not be decoded into memory while the encoder works on the
    first."""
    taken: list[int] = []

    def source() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    results = parallel_map(lambda number: number, source(), workers=2, lookahead=5)  # type: ignore[arg-type, var-annotated]
    for _ in range(3):
        next(results)
    assert len(taken) <= 5 + 3
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 5 + 3


def test_ahead_raises_where_the_result_would_have_come() -> None:
    results = parallel_map(lambda number: 1 // number, [2, 1, 0, 1], workers=2, lookahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
