"""Strict conversion between a JSON object and a frozen dataclass.

An unknown key is an error that suggests the closest allowed key.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ravlm.errors import InvalidInput, did_you_mean

T = TypeVar("T")


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str = "configuration") -> T:
    """Build the dataclass `kind` from `values`.

    `where` names the source in error messages. Nested dataclasses, tuples, unions and literals are
    converted recursively.

    Raises InvalidInput for an unknown key, a missing key, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{where} must be a JSON object, not {type(values).__name__}.")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            hint = did_you_mean(key, fields)
            allowed = ", ".join(fields)
            raise InvalidInput(f'{where} has the unknown key "{key}".{hint} Allowed: {allowed}.')
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, f in fields.items():
        if name in values:
            arguments[name] = _convert(values[name], hints[name], f"{where}.{name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise InvalidInput(f'{where} lacks the key "{name}"; add it.')
    return kind(**arguments)


def to_mapping(config: Any) -> dict[str, Any]:
    """Return a dataclass instance as JSON types (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type `hint`, or raise InvalidInput."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, args, where)
    if origin is typing.Literal:
        return _convert_literal(value, args, where)
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    if origin is tuple:
        return _convert_tuple(value, args, where)
    return _convert_scalar(value, origin or hint, where)


def _convert_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    errors = []
    for option in options:
        if option is type(None):
            if value is None:
                return None
            continue
        try:
            return _convert(value, option, where)
        except InvalidInput as error:
            errors.append(error)
    raise errors[0]


def _convert_literal(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value not in options:
        allowed = ", ".join(repr(option) for option in options)
        hint = did_you_mean(str(value), map(str, options))
        raise InvalidInput(f"{where} is {value!r}; allowed: {allowed}.{hint}")
    return value


def _convert_tuple(value: Any, item_types: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{where} is {value!r}; it must be a list.")
    if len(item_types) == 2 and item_types[1] is Ellipsis:
        item_types = (item_types[0],) * len(value)
    if len(item_types) != len(value):
        raise InvalidInput(f"{where} has {len(value)} values; it must have {len(item_types)}.")
    return tuple(
        _convert(item, item_type, f"{where}[{i}]")
        for i, (item, item_type) in enumerate(zip(value, item_types, strict=True))
    )


def _convert_scalar(value: Any, expected: Any, where: str) -> Any:
    is_bool = isinstance(value, bool)
    if expected is float and isinstance(value, int) and not is_bool:
        try:
            return float(value)
        except OverflowError:
            raise InvalidInput(f"{where} is too large for a number with a fraction.") from None
    if not isinstance(value, expected) or (is_bool and expected is not bool):
        raise InvalidInput(f"{where} is {value!r}; it must be of type {expected.__name__}.")
    return value
