"""The storage interface of a backend: the rows of a base, the single source of truth."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ravlm.errors import DamagedBase, InvalidInput
from ravlm.knowledge.records import EntryRow, Identity, StoreState
from ravlm.knowledge.reports import Page
from ravlm.records import Entry, Modality
from ravlm.regions import Region
from ravlm.search.filters import Facet, Filter, facets, matches


class EntryStore(ABC):
    """Entries with their parts and vectors. Each method reads one state or makes one change.

    Five methods are abstract. The others are defined by `rows`; a backend that can do better
    overrides them.
    """

    @property
    def can_embed_images(self) -> bool:
        """Whether images that come as bytes can be stored."""
        return True

    @abstractmethod
    def state(self) -> StoreState:
        """Return the last committed change and the identity of the base."""

    @abstractmethod
    def canaries(self) -> dict[Modality, np.ndarray]:
        """Return the stored vectors of the canaries, float32 (n, dim) per modality."""

    @abstractmethod
    def rows(self, ids: Iterable[str] | None = None) -> Iterator[EntryRow]:
        """Yield all entries with their parts, or those of `ids` that exist.

        `image` is a path or address that can be opened; `image_bytes` is None.
        """

    @abstractmethod
    def upsert(self, rows: Sequence[EntryRow], identity: Identity) -> int:
        """Store a batch, replacing entries of the same ids. Return how many were replaced.

        Raises Mismatch if `identity`, for which the rows were encoded, is not the base's.
        """

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> int:
        """Remove entries. Return how many existed."""

    def rejection_reason(self, row: EntryRow) -> str:
        """Return why this entry cannot be stored; an empty string if it can."""
        return ""

    def count(self, where: Filter | None = None) -> int:
        """Return the number of entries that pass `where`."""
        return sum(where is None or matches(where, to_entry(row).metadata) for row in self.rows())

    def metadata_keys(self) -> list[str]:
        """Return the metadata keys of the entries, sorted; nested keys are joined by dots."""
        return sorted({path for row in self.rows() for path, _, _ in facets_of(row)})

    def has_metadata_key(self, key: str) -> bool:
        """Return whether any entry has a value for a metadata key."""
        return key in self.metadata_keys()

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the digests of those of `ids` that exist, by id."""
        return {row.id: row.digest for row in self.rows(ids)}

    def entries(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Return those of `ids` that exist, by id."""
        return {row.id: to_entry(row) for row in self.rows(ids)}

    def page(self, n: int, after: str, where: Filter | None) -> Page:
        """Return the first n entries that pass `where` after the page mark `after`.

        An empty mark means the beginning. Raises InvalidInput for an invalid mark.
        """
        try:
            last_id = bytes.fromhex(after).decode()
        except ValueError:
            raise invalid_page_mark(after) from None
        later = (row for row in self.rows() if row.id > last_id)
        entries = [to_entry(row) for row in sorted(later, key=lambda row: row.id)]
        if where is not None:
            entries = [entry for entry in entries if matches(where, entry.metadata)]
        next_mark = entries[n - 1].id.encode().hex() if len(entries) > n else ""
        return Page(tuple(entries[:n]), next_mark)

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the image vector, float32 (dim,), of each of `ids` that has one, by id."""
        vectors = {}
        for row in self.rows(ids):
            for part in row.parts:
                if part.modality == "image" and not part.position:
                    vectors[row.id] = decode_vector(part.vector)
        return vectors

    def contents(self) -> Iterator[tuple[str, str | None, str, bytes | None]]:
        """Yield id, image hash, texts and regions as JSON, and perceptual hash of each entry."""
        for row in self.rows():
            yield row.id, row.image_hash, row.texts + (row.regions or ""), row.perceptual_hash


def to_entry(row: EntryRow) -> Entry:
    """Return the entry of a stored row."""
    (content,) = decode_contents([(row.texts, row.metadata, row.regions)])
    return Entry(row.id, row.image, *content)


def facets_of(row: EntryRow) -> list[Facet]:
    """Return the facets of a stored row."""
    return facets(to_entry(row).metadata)


def decode_contents(
    rows: Sequence[tuple[str, str, str | None]],
) -> list[tuple[tuple[str, ...], dict[str, Any], tuple[Region, ...]]]:
    """Return texts, metadata and regions of rows that hold them as JSON. Raises DamagedBase."""
    # one call decodes the JSON of all rows, as there may be many
    try:
        flat = json.loads(f"[{','.join(f'{t},{metadata},{r or []}' for t, metadata, r in rows)}]")
        columns = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    except (ValueError, RecursionError):
        raise damaged_row("texts, metadata or regions are not JSON") from None
    if len(flat) != 3 * len(rows) or not all(
        type(texts) is list
        and type(metadata) is dict
        and type(regions) is list
        and all(type(text) is str for text in texts)
        for texts, metadata, regions in columns
    ):
        raise damaged_row("texts, metadata or regions have the wrong type")
    return [
        (tuple(texts), metadata, decode_regions(regions)) for texts, metadata, regions in columns
    ]


def decode_regions(values: Sequence[Any]) -> tuple[Region, ...]:
    """Return stored regions. Raises DamagedBase."""
    try:
        return tuple(map(Region.from_dict, values))
    except InvalidInput as error:
        raise damaged_row(str(error)) from None


def encode_regions(regions: Sequence[Region]) -> str | None:
    """Return regions as a JSON list; None without regions."""
    if not regions:
        return None
    return json.dumps([region.to_dict() for region in regions], ensure_ascii=False)


def decode_vector(vector: bytes) -> np.ndarray:
    """Return a stored vector as float32 (dim,)."""
    return np.frombuffer(vector, "<f2").astype(np.float32)


def damaged_row(reason: str) -> DamagedBase:
    """Return the error for a row of a store that nothing of this package has written."""
    return DamagedBase(
        f"An entry of the knowledge base is damaged: {reason}. Run `ravlm verify`, and restore the "
        "base from a copy or build it again."
    )


def invalid_page_mark(after: str) -> InvalidInput:
    """Return the error for a page mark that no page returned."""
    return InvalidInput(
        f'after is "{after[:40]}"; give the `next` of the previous page, or an empty string.'
    )
