"""Facets: metadata values in sorted columns, which turn a filter into a mask in a millisecond.

Derived from the store. Segments cover consecutive ranges of entry numbers. The facets of an entry
never change, because a changed entry gets a new number. Those of a removed entry do no harm,
because none of its parts is alive. `ravlm.search.filters` defines what a comparison means. Of a
long text the index keeps the beginning and a hash.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from ravlm.search.filters import ORDERS, AllOf, Compare, Filter, Not, typed_value

MAX_TEXT_LENGTH = 256
"""Characters of a text in the index, as in Elasticsearch (`ignore_above` of dynamic mappings):
every process that opens the base holds all values."""
FacetRow: TypeAlias = "tuple[str, int, str | int | float, int]"
"""Key, kind, value and entry number."""


def indexed_value(value: Any) -> Any:
    """Return a stored value as the index holds it: a long text as its beginning and a hash.

    So equality stays exact; long texts with the same beginning are ordered by their hashes.
    """
    if not isinstance(value, str) or len(value) <= MAX_TEXT_LENGTH:
        return value
    return value[:MAX_TEXT_LENGTH] + hashlib.sha256(value.encode()).hexdigest()


@dataclass(frozen=True)
class FacetColumn:
    """The values of one kind under a key: entries of value i stand at starts[i]:starts[i + 1]."""

    values: list[Any]
    """Distinct, ascending."""
    starts: np.ndarray
    """int64 (values + 1,)"""
    entries: np.ndarray
    """int64: entry numbers."""

    def select(self, op: str, value: Any) -> np.ndarray:
        """Return the entries whose value compares so with `value`; `op` is =, <, <=, > or >=."""
        low = 0
        high = len(self.values)
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
    """The facets of the entries `first` to `last`."""

    first: int
    last: int
    columns: dict[tuple[str, int], FacetColumn] = field(default_factory=dict)
    """By key and kind."""

    def __len__(self) -> int:
        return self.last - self.first + 1

    @classmethod
    def build(cls, first: int, last: int, rows: Iterable[FacetRow]) -> FacetSegment:
        """Build a segment of rows sorted by key, kind, value and entry."""
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
            bounds = np.array([*starts, len(entries)], np.int64)
            columns[name] = FacetColumn(values, bounds, np.array(entries, np.int64))
        return cls(first, last, columns)

    def rows(self) -> Iterator[FacetRow]:
        """Yield the rows that the segment was built from, in the same order."""
        for name in sorted(self.columns):
            column = self.columns[name]
            bounds = column.starts.tolist()
            for value, start, end in zip(column.values, bounds, bounds[1:], strict=False):
                for entry in column.entries[start:end].tolist():
                    yield (*name, value, entry)

    def entry_mask(self, where: Filter) -> np.ndarray:
        """Return which entries match, bool (last - first + 1,)."""
        if isinstance(where, Compare):
            return self._compare(where)
        if isinstance(where, Not):
            return ~self.entry_mask(where.inner)
        mask = np.full(len(self), isinstance(where, AllOf))
        for inner in where.inner:
            if isinstance(where, AllOf):
                mask &= self.entry_mask(inner)
            else:
                mask |= self.entry_mask(inner)
        return mask

    def _compare(self, comparison: Compare) -> np.ndarray:
        mask = np.zeros(len(self), bool)
        op = comparison.op if comparison.op in ORDERS else "="
        for kind, value in map(typed_value, comparison.values):
            column = self.columns.get((comparison.key, kind))
            if column is not None:
                mask[column.select(op, indexed_value(value)) - self.first] = True
        if comparison.op != "!=":
            return mask
        return self._has_key(comparison.key) & ~mask  # an entry without the key never matches

    def _has_key(self, key: str) -> np.ndarray:
        mask = np.zeros(len(self), bool)
        for (name, _), column in self.columns.items():
            if name == key:
                mask[column.entries - self.first] = True
        return mask


class FacetIndex:
    """The facets of all entries up to the number `last`."""

    def __init__(self, segments: Sequence[FacetSegment] = ()) -> None:
        self.segments = list(segments)

    @property
    def last(self) -> int:
        """The highest entry number taken over from the store; 0 at first."""
        return self.segments[-1].last if self.segments else 0

    def update(self, rows: list[FacetRow], last: int) -> None:
        """Add the facets, in any order, of the entries after `self.last` up to `last`."""
        if last <= self.last:
            return
        indexed = sorted((key, kind, indexed_value(value), n) for key, kind, value, n in rows)
        segments = [*self.segments, FacetSegment.build(self.last + 1, last, indexed)]
        while len(segments) > 1 and len(segments[-2]) < 2 * len(segments[-1]):
            one, two = segments[-2:]
            rows = sorted([*one.rows(), *two.rows()])
            segments[-2:] = [FacetSegment.build(one.first, two.last, rows)]
        self.segments = segments

    def entry_mask(self, where: Filter) -> np.ndarray:
        """Return which entries match, by number from 0 to `last`: bool (last + 1,)."""
        masks = (segment.entry_mask(where) for segment in self.segments)
        return np.concatenate([np.zeros(1, bool), *masks])
