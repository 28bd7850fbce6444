"""Metadata filters: a small tree, its meaning in Python, and its translation to SQL.

A facet is one scalar of an entry's metadata under its path. Nested keys are joined by dots, and a
list gives one facet per element, so a comparison holds if it holds for any element; `!=` holds if
the key exists and no element is equal. A comparison with a missing key is false. Values compare
only within their own kind (text, number, boolean, null).

`filter_parser` reads filters as people write them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ravlm.errors import InvalidInput, did_you_mean

Scalar: TypeAlias = "str | int | float | bool | None"
StoredValue: TypeAlias = "str | int | float"
Facet: TypeAlias = "tuple[str, int, StoredValue]"
"""A scalar of the metadata as (path, kind, stored value)."""
NULL, BOOLEAN, NUMBER, TEXT = range(4)
"""Kinds of values, as stored."""
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = ("=", "==", "!=", *ORDERS, "in")
MAX_VALUES = 10_000
"""Values that `in` accepts."""


@dataclass(frozen=True)
class Compare:
    """The test `key op values`: one value, or any number of values for `in` and `!=`.

    `!=` without values is true if the key exists."""

    key: str
    op: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Not:
    """True if `inner` is false."""

    inner: Filter


@dataclass(frozen=True)
class AllOf:
    """True if all of `inner` are true; an empty one is always true."""

    inner: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    """True if any of `inner` is true; an empty one is always false."""

    inner: tuple[Filter, ...]


Filter: TypeAlias = "Compare | Not | AllOf | AnyOf"


def typed_value(value: Scalar) -> tuple[int, StoredValue]:
    """Return a scalar as (kind, stored value).

    Raises InvalidInput for a value that cannot be compared or stored.
    """
    if value is None:
        return NULL, 0
    if isinstance(value, bool):
        return BOOLEAN, int(value)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput(
                f"The text {value!r} is not valid Unicode (it contains half of a surrogate pair)."
            ) from None
        return TEXT, value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return NUMBER, value
    if isinstance(value, int | float):
        return NUMBER, _finite_float(value)
    raise InvalidInput(
        f"A filter value is a text, a number, true, false or null, not {type(value).__name__}."
    )


def _finite_float(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidInput(f"The number {str(value)[:40]} is not finite.")
    return number


def facets(metadata: Mapping[str, Any]) -> list[Facet]:
    """Return the facets of an entry, without duplicates.

    Raises InvalidInput for a value that JSON does not have.
    """
    result: dict[Facet, None] = {}
    for key, value in metadata.items():
        # fast path for the common types: bulk imports come here millions of times
        if type(value) is str and value.isascii() and type(key) is str:
            result[key, TEXT, value] = None
        elif type(value) is int and -(2**63) <= value < 2**63 and type(key) is str:
            result[key, NUMBER, value] = None
        else:
            _collect({key: value}, "", result)
    return list(result)


def _collect(value: Any, path: str, result: dict[Facet, None]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidInput(
                    f"The metadata key {key!r} is not a text; JSON allows only texts as keys."
                )
            _collect(inner, f"{path}.{key}" if path else key, result)
    elif isinstance(value, list | tuple):
        for inner in value:
            _collect(inner, path, result)
    else:
        result[path, *typed_value(value)] = None


def matches(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """Return whether an entry with `metadata` passes the filter: the reference meaning."""
    by_path: dict[str, set[tuple[int, Any]]] = {}
    for path, kind, value in facets(metadata):
        by_path.setdefault(path, set()).add((kind, value))
    return _holds(tree, by_path)


def _holds(tree: Filter, by_path: Mapping[str, set[tuple[int, Any]]]) -> bool:
    if isinstance(tree, Not):
        return not _holds(tree.inner, by_path)
    if isinstance(tree, AllOf):
        return all(_holds(inner, by_path) for inner in tree.inner)
    if isinstance(tree, AnyOf):
        return any(_holds(inner, by_path) for inner in tree.inner)
    entry_values = by_path.get(tree.key, set())
    values = {typed_value(value) for value in tree.values}
    if tree.op == "!=":
        return bool(entry_values) and not entry_values & values
    if tree.op in ORDERS:
        holds = ORDERS[tree.op]
        return any(
            entry_kind == kind and holds(entry_value, value)
            for entry_kind, entry_value in entry_values
            for kind, value in values
        )
    return bool(entry_values & values)


def to_sql(tree: Filter) -> tuple[str, list[StoredValue]]:
    """Return an SQL condition on `entry.number` over facet(key, kind, value, entry).

    The second item is the list of its parameters.
    """
    if isinstance(tree, Not):
        sql, parameters = to_sql(tree.inner)
        return f"NOT ({sql})", parameters
    if isinstance(tree, AllOf | AnyOf):
        conditions = [to_sql(inner) for inner in tree.inner]
        word, neutral = ("AND", "1") if isinstance(tree, AllOf) else ("OR", "0")
        sql = f" {word} ".join(f"({condition})" for condition, _ in conditions) or neutral
        return sql, [value for _, parameters in conditions for value in parameters]
    if tree.op == "!=":
        sql, parameters = _value_condition(tree.key, "in", tree.values)
        return f"{_ENTRY_IN} key = ?) AND NOT ({sql})", [tree.key, *parameters]
    return _value_condition(tree.key, tree.op, tree.values)


_ENTRY_IN = "entry.number IN (SELECT entry FROM facet WHERE"


def _value_condition(
    key: str, op: str, values: tuple[Scalar, ...]
) -> tuple[str, list[StoredValue]]:
    by_kind: dict[int, list[StoredValue]] = {}
    for kind, value in map(typed_value, values):
        by_kind.setdefault(kind, []).append(value)
    conditions: list[str] = []
    parameters: list[StoredValue] = []
    for kind, kind_values in by_kind.items():
        marks = ", ".join("?" * len(kind_values))
        test = f"value IN ({marks})" if op == "in" else f"value {op} ?"
        conditions.append(f"{_ENTRY_IN} key = ? AND kind = ? AND {test})")
        parameters += [key, kind, *kind_values]
    return " OR ".join(conditions) or "0", parameters


def compared_keys(tree: Filter) -> Iterator[str]:
    """Yield the metadata keys whose values are compared; not those that may be missing."""
    if isinstance(tree, Compare):
        if tree.values or tree.op != "!=":
            yield tree.key
    else:
        for inner in (tree.inner,) if isinstance(tree, Not) else tree.inner:
            yield from compared_keys(inner)


def compare(key: str, op: str, value: Any) -> Compare:
    """Return a validated comparison.

    Raises InvalidInput for an operator or a value that is not allowed.
    """
    if op not in OPERATORS:
        raise InvalidInput(
            f'Unknown filter operator "{op}"; allowed: {" ".join(OPERATORS)}.'
            f"{did_you_mean(op, OPERATORS)}"
        )
    values = _list_of_values(key, value) if op == "in" else _single_value(key, op, value)
    kinds = {typed_value(v)[0] for v in values}
    if op in ORDERS and not kinds <= {NUMBER, TEXT}:
        raise InvalidInput(
            f"In the filter, `{key} {op}` needs a number or a text, not {value!r}; use = or !=."
        )
    return Compare(key, "=" if op == "==" else op, values)


def _list_of_values(key: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple | set):
        raise InvalidInput(
            f'In the filter, `{key} in` needs a list such as ["bird", "fish"], not {value!r}.'
        )
    if len(value) > MAX_VALUES:
        raise InvalidInput(
            f"In the filter, `{key} in` has {len(value):,} values; "
            f"at most {MAX_VALUES:,} are allowed."
        )
    return tuple(value)


def _single_value(key: str, op: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, list | tuple | set | Mapping):
        raise InvalidInput(
            f"In the filter, `{key} {op}` needs one value, not {value!r}; a list goes with `in`."
        )
    return (value,)
