"""What `exporting` wrote, taken in again: entries, pictures and vectors, or without the vectors of
another encoder.

Knows the store's rows; encoding is ingest's.
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
from ravlm.knowledge.backend import Rows
from ravlm.knowledge.export import ENTRIES, FORMAT, KEYS, MANIFEST, PARTS, VECTORS
from ravlm.knowledge.index.analyzer import index_words
from ravlm.knowledge.images import locate
from ravlm.knowledge.records import EntryRow, Identity, PartRow
from ravlm.records import Entry
from ravlm.search.filters import facets


class Exported:
    """A folder that `export` wrote. Raises NotFound or BrokenData where it isn't one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            raise NotFound(f'There is no folder "{folder}" to import.')
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise Mismatch(
                    f'The export "{folder}" has the format {manifest["format"]}; this ravlm reads {FORMAT}.'
                )
            self.fingerprint, self.encoder = str(manifest["fingerprint"]), str(manifest["encoder"])
            self.parts, self.dim = int(manifest["parts"]), int(manifest["dim"])
            self.sharded = manifest.get("form") == "webdataset"
        except (OSError, ValueError, KeyError, TypeError):
            raise InvalidInput(
                f'"{folder}" is not what `ravlm export` wrote (no readable {MANIFEST}); for any other source use add.'
            ) from None

    @property
    def has_given(self) -> bool:
        """Whether some vectors were ready-made, and can't be encoded again."""
        return any(row["given"] for row in self._rows(PARTS))

    def entries(self) -> Iterator[Entry]:
        """The entries; their pictures as bytes, where they are in the export."""
        for row in self._samples() if self.sharded else self._rows(ENTRIES):
            image = row.get("image")
            if isinstance(image, str) and not is_address(image) and not os.path.isabs(image):
                image = image_bytes(self.folder / image)
            metadata = row.get("metadata")
            if not isinstance(metadata, Mapping):
                metadata = {key: value for key, value in row.items() if key not in KEYS}
            yield Entry(row["id"], image, tuple(row["texts"]), metadata)

    def rows(self) -> Iterator[tuple[Entry, list[PartRow]]]:
        """The entries with their parts and vectors. Raises BrokenData where the files don't fit
        each other."""
        vectors = (
            np.load(self.folder / VECTORS, mmap_mode="r")
            if self.parts
            else np.zeros((0, self.dim), "<f2")
        )
        if vectors.shape != (self.parts, self.dim) or vectors.dtype != np.dtype("<f2"):
            raise BrokenData(
                f'"{self.folder / VECTORS}" does not fit its {MANIFEST}; export again.'
            )
        numbered = enumerate(self._rows(PARTS))
        groups = groupby(numbered, lambda row: row[1]["entry"])
        for entry in self.entries():
            id_, group = next(groups, (None, iter(())))
            if id_ != entry.id:
                raise BrokenData(
                    f'"{self.folder / PARTS}" does not fit {ENTRIES} at "{entry.id}"; export again.'
                )
            parts = []
            for at, row in group:
                vector = vectors[at].tobytes()
                if zlib.crc32(vector) != row["checksum"]:
                    raise BrokenData(
                        f'"{self.folder / VECTORS}" has another vector for "{id_}"; export again.'
                    )
                position, passage, given = row["position"], row["passage"], row["given"]
                words = None
                if row["modality"] == "text":
                    words = index_words(
                        "\n".join(entry.texts) if given else passage or entry.texts[position]
                    )
                parts.append(PartRow(row["modality"], position, passage, vector, given, words))
            yield entry, parts

    def _samples(self) -> Iterator[Mapping[str, Any]]:
        for row in webdataset.rows(self.folder):
            if isinstance(row, Quarantined):
                raise BrokenData(f"{row.location}: {row.reason} Export again.")
            yield row.values

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            with open(self.folder / name, encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise BrokenData(
                f'"{self.folder / name}" can\'t be read ({error}); export again.'
            ) from error


def imported(
    store: Rows, identity: Identity, source: Exported, batch: int = 256
) -> tuple[int, int]:
    """Store what was exported from a base of the same encoder, vectors and all; returns (added,
    updated)."""
    added = updated = 0
    for some in batched(source.rows(), batch):
        rows = [_row(entry, parts) for entry, parts in some]
        replaced = store.put(rows, identity)
        added, updated = added + len(rows) - replaced, updated + replaced
    return added, updated


def _row(entry: Entry, parts: list[PartRow]) -> EntryRow:
    image, found = entry.image, None
    if isinstance(image, bytes):
        found = locate(image)
    return EntryRow(
        id=entry.id,
        image=found.image if found else None if image is None else str(image),
        image_hash=found.hash if found else None,
        texts=json.dumps(entry.texts, ensure_ascii=False),
        metadata=json.dumps(entry.metadata, ensure_ascii=False),
        facets=facets(entry.metadata),
        digest="",  # equal to none: adding the same entry again encodes it
        parts=tuple(parts),
        image_bytes=found.data if found else None,
    )
