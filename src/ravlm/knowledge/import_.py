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
from ravlm.data.lines import bounded_lines, too_long
from ravlm.data.parallel import batched
from ravlm.data.pdf import split_page_path
from ravlm.data.rows import Quarantined, entry_id, take_regions
from ravlm.errors import BrokenData, InvalidInput, Mismatch, NotFound, RavlmError
from ravlm.knowledge.entry_store import EntryStore, encode_regions
from ravlm.knowledge.export import (
    ENTRIES,
    FORMAT,
    MANIFEST,
    PARTS,
    RESERVED_KEYS,
    TOKENS,
    VECTORS,
)
from ravlm.knowledge.images import locate_image
from ravlm.knowledge.index.keyword_fields import keyword_terms
from ravlm.knowledge.records import EntryRow, Identity, PartRow
from ravlm.knowledge.reports import AddReport
from ravlm.records import MODALITIES, DocumentBytes, Entry, PdfPage
from ravlm.search.filters import facets

IMPORT_BATCH = 256
"""Entries stored in one transaction."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_LENGTH_ERROR = 0.01
"""Of a unit vector: half precision is off by a thousandth at most."""


class ExportFolder:
    """A folder that `export` wrote. Raises NotFound or InvalidInput for any other folder.

    It may come from elsewhere: all values are checked, and images are read from inside it only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[Quarantined] = []
        """Images that were left out."""
        self._document: tuple[str, DocumentBytes] | None = None
        if not folder.exists():
            raise NotFound(f'There is no folder "{folder}" to import.')
        try:
            with open(folder / MANIFEST, "rb") as file:
                manifest: dict[str, Any] = json.loads(file.read(MAX_MANIFEST_BYTES))
            if manifest["format"] != FORMAT:
                raise Mismatch(
                    f'The export "{folder}" has format {str(manifest["format"])[:40]}; '
                    f"this version of ravlm reads format {FORMAT}."
                )
            self.fingerprint = str(manifest["fingerprint"])
            self.encoder = str(manifest["encoder"])
            self.num_parts = int(manifest["parts"])
            self.dim = int(manifest["dim"])
            self.num_tokens = int(manifest.get("tokens", 0))
            self.is_sharded = manifest.get("form") == "webdataset"
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            raise InvalidInput(
                f'"{folder}" was not written by `ravlm export` (no readable {MANIFEST}); '
                "for any other source use add."
            ) from None

    def check_encodable(self, identity: Identity) -> None:
        """Raise Mismatch if a vector was supplied by the user, so that it cannot be encoded again
        by the encoder of another base."""
        if any(row.get("given") for row in self._json_lines(PARTS)):
            raise Mismatch(
                f'The export "{self.folder}" has precomputed vectors of the encoder '
                f'"{self.encoder}", but this base uses "{identity.encoder}"; import it into a base '
                "of the former."
            )

    def entries(self) -> Iterator[Entry]:
        """Yield the entries; images in the export come as bytes."""
        self.notes.clear()
        ids: set[str] = set()
        rows = self._samples() if self.is_sharded else self._json_lines(ENTRIES)
        for number, row in enumerate(rows, 1):
            try:
                entry = self._entry(row)
                if entry.id in ids:
                    raise BrokenData(f'the id "{entry.id}" occurs twice')
            except (RavlmError, ValueError, RecursionError) as error:
                raise self._damage(ENTRIES, f"entry {number}: {error}") from error
            ids.add(entry.id)
            yield entry

    def rows(self) -> Iterator[EntryRow]:
        """Yield the entries with their parts and vectors.

        Raises BrokenData if the files do not match.
        """
        vectors = self._load_vectors(VECTORS, self.num_parts)  # (parts, dim)
        tokens = self._load_vectors(TOKENS, self.num_tokens)  # of all parts
        first_token = 0
        numbered = enumerate(self._json_lines(PARTS))
        groups = groupby(numbered, lambda item: item[1].get("entry"))
        num_parts = 0
        for entry in self.entries():
            id_, group = next(groups, (None, iter(())))
            if id_ != entry.id:
                raise self._damage(PARTS, f'it does not match {ENTRIES} at entry "{entry.id}"')
            parts = []
            for row, values in group:
                num_parts += 1
                if num_parts > self.num_parts:
                    break
                part = self._part(entry, values, vectors[row])
                if self.num_tokens:
                    count = values.get("tokens")
                    last_token = first_token + count if type(count) is int else first_token
                    of_part = tokens[first_token:last_token]
                    part = part._replace(tokens=self._checked_tokens(entry, values, of_part))
                    first_token = last_token
                parts.append(part)
            yield _entry_row(entry, parts)
        if num_parts != self.num_parts or next(groups, None) is not None:
            raise self._damage(
                PARTS, f"it does not have the {self.num_parts:,} parts of {MANIFEST}"
            )

    def _damage(self, name: str, reason: str) -> BrokenData:
        return BrokenData(f'"{self.folder / name}" cannot be imported ({reason}); export again.')

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        """Return an entry of checked types. Raises BrokenData, NotFound or InvalidInput."""
        id_ = row.get("id")
        if not isinstance(id_, str) or not entry_id(id_):
            raise BrokenData(f"its id is {repr(id_)[:100]}, not a text")
        texts = row.get("texts")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BrokenData('its "texts" are not a list of texts')
        regions, row = take_regions(row)
        metadata = row.get("metadata")
        if not isinstance(metadata, Mapping):
            metadata = {key: value for key, value in row.items() if key not in RESERVED_KEYS}
        facets(metadata)  # refuses numbers that are not finite
        values = [id_, *texts, json.dumps(metadata, ensure_ascii=False)]
        "".join([*values, encode_regions(regions) or ""]).encode()
        return Entry(id_, self._image(id_, row.get("image")), tuple(texts), metadata, regions)

    def _image(self, id_: str, image: Any) -> bytes | str | PdfPage | None:
        """Return the bytes of an image in the export, or the address of one on the web."""
        if image is None or isinstance(image, bytes):
            return image
        if not isinstance(image, str):
            raise BrokenData(f'its "image" is {repr(image)[:100]}, not a path')
        if is_address(image):
            return image
        if os.path.isabs(image):  # it did not exist any more when the base was exported
            reason = f'The image "{image}" is not in the export; the entry has none now.'
            self.notes.append(Quarantined(f'{self.folder}, "{id_}"', reason, is_note=True))
            return None
        location = split_page_path(self.folder / image)
        path = os.path.realpath(self.folder / image if location is None else location[0])
        if not Path(path).is_relative_to(os.path.realpath(self.folder)):
            raise BrokenData(f'its image "{image}" is outside of the export')
        return image_bytes(path) if location is None else self._page(path, location[1])

    def _page(self, path: str, page: int) -> PdfPage:
        """Return a page of a PDF in the export, whose pages follow each other."""
        if self._document is None or self._document[0] != path:
            try:
                self._document = path, DocumentBytes(Path(path).read_bytes())
            except OSError as error:
                raise NotFound(f'There is no file "{path}": {error.strerror}.') from None
        return PdfPage(self._document[1], page)

    def _load_vectors(self, name: str, count: int) -> np.ndarray:
        """Return the vectors (count, dim) of a file. Raises BrokenData."""
        if not count:
            return np.zeros((0, self.dim), "<f2")
        path = self.folder / name
        try:
            # not np.load, which would open a zip or a pickle
            vectors = np.lib.format.open_memmap(path, mode="r")
        except (
            OSError,
            ValueError,
            TypeError,
            OverflowError,
            SyntaxError,
            RecursionError,
        ) as error:
            raise self._damage(name, f"it cannot be read: {error}") from error
        if vectors.shape != (count, self.dim) or vectors.dtype != np.dtype("<f2"):
            raise self._damage(name, f"it does not match its {MANIFEST}")
        return vectors

    def _checked_tokens(self, entry: Entry, values: Mapping[str, Any], tokens: np.ndarray) -> bytes:
        """Return the token vectors (tokens, dim) of a part. Raises BrokenData."""
        data = tokens.tobytes()
        if not len(tokens) or len(tokens) != values.get("tokens"):
            raise self._damage(TOKENS, f'it lacks token vectors of a part of "{entry.id}"')
        if zlib.crc32(data) != values.get("token_checksum"):
            raise self._damage(TOKENS, f'the token vectors of a part of "{entry.id}" are damaged')
        lengths = np.linalg.norm(tokens.astype(np.float32), axis=1)
        if not (np.abs(lengths - 1) < MAX_LENGTH_ERROR).all():  # NaN is not
            raise self._damage(TOKENS, f'a token vector of "{entry.id}" does not have length 1')
        return data

    def _part(self, entry: Entry, values: Mapping[str, Any], row: np.ndarray) -> PartRow:
        """Return a part of checked values, with its vector (dim,)."""
        modality, position = values.get("modality"), values.get("position")
        passage, is_given = values.get("passage"), values.get("given")
        num_texts = len(entry.texts) + bool(entry.regions)
        max_position = num_texts - 1 if modality == "text" else len(entry.regions)
        max_position = 0 if is_given else max_position
        if (
            modality not in MODALITIES
            or type(position) is not int
            or not 0 <= position <= max_position
            or not isinstance(passage, str | None)
            or not isinstance(is_given, bool)
        ):
            raise self._damage(PARTS, f'a part of "{entry.id}" is {repr(dict(values))[:200]}')
        vector = row.tobytes()
        if zlib.crc32(vector) != values.get("checksum"):
            raise self._damage(VECTORS, f'the vector of a part of "{entry.id}" is damaged')
        length = float(np.linalg.norm(row.astype(np.float32)))
        if not abs(length - 1) < MAX_LENGTH_ERROR:  # NaN is not
            raise self._damage(VECTORS, f'a vector of "{entry.id}" has length {length:.3g}, not 1')
        words = None
        if modality == "text":
            words = keyword_terms(entry, position, passage, is_given)
        return PartRow(modality, position, passage, vector, is_given, words)

    def _samples(self) -> Iterator[Mapping[str, Any]]:
        for row in webdataset.read_samples(self.folder):
            if isinstance(row, Quarantined):
                raise BrokenData(f"{row.location}: {row.reason} Export again.")
            yield row.values

    def _json_lines(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            with open(self.folder / name, "rb") as file:
                for line in bounded_lines(file):
                    if line is None:
                        raise ValueError(too_long())
                    values = json.loads(line)
                    if not isinstance(values, dict):
                        raise ValueError(f"a line is of type {type(values).__name__}")
                    yield values
        except (OSError, ValueError, RecursionError) as error:
            raise self._damage(name, f"it cannot be read: {error}") from error


def import_rows(
    store: EntryStore, identity: Identity, source: ExportFolder, batch_size: int = IMPORT_BATCH
) -> AddReport:
    """Store the export of a base with the same encoder, including its vectors."""
    if source.dim != identity.dim:
        raise Mismatch(
            f'The export "{source.folder}" has vectors of {source.dim} dimensions, but this base '
            f"has {identity.dim}; export again."
        )
    if source.num_parts and (source.num_tokens > 0) != identity.is_multi_vector:
        raise Mismatch(
            f'The export "{source.folder}" and the base do not agree on whether the encoder gives '
            "several vectors per image; export again."
        )
    added = updated = 0
    for batch in batched(source.rows(), batch_size):
        replaced = store.upsert(batch, identity)
        added += len(batch) - replaced
        updated += replaced
    return AddReport(added, updated, quarantined=tuple(source.notes))


def _entry_row(entry: Entry, parts: list[PartRow]) -> EntryRow:
    image = None if entry.image is None else str(entry.image)
    image_hash = data = None
    if isinstance(entry.image, bytes | PdfPage):
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
        regions=encode_regions(entry.regions),
    )
