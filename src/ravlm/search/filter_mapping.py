"""Read filters that are mappings, in ravlm's form and in that of MongoDB, Chroma and Pinecone.

    {"split": "train", "facts": {"year": {">=": 1990}}}
    {"$or": [{"year": {"$gte": 1990, "$lt": 2000}}, {"kind": {"$in": ["bird", "fish"]}}]}

A key maps to a value, to a list (`in`), to {operator: value}, or to a mapping of nested keys. A key
that starts with `$` is always an operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ravlm.errors import InvalidInput, did_you_mean
from ravlm.search.filters import OPERATORS, AllOf, AnyOf, Compare, Filter, Not, compare

DOLLAR_COMPARISONS = {
    "$eq": "=",
    "$ne": "!=",
    "$gt": ">",
    "$gte": ">=",
    "$lt": "<",
    "$lte": "<=",
    "$in": "in",
}
"""Operators of MongoDB -> ours. As `!=`, `$ne` and `$nin` need the key to exist."""
DOLLAR_OPERATORS = (*DOLLAR_COMPARISONS, "$nin", "$exists", "$not", "$and", "$or", "$nor")
BARE_OPERATORS = {name.removeprefix("$"): name for name in DOLLAR_OPERATORS}
"""What people write for an operator without its sign; such a name may also be a metadata key."""


def from_mapping(where: Mapping[str, Any], path: str = "") -> Filter:
    """Return the tree of a mapping; `path` is the key that it stands under.

    Raises InvalidInput for an unknown operator or a value that is not allowed.
    """
    tests = []
    for key, value in where.items():
        if not isinstance(key, str):
            raise InvalidInput(f"The filter has the key {key!r}; a metadata key is a text.")
        tests.append(_test(key, value, path))
    return tests[0] if len(tests) == 1 else AllOf(tuple(tests))


def _test(key: str, value: Any, path: str) -> Filter:
    if key.startswith("$"):
        return _dollar_test(key, value, path)
    if path and key in OPERATORS:
        return compare(path, key, value)
    name = f"{path}.{key}" if path else key
    if isinstance(value, Mapping):
        return _nonempty(value, name)
    return compare(name, "in" if isinstance(value, list | tuple | set) else "=", value)


def _nonempty(value: Mapping[str, Any], name: str) -> Filter:
    if not value:
        raise InvalidInput(
            f'The filter compares "{name}" with nothing; '
            'give a value or an operator such as {">=": 1990}.'
        )
    return from_mapping(value, name)


def _dollar_test(operator: str, value: Any, path: str) -> Filter:
    if operator in ("$and", "$or", "$nor"):
        tests = tuple(from_mapping(item, path) for item in _mappings(operator, value))
        tree = AllOf(tests) if operator == "$and" else AnyOf(tests)
        return Not(tree) if operator == "$nor" else tree
    if operator == "$not":
        (inner,) = _mappings(operator, [value])
        return Not(from_mapping(inner, path))
    if operator not in DOLLAR_OPERATORS:
        raise InvalidInput(
            f'Unknown filter operator "{operator}"; allowed: {" ".join(DOLLAR_OPERATORS)}, or '
            f"{' '.join(OPERATORS)}.{did_you_mean(operator, DOLLAR_OPERATORS)}"
        )
    if not path:
        raise InvalidInput(
            f'The filter operator "{operator}" stands without a metadata key; '
            f'write {{"year": {{"{operator}": ...}}}}.'
        )
    if operator == "$nin":
        return Compare(path, "!=", compare(path, "in", value).values)
    if operator == "$exists":
        if not isinstance(value, bool):
            raise InvalidInput(f"In the filter, `{path} $exists` needs true or false, not {value}.")
        exists = Compare(path, "!=", ())
        return exists if value else Not(exists)
    return compare(path, DOLLAR_COMPARISONS[operator], value)


def _mappings(operator: str, value: Any) -> Sequence[Mapping[str, Any]]:
    is_list = isinstance(value, list | tuple) and len(value) > 0
    if not is_list or not all(isinstance(item, Mapping) and item for item in value):
        example = '{"year": {"$gte": 1990}}'
        raise InvalidInput(
            f"In the filter, `{operator}` needs {'a mapping' if operator == '$not' else 'a list'}, "
            f"for example {example if operator == '$not' else f'[{example}]'}."
        )
    return value
