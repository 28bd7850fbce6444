"""A base as if only a share of its entries were there: what a larger base would change, told
without building any.

Which entries stay is fixed by their ids, so a smaller share is a part of a larger one. Knows no arm
and no score."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.reports import Info
from ravlm.records import Entry, Hit, Modality, Part


class KnowledgeBaseSubset:
    """Reads like the `KnowledgeBase` that it is a share of; adds and removes nothing."""

    def __init__(self, kb: KnowledgeBase, share: float) -> None:
        """`share`: above 0 and at most 1."""
        self._kb, self._share = kb, share
        self._folder = tempfile.TemporaryDirectory(prefix="ravlm-share-")

    def __getattr__(self, name: str) -> Any:
        """Whatever is the same for a part: encoder, entries by id, stored vectors."""
        if name in ("encoder", "change", "get", "image_vectors"):
            return getattr(self._kb, name)
        raise AttributeError(f'A share of a base has no "{name}".')

    @property
    def derived_folder(self) -> Path:
        """A folder of its own: what is fitted to the share must not stand for the whole."""
        return Path(self._folder.name)

    def info(self) -> Info:
        """The base's, with about as many parts as the share has."""
        info = self._kb.info()
        parts = {modality: round(number * self._share) for modality, number in info.parts.items()}
        return replace(info, entries=round(info.entries * self._share), parts=parts)

    def sample(
        self, n: int, modality: Modality, seed: int = 0
    ) -> list[tuple[Entry, Part, np.ndarray]]:
        """Up to n parts of the share."""
        drawn = self._kb.sample(ceil(1.5 * n / self._share), modality, seed)
        return [row for row in drawn if self._has(row[0].id)][:n]

    def search(self, text: str | None = None, k: int = 10, **options: Any) -> list[Hit]:
        """The k best hits of the share."""
        return self.search_many([{"text": text}], k, **options)[0]

    def search_many(
        self,
        queries: Sequence[Mapping[str, Any]],
        k: int = 10,
        modality: Any = "any",
        *rest: Any,
        **options: Any,
    ) -> list[list[Hit]]:
        """The k best hits of the share for each query: more are looked for until k are left, or
        there are no more."""
        most = self._kb.count()
        wanted = min(most, ceil(1.5 * k / self._share) + 8)
        while True:
            found = self._kb.search_many(queries, wanted, modality, *rest, **options)
            kept = [[hit for hit in hits if self._has(hit.entry.id)][:k] for hits in found]
            if wanted >= most or all(len(hits) == k for hits in kept):
                return kept
            wanted = min(most, 2 * wanted)

    def _has(self, id_: str) -> bool:
        return zlib.crc32(id_.encode()) / 2**32 < self._share
