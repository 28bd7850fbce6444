"""Facets by their values: which entries pass a filter, in a millisecond, held in arrays and derived
from the store.

A row of segments, each of the entries of a range of numbers; an entry's facets never change (a
changed entry gets a new number), and one that was removed does no harm, as no part of it is alive.
Knows no SQL. What a comparison means stands in `ravlm.search.filters`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from ravlm.search.filters import ORDERS, AllOf, Compare, Filter, Not, typed

Row: TypeAlias = "tuple[str, int, str | int | float, int]"
"""A facet: key, kind, value, entry."""


@dataclass(frozen=True)
class Column:
    """The values of a key that are of one kind: entries of value i are those from starts[i] to
    starts[i + 1]."""

    values: list[Any]
    """Distinct, ascending."""
    starts: np.ndarray
    entries: np.ndarray

    def between(self, op: str, value: Any) -> np.ndarray:
        """The entries with a value that stands so to `value`; `op` is =, <, <=, > or >=."""
        low, high = 0, len(self.values)
        if op in ("=", ">="):
            low = bisect_left(self.values, value)
        elif op == ">":
            low = bisect_right(self.values, value)
        if op in ("=", "<="):
            high = bisect_right(self.values, value)
        elif op == "<":
            high = bisect_left(self.values, value)
        return self.entries[self.starts[low] : self.starts[max(low, high)]]


@dataclass(frozen=True)
class FacetSegment:
    """The facets of the entries from `first` to `last`."""

    first: int
    last: int
    columns: dict[tuple[str, int], Column] = field(default_factory=dict)
    """By key and kind."""

    @classmethod
    def of(cls, first: int, last: int, rows: Iterable[Row]) -> FacetSegment:
        """A block of facets, ordered by key, kind, value and entry."""
        columns = {}
        for name, group in groupby(rows, lambda row: row[:2]):
            values: list[Any] = []
            starts: list[int] = []
            entries: list[int] = []
            for _, _, value, entry in group:
                if not values or values[-1] != value:
                    values.append(value)
                    starts.append(len(entries))
                entries.append(entry)
            columns[name] = Column(
                values, np.array([*starts, len(entries)], np.int64), np.array(entries, np.int64)
            )
        return cls(first, last, columns)

    def rows(self) -> Iterator[Row]:
        """The facets again, in the same order."""
        for name in sorted(self.columns):
            column = self.columns[name]
            bounds = column.starts.tolist()
            for value, start, end in zip(column.values, bounds, bounds[1:], strict=False):
                for entry in column.entries[start:end].tolist():
                    yield (*name, value, entry)

    def entry_mask(self, tree: Filter) -> np.ndarray:
        """Whether each entry passes, bool (last - first + 1,)."""
        if isinstance(tree, Compare):
            return self._compare(tree)
        if isinstance(tree, Not):
            return ~self.entry_mask(tree.inner)
        found = np.full(self.last - self.first + 1, isinstance(tree, AllOf))
        for inner in tree.inner:
            if isinstance(tree, AllOf):
                found &= self.entry_mask(inner)
            else:
                found |= self.entry_mask(inner)
        return found

    def _compare(self, test: Compare) -> np.ndarray:
        found = np.zeros(self.last - self.first + 1, bool)
        op = test.op if test.op in ORDERS else "="
        for kind, value in map(typed, test.values):
            column = self.columns.get((test.key, kind))
            if column is not None:
                found[column.between(op, value) - self.first] = True
        if test.op != "!=":
            return found
        there = np.zeros_like(found)
        for (key, _), column in self.columns.items():
            if key == test.key:
                there[column.entries - self.first] = True
        return there & ~found


class FacetIndex:
    """The facets of all entries up to the number `last`."""

    def __init__(self, segments: Sequence[FacetSegment] = ()) -> None:
        self.segments = list(segments)

    @property
    def last(self) -> int:
        """The highest entry's number that it has taken over; 0 at first."""
        return self.segments[-1].last if self.segments else 0

    def update(self, rows: list[Row], last: int) -> None:
        """Take over the facets of the entries after `self.last` up to `last`, in any order."""
        if last <= self.last:
            return
        segments = [*self.segments, FacetSegment.of(self.last + 1, last, sorted(rows))]
        while len(segments) > 1 and _size(segments[-2]) < 2 * _size(segments[-1]):
            one, two = segments[-2:]
            segments[-2:] = [FacetSegment.of(one.first, two.last, sorted([*one.rows(), *two.rows()]))]
        self.segments = segments

    def entry_mask(self, tree: Filter) -> np.ndarray:
        """Whether the entry of each number from 0 to `last` passes, bool (last + 1,)."""
        return np.concatenate([np.zeros(1, bool), *(block.entry_mask(tree) for block in self.segments)])


def _size(block: FacetSegment) -> int:
    return block.last - block.first + 1
