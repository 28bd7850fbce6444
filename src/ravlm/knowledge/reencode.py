"""Encode the entries of a base again with another encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ravlm.data.parallel import batched
from ravlm.errors import BrokenData, Busy, InvalidInput, Mismatch, NotFound
from ravlm.knowledge.embed import IngestItem, encode_items
from ravlm.knowledge.entry_store import encode_regions, to_entry
from ravlm.knowledge.images import open_images
from ravlm.knowledge.records import EntryRow
from ravlm.records import Entry

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

REENCODE_BATCH = 128
"""Entries that are encoded at a time."""
ReencodeProgress = Callable[[int, int], None]
"""Called with the number of entries done and their total."""


def reencode_rows(
    rows: Iterable[EntryRow], encoder: Encoder, progress: ReencodeProgress | None = None
) -> list[EntryRow]:
    """Return all rows with vectors of `encoder`, for backends that hold a base in memory.

    Raises what `check_reencodable` and `encode_entries` raise.
    """
    old_rows = list(rows)
    check_reencodable(old_rows)
    new_rows: list[EntryRow] = []
    for batch in batched(old_rows, REENCODE_BATCH):
        if progress is not None:
            progress(len(new_rows), len(old_rows))
        items = encode_entries([to_entry(row) for row in batch], encoder)
        new_rows += [
            row._replace(parts=tuple(item.parts)) for row, item in zip(batch, items, strict=True)
        ]
    if progress is not None:
        progress(len(new_rows), len(old_rows))
    return new_rows


def check_reencodable(rows: Iterable[EntryRow]) -> None:
    """Raise InvalidInput if a precomputed vector has no image or text that could be encoded."""
    for row in rows:
        for part in row.parts:
            has_text = row.texts != "[]" or row.regions is not None
            has_content = row.image is not None if part.modality == "image" else has_text
            if part.precomputed and not has_content:
                raise no_content_error(row.id)


def no_content_error(id_: str) -> InvalidInput:
    """Return the error for an entry whose vector cannot be computed."""
    return InvalidInput(
        f'The vector of "{id_}" was precomputed, and the entry has no image or text to encode. '
        "Remove such entries first, or add them to a new base with vectors of the other encoder."
    )


def displaced_error(name: str) -> Busy:
    """Return the error for a re-encoding that a later run on the same base has displaced."""
    return Busy(
        f'Another process re-encodes the knowledge base "{name}" now, or has done so; this '
        "re-encoding was stopped. Open the base again to see its encoder."
    )


def encode_entries(entries: Sequence[Entry], encoder: Encoder) -> list[IngestItem]:
    """Return the entries with newly encoded parts.

    Raises NotFound or BrokenData for an image that cannot be read, Mismatch for an invalid vector.
    """
    items = [_load_item(entry, encoder) for entry in entries]
    encode_items(items, lambda: encoder)
    for item in items:
        if item.error:
            raise Mismatch(
                f'"{item.entry.id}" cannot be re-encoded: {item.error} The base is unchanged.'
            )
        if not item.parts:  # it would be encoded again forever
            raise no_content_error(item.entry.id)
    return items


def _load_item(entry: Entry, encoder: Encoder) -> IngestItem:
    item = IngestItem(entry, entry.id, regions=encode_regions(entry.regions))
    if entry.image is not None:
        try:
            item.pixels, item.tiles = open_images(entry.image, entry.regions, encoder)
        except (NotFound, BrokenData) as error:
            raise type(error)(
                f'The entry "{entry.id}" cannot be re-encoded: {error} Restore the image or remove '
                "the entry, then run reencode again. The base is unchanged."
            ) from error
    return item
