"""Parallel mapping is ordered and bounded, and raises errors in their place."""

from __future__ import annotations

import time

import pytest

from ravlm.data.parallel import batched, parallel_map


def test_batched() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 3)) == []


def test_results_come_in_order() -> None:
    def slow_when_even(number: int) -> int:
        time.sleep(0.01 if number % 2 == 0 else 0)
        return number * number

    assert list(parallel_map(slow_when_even, range(9), workers=4, lookahead=6)) == [
        n * n for n in range(9)
    ]
    assert list(parallel_map(slow_when_even, [], workers=2, lookahead=2)) == []


def test_lookahead_is_bounded() -> None:
    """A million images must not be decoded into memory while the encoder works on the first."""
    consumed: list[int] = []

    def source() -> object:
        for number in range(1000):
            consumed.append(number)
            yield number

    results = parallel_map(lambda number: number, source(), workers=2, lookahead=5)  # type: ignore[arg-type, var-annotated]
    for _ in range(3):
        next(results)
    assert len(consumed) <= 5 + 3
    results.close()  # type: ignore[attr-defined]
    assert len(consumed) <= 5 + 3


def test_error_is_raised_in_place_of_its_result() -> None:
    results = parallel_map(lambda number: 1 // number, [2, 1, 0, 1], workers=2, lookahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
