"""Filters on Milvus: an entry's facets as one JSON value, and a filter as an expression over it.

Milvus compares a list's elements for equality only, and has its own rules for missing keys. So an
entry carries what makes every comparison of ours exact: `is`, a token for each facet; `has`, a
token for each key, and for each key with a kind; and of numbers and texts the least and the
greatest, as a range holds for any of several values exactly where it holds for one of these. Tokens
are hashes and texts hexadecimal, which keeps their order: nothing has to be quoted. What a
comparison means stands in `ravlm.search.filters`. Knows no client."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ravlm.search.filters import NUMBER, ORDERS, TEXT, AllOf, Compare, Filter, Not, typed_value

FIELD = "facets"
EVERYWHERE, NOWHERE = 'key != ""', 'key == ""'


def token(*values: str | int | float) -> str:
    """16 hexadecimal digits that stand for a key, a key with a kind, or a facet."""
    plain = [
        int(value) if isinstance(value, float) and value.is_integer() else value for value in values
    ]
    return blake2b(repr(plain).encode(), digest_size=8).hexdigest()


def facet_value(facets: Sequence[tuple[str, int, str | int | float]]) -> dict[str, Any]:
    """What an entry with these facets (path, kind, value) carries."""
    found: dict[str, Any] = {"is": [token(*facet) for facet in facets]}
    has: dict[str, None] = {}
    for path, kind, value in facets:
        has[token(path)] = None
        if kind in (NUMBER, TEXT):
            of_kind = token(path, kind)
            has[of_kind] = None
            low, high, ordered = f"<{of_kind}", f">{of_kind}", _ordered(value)
            found[low] = min(found.get(low, ordered), ordered)
            found[high] = max(found.get(high, ordered), ordered)
    return found | {"has": list(has)}


def expression(tree: Filter) -> str:
    """A filter as Milvus reads it."""
    if isinstance(tree, Not):
        return f"not ({expression(tree.inner)})"
    if isinstance(tree, Compare):
        return _compare(tree)
    word, nothing = ("and", EVERYWHERE) if isinstance(tree, AllOf) else ("or", NOWHERE)
    return f" {word} ".join(f"({expression(inner)})" for inner in tree.inner) or nothing


def among(field: str, values: Sequence[str]) -> str:
    """That a field is one of these hexadecimal texts."""
    return f"{field} in [{', '.join(map(_quoted, values))}]" if values else NOWHERE


def _compare(test: Compare) -> str:
    values = [typed_value(value) for value in test.values]
    if test.op in ORDERS:
        ((kind, value),) = values
        of_kind, ordered = token(test.key, kind), _ordered(value)
        field = f'{FIELD}["{test.op[0]}{of_kind}"]'
        literal = _quoted(ordered) if isinstance(ordered, str) else repr(ordered)
        return f"({_has(of_kind)}) and ({field} {test.op} {literal})"
    tokens = [token(test.key, *value) for value in values]
    equal = (
        f'json_contains_any({FIELD}["is"], [{", ".join(map(_quoted, tokens))}])'
        if tokens
        else NOWHERE
    )
    return f"({_has(token(test.key))}) and not ({equal})" if test.op == "!=" else equal


def _has(name: str) -> str:
    return f'json_contains({FIELD}["has"], {_quoted(name)})'


def _ordered(value: str | int | float) -> Any:
    return value.encode().hex() if isinstance(value, str) else value


def _quoted(text: str) -> str:
    return f'"{text}"'
