"""A fraction of a knowledge base that searches like a whole one: shows what a larger base would
bring without building any.

The ids decide which entries stay, so a smaller subset is contained in every larger one."""

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
from ravlm.knowledge.reports import AddReport, Info
from ravlm.records import Entry, Hit, Modality, Part

_SHARED_ATTRIBUTES = ("encoder", "change", "get", "image_vectors")
"""What is the same for a subset: encoder, entries by id, stored vectors."""


class KnowledgeBaseSubset:
    """A read-only view of `kb` with the fraction `size` of its entries (above 0, at most 1)."""

    def __init__(self, kb: KnowledgeBase, size: float) -> None:
        self._kb = kb
        self._size = size
        self._folder = tempfile.TemporaryDirectory(prefix="ravlm-subset-")

    def __getattr__(self, name: str) -> Any:
        if name in _SHARED_ATTRIBUTES:
            return getattr(self._kb, name)
        raise AttributeError(f'A subset of a base has no "{name}".')

    @property
    def derived_folder(self) -> Path:
        """A temporary folder: a calibration of the subset must not be used for the whole base."""
        return Path(self._folder.name)

    @property
    def report(self) -> AddReport:
        """An empty report: nothing is added to a subset."""
        return AddReport()

    def info(self) -> Info:
        """Return the info of the base with the numbers of entries and parts scaled."""
        info = self._kb.info()
        parts = {modality: round(count * self._size) for modality, count in info.parts.items()}
        return replace(info, entries=round(info.entries * self._size), parts=parts)

    def sample(
        self, n: int, modality: Modality, seed: int = 0
    ) -> list[tuple[Entry, Part, np.ndarray]]:
        """Return up to n random parts of the subset."""
        rows = self._kb.sample(ceil(1.5 * n / self._size), modality, seed)
        return [row for row in rows if self._contains(row[0].id)][:n]

    def search(self, text: str | None = None, k: int = 10, **options: Any) -> list[Hit]:
        """Return the k best hits in the subset."""
        return self.search_many([{"text": text}], k, **options)[0]

    def search_many(
        self,
        queries: Sequence[Mapping[str, Any]],
        k: int = 10,
        modality: Any = "any",
        *args: Any,
        **options: Any,
    ) -> list[list[Hit]]:
        """Return the k best hits in the subset for each query.

        The search depth doubles until k hits of the subset are left, or the base has no more."""
        num_entries = self._kb.count()
        depth = min(num_entries, ceil(1.5 * k / self._size) + 8)
        while True:
            results = self._kb.search_many(queries, depth, modality, *args, **options)
            hits = [self._filter(ranking)[:k] for ranking in results]
            if depth >= num_entries or all(len(ranking) == k for ranking in hits):
                return hits
            depth = min(num_entries, 2 * depth)

    def _filter(self, hits: Sequence[Hit]) -> list[Hit]:
        return [hit for hit in hits if self._contains(hit.entry.id)]

    def _contains(self, id_: str) -> bool:
        return zlib.crc32(id_.encode()) / 2**32 < self._size
