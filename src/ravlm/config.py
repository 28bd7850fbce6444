"""Configuration: strict conversion between a JSON-like mapping or file and a frozen dataclass.

An unknown key is an error that names the nearest keys. Knows nothing of what is configured.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ravlm.errors import BrokenData, InvalidInput, NotFound, nearest

T = TypeVar("T")


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str = "configuration") -> T:
    """Build the dataclass `kind` from `values`; `where` names the source in errors.

    Raises InvalidInput for an unknown key, a missing one, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise InvalidInput(
            f"{where} must be an object with named values, not {type(values).__name__}."
        )
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            allowed = ", ".join(fields)
            raise InvalidInput(
                f'{where} has the unknown key "{key}".{nearest(key, fields)} Allowed: {allowed}.'
            )
    hints = typing.get_type_hints(kind)
    built = {}
    for name, f in fields.items():
        if name in values:
            built[name] = _convert(values[name], hints[name], f"{where}.{name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise InvalidInput(f'{where} lacks the key "{name}"; add it.')
    return kind(**built)


def to_mapping(config: Any) -> dict[str, Any]:
    """The dataclass instance as JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def read_config(kind: type[T], path: str | Path) -> T:
    """Read a JSON file into the dataclass `kind`."""
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f'There is no configuration file "{path}".') from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BrokenData(f'The configuration file "{path}" is not valid JSON: {error}.') from error
    return from_mapping(kind, values, str(path))


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, args, where)
    if origin is typing.Literal:
        if value not in args:
            allowed = ", ".join(repr(a) for a in args)
            raise InvalidInput(
                f"{where} is {value!r}; allowed: {allowed}.{nearest(str(value), map(str, args))}"
            )
        return value
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InvalidInput(f"{where} is {value!r}; a list is needed.")
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise InvalidInput(f"{where} has {len(value)} values; {len(inner)} are needed.")
        return tuple(
            _convert(v, a, f"{where}[{i}]")
            for i, (v, a) in enumerate(zip(value, inner, strict=True))
        )
    plain = origin or hint
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise InvalidInput(f"{where} is {value!r}; a value of type {plain.__name__} is needed.")
    return value


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
