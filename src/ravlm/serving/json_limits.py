"""Limits of JSON values in requests: filters and metadata."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

MAX_FILTER = 20_000
"""Characters of a filter, as text or as JSON."""
MAX_METADATA = 64_000
"""Characters of an entry's metadata as JSON: every process that opens the base reads them."""
MAX_METADATA_KEYS = 200
"""Keys of an entry's metadata, those of nested objects included. Each is a column of the facets."""


def check_filter(where: Any) -> Any:
    """Return a filter. Raises PydanticCustomError if it is too long."""
    size = len(where) if isinstance(where, str) else json_size(where, MAX_FILTER)[0]
    if size > MAX_FILTER:
        raise PydanticCustomError(
            "filter_too_long", "A filter has at most {limit} characters", {"limit": MAX_FILTER}
        )
    return where


def check_metadata(metadata: Any) -> Any:
    """Return an entry's metadata. Raises PydanticCustomError if they are too many."""
    size, num_keys = json_size(metadata, MAX_METADATA)
    if size > MAX_METADATA or num_keys > MAX_METADATA_KEYS:
        raise PydanticCustomError(
            "metadata_too_long",
            "Metadata have at most {keys} keys and {limit} characters as JSON",
            {"keys": MAX_METADATA_KEYS, "limit": MAX_METADATA},
        )
    return metadata


def json_size(value: Any, max_size: int) -> tuple[int, int]:
    """Return about how many characters a value has as JSON, and how many keys.

    Counting stops above `max_size`, and does not recurse.

    >>> json_size({"kind": "bird", "years": [1990, 2001]}, 1000)
    (27, 2)
    """
    size = num_keys = 0
    remaining = [value]
    while remaining and size <= max_size:
        item = remaining.pop()
        if isinstance(item, str):
            size += len(item) + 2
        elif isinstance(item, dict):
            num_keys += len(item)
            size += 2 + sum(len(key) + 2 for key in item if isinstance(key, str))
            remaining.extend(item.values())
        elif isinstance(item, list | tuple):
            size += 2 + len(item)
            remaining.extend(item)
        else:
            size += 1
    return size, num_keys
