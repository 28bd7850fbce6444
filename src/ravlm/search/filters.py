"""Filters: a small tree, what it means as a Python test, and the same as SQL over typed facets.

A facet is one scalar of an entry's metadata under its path: nested keys are joined by dots, and a
list gives a facet for each of its elements, so a comparison holds where it holds for any of them;
`!=` holds where the key is there and none is equal. A key that an entry lacks makes the comparison
false. Values compare within their own type only (text, number, true/false, null). Knows no
database: `to_sql` writes a condition, and others run it. How people write filters stands in
`filter_syntax`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ravlm.errors import InvalidInput

Scalar: TypeAlias = "str | int | float | bool | None"
Facet: TypeAlias = "tuple[str, int, str | int | float]"
"""A scalar of the metadata as (path, kind, stored value)."""
NULL, TRUTH, NUMBER, TEXT = range(4)
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OPERATORS = ("=", "==", "!=", *ORDERS, "in")


@dataclass(frozen=True)
class Compare:
    """`key op values`: one value, or any number of them for `in`."""

    key: str
    op: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Not:
    """Holds where `inner` doesn't."""

    inner: Filter


@dataclass(frozen=True)
class AllOf:
    """Holds where all of `inner` hold; without any, everywhere."""

    inner: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    """Holds where one of `inner` holds; without any, nowhere."""

    inner: tuple[Filter, ...]


Filter: TypeAlias = "Compare | Not | AllOf | AnyOf"


def typed(value: Scalar) -> tuple[int, str | int | float]:
    """A scalar as (kind, stored value). Raises InvalidInput for one that can't be compared or
    stored."""
    if value is None:
        return NULL, 0
    if isinstance(value, bool):
        return TRUTH, int(value)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput(
                f"The text {value!r} is not valid Unicode (half of a surrogate pair)."
            ) from None
        return TEXT, value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return NUMBER, value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return NUMBER, number
        raise InvalidInput(f"The number {str(value)[:40]} is not finite.")
    raise InvalidInput(
        f"A value to compare is a text, number, true, false or null, not {type(value).__name__}."
    )


def facets(metadata: Mapping[str, Any]) -> list[tuple[str, int, str | int | float]]:
    """The facets of an entry as (path, kind, value), each once. Raises InvalidInput for a value
    JSON does not have."""
    found: dict[tuple[str, int, str | int | float], None] = {}
    for key, value in metadata.items():
        if (
            type(value) is str and value.isascii() and type(key) is str
        ):  # the usual ones first: millions come here
            found[key, TEXT, value] = None
        elif type(value) is int and -(2**63) <= value < 2**63 and type(key) is str:
            found[key, NUMBER, value] = None
        else:
            _collect({key: value}, "", found)
    return list(found)


def _collect(value: Any, path: str, found: dict[tuple[str, int, str | int | float], None]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidInput(
                    f"The metadata key {key!r} is not a text; JSON has no other keys."
                )
            _collect(inner, f"{path}.{key}" if path else key, found)
    elif isinstance(value, list | tuple):
        for inner in value:
            _collect(inner, path, found)
    else:
        found[path, *typed(value)] = None


def matches(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """Whether an entry with `metadata` passes: the plain meaning, against which the SQL is
    tested."""
    found: dict[str, set[tuple[int, Any]]] = {}
    for path, kind, value in facets(metadata):
        found.setdefault(path, set()).add((kind, value))
    return _holds(tree, found)


def _holds(tree: Filter, found: Mapping[str, set[tuple[int, Any]]]) -> bool:
    if isinstance(tree, Not):
        return not _holds(tree.inner, found)
    if isinstance(tree, AllOf):
        return all(_holds(inner, found) for inner in tree.inner)
    if isinstance(tree, AnyOf):
        return any(_holds(inner, found) for inner in tree.inner)
    here, values = found.get(tree.key, set()), {typed(value) for value in tree.values}
    if tree.op == "!=":
        return bool(here) and not here & values
    if tree.op in ORDERS:
        return any(
            k == kind and ORDERS[tree.op](v, value) for k, v in here for kind, value in values
        )
    return bool(here & values)


def to_sql(tree: Filter) -> tuple[str, list[str | int | float]]:
    """A condition on `entry.number` over the table facet(key, kind, value, entry), and its
    parameters."""
    if isinstance(tree, Not):
        sql, parameters = to_sql(tree.inner)
        return f"NOT ({sql})", parameters
    if isinstance(tree, AllOf | AnyOf):
        both = [to_sql(inner) for inner in tree.inner]
        word, nothing = ("AND", "1") if isinstance(tree, AllOf) else ("OR", "0")
        return f" {word} ".join(f"({sql})" for sql, _ in both) or nothing, [
            p for _, some in both for p in some
        ]
    if tree.op == "!=":
        sql, parameters = _having(tree.key, "=", tree.values)
        return f"{_PICK} key = ?) AND NOT ({sql})", [tree.key, *parameters]
    return _having(tree.key, tree.op, tree.values)


_PICK = "entry.number IN (SELECT entry FROM facet WHERE"


def _having(key: str, op: str, values: tuple[Scalar, ...]) -> tuple[str, list[str | int | float]]:
    by_kind: dict[int, list[str | int | float]] = {}
    for kind, value in map(typed, values):
        by_kind.setdefault(kind, []).append(value)
    conditions, parameters = [], []
    for kind, some in by_kind.items():
        test = f"value IN ({', '.join('?' * len(some))})" if op == "in" else f"value {op} ?"
        conditions.append(f"{_PICK} key = ? AND kind = ? AND {test})")
        parameters += [key, kind, *some]
    return " OR ".join(conditions) or "0", parameters


def compare(key: str, op: str, value: Any) -> Compare:
    """One comparison, checked. Raises InvalidInput for an operator or value that is not allowed."""
    if op not in OPERATORS:
        raise InvalidInput(f'The filter has the operator "{op}"; allowed: {" ".join(OPERATORS)}.')
    if op == "in":
        if not isinstance(value, list | tuple | set):
            raise InvalidInput(
                f'In the filter, `{key} in` needs a list as ["bird", "fish"], not {value!r}.'
            )
        if len(value) > 10_000:
            raise InvalidInput(
                f"In the filter, `{key} in` has {len(value):,} values; at most 10,000 are allowed."
            )
        values = tuple(value)
    else:
        if isinstance(value, list | tuple | set | Mapping):
            raise InvalidInput(
                f"In the filter, `{key} {op}` needs one value, not {value!r}; a list goes with `in`."
            )
        values = (value,)
    kinds = {typed(v)[0] for v in values}
    if op in ORDERS and not kinds <= {NUMBER, TEXT}:
        raise InvalidInput(
            f"In the filter, `{key} {op}` needs a number or a text, not {value!r}; use = or !=."
        )
    return Compare(key, "=" if op == "==" else op, values)
