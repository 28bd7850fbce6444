"""What the indexes read from a store: the interface that a store of local files implements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ravlm.knowledge.records import StoreState
from ravlm.records import Modality


class IndexSource(Protocol):
    """Reads rows by number. Numbers of parts and entries only ever grow."""

    folder: Path

    def reading(self) -> AbstractContextManager[Any]:
        """Return a context in which every method sees the same state."""

    def reopen(self) -> IndexSource:
        """Return the same store on a connection of its own."""

    def close(self) -> None:
        """Close the connection."""

    def state(self) -> StoreState:
        """Return the last change and the identity of the base."""

    def canaries(self) -> dict[Modality, np.ndarray]:
        """Return the stored canary vectors, float32 (n, dim) per modality."""

    def parts_after(self, last_part: int) -> Iterator[tuple[int, int, int, bytes, int, int]]:
        """Yield newer parts: number, entry number, modality code, vector, checksum, position."""

    def tokens_after(self, last_part: int) -> Iterator[tuple[int, int, bytes, int]]:
        """Yield the token vectors of newer parts: number, modality code, vectors, checksum.

        Only parts of multi-vector encoders have token vectors.
        """

    def words_after(self, last_part: int) -> list[tuple[int, int, str]]:
        """Return newer text parts as (number, entry number, words)."""

    def facets_after(self, last_entry: int) -> tuple[list[tuple[str, int, Any, int]], int]:
        """Return facets of newer entries (key, kind, value, entry number), and the last number."""

    def removed_since(self, change: int) -> list[int]:
        """Return the numbers of parts removed after `change`."""

    def stored_fields(self) -> Iterator[tuple[int, str, str | None, str, str]]:
        """Yield number, id, image, texts and metadata of each entry; both as JSON."""

    def checksum(self, part: int) -> int | None:
        """Return the checksum of a part's vector; None if the part does not exist."""

    def newest_checksums(self) -> list[tuple[int, int]]:
        """Return (number, checksum) of the newest parts, newest first."""

    def index_choice(self) -> tuple[str | None, float | None]:
        """Return the index kind and recall selected by `tune`; None if it never ran."""

    def choose_index(self, kind: str, recall: float) -> None:
        """Store the index kind and recall selected by `tune`."""
