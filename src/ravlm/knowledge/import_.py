"""Read back what `export` wrote: entries, images and vectors.

Into a base of another encoder only entries are imported; they are encoded by `ingest`. Knows the
rows of a store.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.data.formats import webdataset
from ravlm.data.images import image_bytes, is_address
from ravlm.data.parallel import batched
from ravlm.data.rows import Quarantined
from ravlm.errors import BrokenData, InvalidInput, Mismatch, NotFound
from ravlm.knowledge.entry_store import EntryStore
from ravlm.knowledge.export import ENTRIES, FORMAT, MANIFEST, PARTS, RESERVED_KEYS, VECTORS
from ravlm.knowledge.images import locate_image
from ravlm.knowledge.index.analyzer import index_words
from ravlm.knowledge.records import EntryRow, Identity, PartRow
from ravlm.records import Entry
from ravlm.search.filters import facets

IMPORT_BATCH = 256
"""Entries stored in one transaction."""


class ExportFolder:
    """A folder that `export` wrote. Raises NotFound or InvalidInput for any other folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            raise NotFound(f'There is no folder "{folder}" to import.')
        try:
            text = (folder / MANIFEST).read_text(encoding="utf-8")
            manifest: dict[str, Any] = json.loads(text)
            if manifest["format"] != FORMAT:
                raise Mismatch(
                    f'The export "{folder}" has format {manifest["format"]}; '
                    f"this version of ravlm reads format {FORMAT}."
                )
            self.fingerprint = str(manifest["fingerprint"])
            self.encoder = str(manifest["encoder"])
            self.num_parts = int(manifest["parts"])
            self.dim = int(manifest["dim"])
            self.is_sharded = manifest.get("form") == "webdataset"
        except (OSError, ValueError, KeyError, TypeError):
            raise InvalidInput(
                f'"{folder}" was not written by `ravlm export` (no readable {MANIFEST}); '
                "for any other source use add."
            ) from None

    @property
    def has_precomputed_vectors(self) -> bool:
        """Whether some vectors were supplied by the user, so that they cannot be encoded again."""
        return any(row["given"] for row in self._json_lines(PARTS))

    def entries(self) -> Iterator[Entry]:
        """Yield the entries; images in the export come as bytes."""
        for row in self._samples() if self.is_sharded else self._json_lines(ENTRIES):
            image = row.get("image")
            if isinstance(image, str) and not is_address(image) and not os.path.isabs(image):
                image = image_bytes(self.folder / image)
            metadata = row.get("metadata")
            if not isinstance(metadata, Mapping):
                metadata = {key: value for key, value in row.items() if key not in RESERVED_KEYS}
            yield Entry(row["id"], image, tuple(row["texts"]), metadata)

    def rows(self) -> Iterator[EntryRow]:
        """Yield the entries with their parts and vectors.

        Raises BrokenData if the files do not match.
        """
        vectors = self._load_vectors()  # (parts, dim)
        numbered = enumerate(self._json_lines(PARTS))
        groups = groupby(numbered, lambda item: item[1]["entry"])
        for entry in self.entries():
            id_, group = next(groups, (None, iter(())))
            if id_ != entry.id:
                raise BrokenData(
                    f'"{self.folder / PARTS}" does not match {ENTRIES} at entry "{entry.id}"; '
                    "export again."
                )
            parts = [self._part(entry, values, vectors[row]) for row, values in group]
            yield _entry_row(entry, parts)

    def _load_vectors(self) -> np.ndarray:
        if not self.num_parts:
            return np.zeros((0, self.dim), "<f2")
        path = self.folder / VECTORS
        vectors: np.ndarray = np.load(path, mmap_mode="r")
        if vectors.shape != (self.num_parts, self.dim) or vectors.dtype != np.dtype("<f2"):
            raise BrokenData(f'"{path}" does not match its {MANIFEST}; export again.')
        return vectors

    def _part(self, entry: Entry, values: Mapping[str, Any], row: np.ndarray) -> PartRow:
        vector = row.tobytes()
        if zlib.crc32(vector) != values["checksum"]:
            raise BrokenData(
                f'"{self.folder / VECTORS}" has a damaged vector for "{entry.id}"; export again.'
            )
        position, passage, is_given = values["position"], values["passage"], values["given"]
        words = None
        if values["modality"] == "text":
            text = "\n".join(entry.texts) if is_given else passage or entry.texts[position]
            words = index_words(text)
        return PartRow(values["modality"], position, passage, vector, is_given, words)

    def _samples(self) -> Iterator[Mapping[str, Any]]:
        for row in webdataset.read_rows(self.folder):
            if isinstance(row, Quarantined):
                raise BrokenData(f"{row.location}: {row.reason} Export again.")
            yield row.values

    def _json_lines(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            with open(self.folder / name, encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise BrokenData(
                f'"{self.folder / name}" cannot be read ({error}); export again.'
            ) from error


def import_rows(
    store: EntryStore, identity: Identity, source: ExportFolder, batch_size: int = IMPORT_BATCH
) -> tuple[int, int]:
    """Store the export of a base with the same encoder, including its vectors.

    Returns (number added, number updated).
    """
    added = updated = 0
    for batch in batched(source.rows(), batch_size):
        replaced = store.upsert(batch, identity)
        added += len(batch) - replaced
        updated += replaced
    return added, updated


def _entry_row(entry: Entry, parts: list[PartRow]) -> EntryRow:
    image = None if entry.image is None else str(entry.image)
    image_hash = data = None
    if isinstance(entry.image, bytes):
        located = locate_image(entry.image)
        image = located.reference
        image_hash = located.hash
        data = located.data
    return EntryRow(
        id=entry.id,
        image=image,
        image_hash=image_hash,
        texts=json.dumps(entry.texts, ensure_ascii=False),
        metadata=json.dumps(entry.metadata, ensure_ascii=False),
        facets=facets(entry.metadata),
        digest="",  # matches no content: adding the same entry again encodes it
        parts=tuple(parts),
        image_bytes=data,
    )
