"""A base as plain files, and back: JSON lines, pictures, and the vectors beside, so that nothing is encoded again.

    entries.jsonl   a row for each entry, as `read_entries` reads it too      pictures/   copies, named by content
    parts.jsonl     a row for each part, in the order of                      vectors.npy float16 (parts, dim)
    manifest.json   encoder, fingerprint, dimensions

Knows the store's rows; encoding is ingest's.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.checkpoint import written_aside
from ravlm.data.batches import batched
from ravlm.data.images import image_bytes, is_address
from ravlm.errors import BrokenData, InvalidInput, Mismatch, NotFound
from ravlm.knowledge.keywords import index_words
from ravlm.knowledge.pictures import FOLDER, locate
from ravlm.knowledge.reports import ExportReport
from ravlm.knowledge.schema import NAMES, EntryRow, Identity, PartRow
from ravlm.knowledge.store import Store
from ravlm.records import Entry
from ravlm.retrieval.filters import facets

FORMAT = 1
ENTRIES, PARTS, VECTORS, MANIFEST = "entries.jsonl", "parts.jsonl", "vectors.npy", "manifest.json"
_KEYS = ("id", "image", "text", "texts", "metadata")


def export(store: Store, identity: Identity, target: Path) -> ExportReport:
    """Write the base to the folder `target`, whole or not at all. A picture that is gone is named in the report."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInput(f'"{target}" is there already; name a new folder to export to.')
    with written_aside(target) as folder, store.reading():
        (folder / FOLDER).mkdir(parents=True)
        missing = _write_entries(store, folder)
        parts = _write_parts(store, folder, identity.dim)
        manifest = {"format": FORMAT, "parts": parts, **asdict(identity)}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        return ExportReport(store.count(), parts, tuple(missing))


def _write_entries(store: Store, folder: Path) -> list[str]:
    missing = []
    with store.reading() as db, open(folder / ENTRIES, "w", encoding="utf-8") as lines:
        for id_, image, image_hash, texts, metadata in db.execute(
            "SELECT id, image, image_hash, texts, metadata FROM entry ORDER BY number"
        ):
            path, row = store.image_path(image), {"id": id_}
            if path is not None:
                row["image"] = path
                if not is_address(path):
                    name = f"{FOLDER}/{image_hash}{Path(path).suffix.lower()}"
                    try:
                        if not (folder / name).exists():
                            shutil.copyfile(path, folder / name)
                        row["image"] = name
                    except OSError:
                        missing.append(path)
            row["texts"] = json.loads(texts)
            values = json.loads(metadata)
            # A row's other keys are metadata; where one has the name of a key of its own, all go under one.
            row |= {"metadata": values} if values.keys() & set(_KEYS) else values
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return missing


def _write_parts(store: Store, folder: Path, dim: int) -> int:
    sql = (
        "SELECT id, modality, position, passage, given, checksum, vector "
        "FROM part JOIN entry ON entry.number = part.entry ORDER BY part.entry, part.number"
    )
    with store.reading() as db, open(folder / PARTS, "w", encoding="utf-8") as lines:
        count = int(db.execute("SELECT COUNT(*) FROM part").fetchone()[0])
        vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", "<f2", (count, dim)) if count else None
        for at, (id_, modality, position, passage, given, checksum, vector) in enumerate(db.execute(sql)):
            assert vectors is not None  # there are rows
            vectors[at] = np.frombuffer(vector, "<f2")
            row = {
                "entry": id_, "modality": NAMES[modality], "position": position, "passage": passage,
                "given": bool(given), "checksum": checksum,
            }  # fmt: skip
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        if vectors is not None:
            vectors.flush()
    return count


class Exported:
    """A folder that `export` wrote. Raises NotFound or BrokenData where it isn't one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            raise NotFound(f'There is no folder "{folder}" to import.')
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise Mismatch(f'The export "{folder}" has the format {manifest["format"]}; this ravlm reads {FORMAT}.')
            self.fingerprint, self.encoder = str(manifest["fingerprint"]), str(manifest["encoder"])
            self.parts, self.dim = int(manifest["parts"]), int(manifest["dim"])
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
        for row in self._rows(ENTRIES):
            image = row.get("image")
            if image is not None and not is_address(image) and not os.path.isabs(image):
                image = image_bytes(self.folder / image)
            metadata = row.get("metadata")
            if not isinstance(metadata, Mapping):
                metadata = {key: value for key, value in row.items() if key not in _KEYS}
            yield Entry(row["id"], image, tuple(row["texts"]), metadata)

    def rows(self) -> Iterator[tuple[Entry, list[PartRow]]]:
        """The entries with their parts and vectors. Raises BrokenData where the files don't fit each other."""
        vectors = np.load(self.folder / VECTORS, mmap_mode="r") if self.parts else np.zeros((0, self.dim), "<f2")
        if vectors.shape != (self.parts, self.dim) or vectors.dtype != np.dtype("<f2"):
            raise BrokenData(f'"{self.folder / VECTORS}" does not fit its {MANIFEST}; export again.')
        numbered = enumerate(self._rows(PARTS))
        groups = groupby(numbered, lambda row: row[1]["entry"])
        for entry in self.entries():
            id_, group = next(groups, (None, iter(())))
            if id_ != entry.id:
                raise BrokenData(f'"{self.folder / PARTS}" does not fit {ENTRIES} at "{entry.id}"; export again.')
            parts = []
            for at, row in group:
                vector = vectors[at].tobytes()
                if zlib.crc32(vector) != row["checksum"]:
                    raise BrokenData(f'"{self.folder / VECTORS}" has another vector for "{id_}"; export again.')
                position, passage, given = row["position"], row["passage"], row["given"]
                words = None
                if row["modality"] == "text":
                    words = index_words("\n".join(entry.texts) if given else passage or entry.texts[position])
                parts.append(PartRow(row["modality"], position, passage, vector, given, words))
            yield entry, parts

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            with open(self.folder / name, encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise BrokenData(f'"{self.folder / name}" can\'t be read ({error}); export again.') from error


def imported(store: Store, identity: Identity, source: Exported, batch: int = 256) -> tuple[int, int]:
    """Store what was exported from a base of the same encoder, vectors and all; returns (added, updated)."""
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
        picture=found.data if found else None,
    )
