"""Refuse filters on metadata keys that no entry has: they would silently match nothing."""

from __future__ import annotations

from collections.abc import Mapping

from ravlm.errors import InvalidInput, did_you_mean
from ravlm.knowledge.entry_store import EntryStore
from ravlm.search.filter_mapping import BARE_OPERATORS
from ravlm.search.filter_parser import Where, read_filter
from ravlm.search.filters import OPERATORS, Filter, compared_keys

MAX_LISTED_KEYS = 20


def checked_filter(where: Where, store: EntryStore) -> Filter | None:
    """Return `where` as a tree, as `read_filter` does.

    Raises InvalidInput if a text or a mapping compares a key that no entry has. A tree that a
    program built is taken as it is, and so is any filter of an empty base.
    """
    tree = read_filter(where)
    if tree is not None and isinstance(where, str | Mapping):
        for key in dict.fromkeys(compared_keys(tree)):
            if not store.has_metadata_key(key) and store.count():
                raise InvalidInput(_unknown_key(key, store.metadata_keys()))
    return tree


def _unknown_key(key: str, keys: list[str]) -> str:
    message = f'No entry has a value for the metadata key "{key}".'
    parent, _, last = key.rpartition(".")
    if parent and (last in BARE_OPERATORS or last in OPERATORS):
        operator = BARE_OPERATORS.get(last, last)
        return f'{message} An operator is written {{"{parent}": {{"{operator}": ...}}}}.'
    if parent and not any(character.isalnum() for character in last):
        return f'{message} "{last}" is not an operator; allowed: {" ".join(OPERATORS)}.'
    if not keys:
        return f"{message} No entry has metadata."
    nested = [name for name in keys if name.startswith(f"{key}.")]
    hint = did_you_mean(key, keys) or (f' Did you mean "{nested[0]}"?' if nested else "")
    listed = ", ".join(keys[:MAX_LISTED_KEYS]) + (" ..." if len(keys) > MAX_LISTED_KEYS else "")
    return f"{message}{hint} Keys: {listed}."
