"""Metadata filters on Milvus: facets as one JSON value, and filters as expressions on it.

Milvus compares elements of a list only for equality, and has its own rules for missing keys. So an
entry carries a value that makes every comparison exact:

- `is`: a token for each facet
- `has`: a token for each key, and for each key with a kind
- `<token` and `>token`: the smallest and the largest value of numbers and of texts. A comparison
  holds for any of several values exactly if it holds for one of these two.

Tokens are hashes, and texts are hexadecimal, which keeps their order: nothing needs quoting.
`ravlm.search.filters` defines the meaning of a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ravlm.search.filters import (
    NUMBER,
    ORDERS,
    TEXT,
    AllOf,
    Compare,
    Facet,
    Filter,
    Not,
    StoredValue,
    typed_value,
)

FIELD = "facets"
ALL_ROWS = 'key != ""'
NO_ROWS = 'key == ""'


def token(*values: StoredValue) -> str:
    """Return 16 hexadecimal digits for a key, a key with a kind, or a facet."""
    plain = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    return blake2b(repr(plain).encode(), digest_size=8).hexdigest()


def facet_value(facets: Sequence[Facet]) -> dict[str, Any]:
    """Return the JSON value of an entry with these facets."""
    value: dict[str, Any] = {"is": [token(*facet) for facet in facets]}
    has: dict[str, None] = {}  # an ordered set
    for path, kind, stored in facets:
        has[token(path)] = None
        if kind in (NUMBER, TEXT):
            of_kind = token(path, kind)
            has[of_kind] = None
            ordered = _ordered(stored)
            smallest, largest = f"<{of_kind}", f">{of_kind}"
            value[smallest] = min(value.get(smallest, ordered), ordered)
            value[largest] = max(value.get(largest, ordered), ordered)
    return value | {"has": list(has)}


def expression(tree: Filter) -> str:
    """Return a filter as a Milvus expression."""
    if isinstance(tree, Not):
        return f"not ({expression(tree.inner)})"
    if isinstance(tree, Compare):
        return _compare(tree)
    word, neutral = ("and", ALL_ROWS) if isinstance(tree, AllOf) else ("or", NO_ROWS)
    return f" {word} ".join(f"({expression(inner)})" for inner in tree.inner) or neutral


def has_key(key: str) -> str:
    """Return the expression that an entry has a value for a metadata key."""
    return _has(token(key))


def one_of(field: str, values: Sequence[str]) -> str:
    """Return the expression that a field is one of these hexadecimal texts."""
    return f"{field} in [{', '.join(map(_quote, values))}]" if values else NO_ROWS


def _compare(test: Compare) -> str:
    values = [typed_value(value) for value in test.values]
    if test.op in ORDERS:
        ((kind, value),) = values
        of_kind = token(test.key, kind)
        ordered = _ordered(value)
        field = f'{FIELD}["{test.op[0]}{of_kind}"]'
        literal = _quote(ordered) if isinstance(ordered, str) else repr(ordered)
        return f"({_has(of_kind)}) and ({field} {test.op} {literal})"
    tokens = ", ".join(_quote(token(test.key, *value)) for value in values)
    equal = f'json_contains_any({FIELD}["is"], [{tokens}])' if tokens else NO_ROWS
    return f"({has_key(test.key)}) and not ({equal})" if test.op == "!=" else equal


def _has(name: str) -> str:
    return f'json_contains({FIELD}["has"], {_quote(name)})'


def _ordered(value: StoredValue) -> Any:
    return value.encode().hex() if isinstance(value, str) else value


def _quote(text: str) -> str:
    return f'"{text}"'
