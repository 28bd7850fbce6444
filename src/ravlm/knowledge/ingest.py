"""Ingest a stream of entries: validate, decode, encode and store them batch by batch.

Images are decoded in threads, one batch ahead of the encoder. Entries that cannot be used go to
quarantine with reason and location; entries that are stored already are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ravlm.data.images import is_address
from ravlm.data.page_text import all_texts
from ravlm.data.parallel import batched, parallel_map
from ravlm.data.rows import Quarantined, entry_id
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.errors import InvalidInput, Mismatch, RavlmError, did_you_mean
from ravlm.knowledge.dedup import Deduplicate, check_deduplicate, perceptual_hash
from ravlm.knowledge.embed import IngestItem, encode_items
from ravlm.knowledge.entry_store import EntryStore, encode_regions
from ravlm.knowledge.images import content_hash, locate_image, open_images
from ravlm.knowledge.near_duplicates import DuplicateCheck
from ravlm.knowledge.recognition import Recognition
from ravlm.knowledge.records import Identity
from ravlm.knowledge.reports import AddReport
from ravlm.ocr.base import OcrMode, OcrOptions
from ravlm.records import MODALITIES, Entry, Modality
from ravlm.runtime import cpu_count

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

BATCH_SIZE = 64
"""Entries per transaction if they are encoded."""
PRECOMPUTED_BATCH_SIZE = 4096
"""Entries per transaction if their vectors are precomputed."""
_NO_IMAGE = '["", ""]'
PrecomputedVectors: TypeAlias = "np.ndarray | TokenVectors"
"""Float32 (n, dim), or token vectors of n entries."""


class Ingestion:
    """One run over one source.

    With `keep_existing`, entries whose id is stored stay as they are, even if the content differs.
    """

    def __init__(
        self,
        store: EntryStore,
        identity: Identity,
        encoder: Callable[[], Encoder],
        keep_existing: bool = False,
        deduplicate: Deduplicate | None = None,
        ocr: OcrMode | OcrOptions = "auto",
    ) -> None:
        check_deduplicate(deduplicate)
        self.recognition = Recognition(OcrOptions.of(ocr), store.entries)
        self.store = store
        self.identity = identity
        self.encoder = encoder
        self.keep_existing = keep_existing
        self.deduplicate = deduplicate
        self.duplicate_check: DuplicateCheck | None = None
        self.duplicates: list[tuple[str, str]] = []
        self.source: Iterable[Entry] = ()
        self._own_quarantine: list[Quarantined] = []
        self.counts = {"added": 0, "updated": 0, "unchanged": 0}
        self.seconds = {"decode": 0.0, "recognize": 0.0, "encode": 0.0, "store": 0.0}
        self.start = time.perf_counter()

    def run(
        self,
        entries: Iterable[Entry],
        vectors: Mapping[Modality, PrecomputedVectors],
        progress: Callable[[AddReport], None] | None = None,
    ) -> AddReport:
        """Add all entries; `vectors` as returned by `validate_vectors`.

        A stored batch stays stored, even if the next one fails.
        """
        self.source = entries
        if self.deduplicate is not None:
            self.duplicate_check = DuplicateCheck(self.deduplicate, self.store, self.encoder)
        batch_size = PRECOMPUTED_BATCH_SIZE if vectors else BATCH_SIZE
        for batch in batched(self._prepared_items(entries, vectors, batch_size), batch_size):
            self._store_batch(batch)
            if progress is not None:
                progress(self.report())
        self.quarantine.extend(self.recognition.notes())
        return self.report()

    @property
    def quarantine(self) -> list[Quarantined]:
        """Rejected entries: the list of the source if it has one, so that both are together."""
        of_source = getattr(self.source, "quarantine", None)
        return of_source if isinstance(of_source, list) else self._own_quarantine

    def report(self) -> AddReport:
        """Return what was done so far."""
        return AddReport(
            **self.counts,
            recognized=self.recognition.count,
            quarantined=tuple(self.quarantine),
            duplicates=tuple(self.duplicates),
            duplicate_reasons={} if self.duplicate_check is None else self.duplicate_check.reasons,
            seconds={**self.seconds, "total": time.perf_counter() - self.start},
        )

    # in the calling thread

    def _prepared_items(
        self,
        entries: Iterable[Entry],
        vectors: Mapping[Modality, PrecomputedVectors],
        batch_size: int,
    ) -> Iterable[IngestItem]:
        items = self._items(entries, vectors, batch_size)
        if vectors and all(entry.image is None for entry in entries if isinstance(entry, Entry)):
            return map(self._prepare, items)  # nothing to decode
        workers = min(4, cpu_count())
        return parallel_map(self._prepare, items, workers, batch_size + workers)

    def _items(
        self,
        entries: Iterable[Entry],
        vectors: Mapping[Modality, PrecomputedVectors],
        batch_size: int,
    ) -> Iterator[IngestItem]:
        """Yield the entries with the digests stored for them; an id that repeats has an error."""
        ids: set[str] = set()
        for batch in batched(enumerate(entries), batch_size):
            items = []
            for row, entry in batch:
                if not isinstance(entry, Entry):
                    raise InvalidInput(
                        f"Item {row + 1} to add is a {type(entry).__name__}; give an Entry."
                    )
                item = IngestItem(entry, f"entry {row + 1}", vectors, row)
                self._normalize(item, ids)
                items.append(item)
            digests = self.store.digests([item.entry.id for item in items if not item.error])
            for item in items:
                if not item.error:
                    item.stored_digest = digests.get(item.entry.id)
                yield item

    def _normalize(self, item: IngestItem, ids: set[str]) -> None:
        """Convert the entry to its canonical form, with an id that is unique in its source."""
        entry = item.entry
        texts = (entry.texts,) if isinstance(entry.texts, str) else tuple(entry.texts)
        try:
            if not all(isinstance(text, str) for text in texts):
                raise InvalidInput("One of its texts is not a string.")
            item.texts = json_texts(texts)
            item.set_entry(entry)
            id_ = entry_id(entry.id) or content_id(entry, texts)
            f"{id_}{item.texts}{item.metadata}{item.regions}".encode()
        except UnicodeEncodeError:
            item.error = "Its id or a text is not valid Unicode (half of a surrogate pair)."
        except RavlmError as error:
            item.error = str(error)
        except (TypeError, ValueError, RecursionError) as error:
            item.error = f"Its metadata is not JSON: {error}."
        else:
            if id_ != entry.id or texts != entry.texts:
                item.entry = replace(entry, id=id_, texts=texts)
            item.location = f'{item.location}, "{id_}"'
            if id_ in ids:
                item.error = f'The id "{id_}" occurs twice in this source; the first entry counts.'
            ids.add(id_)

    def _store_batch(self, batch: list[IngestItem]) -> None:
        """Recognize, encode and store the new entries of a batch."""
        new_items = self._without_duplicates(
            [item for item in batch if not item.error and not item.unchanged]
        )
        self.seconds["decode"] += sum(item.seconds for item in batch)
        start = time.perf_counter()
        self.quarantine.extend(self.recognition.recognize(new_items))
        self.seconds["recognize"] += time.perf_counter() - start
        start = time.perf_counter()
        encode_items(new_items, self.encoder)
        encoded = time.perf_counter()
        rows = []
        for item in new_items:
            row = item.to_row()
            item.error = item.error or self.store.rejection_reason(row)
            if not item.error:
                rows.append(row)
        if rows:
            updated = self.store.upsert(rows, self.identity)
            self.counts["added"] += len(rows) - updated
            self.counts["updated"] += updated
        self.counts["unchanged"] += sum(item.unchanged for item in batch)
        self.seconds["encode"] += encoded - start
        self.seconds["store"] += time.perf_counter() - encoded
        self.quarantine.extend(
            Quarantined(item.location, item.error) for item in batch if item.error
        )

    def _without_duplicates(self, items: list[IngestItem]) -> list[IngestItem]:
        """Drop duplicates; an entry whose id is stored replaces it and is never dropped."""
        check = self.duplicate_check
        if check is None:
            return items
        check.start_batch()
        for item in items:
            if item.stored_digest is not None:
                continue
            duplicate_of = check.duplicate_of(item)
            if duplicate_of is not None:
                item.duplicate_of = duplicate_of
                item.pixels = None
                item.tiles = {}
                self.duplicates.append((item.entry.id, duplicate_of))
        return [item for item in items if not item.duplicate_of]

    # in worker threads, ahead of the encoder

    def _prepare(self, item: IngestItem) -> IngestItem:
        """Read the image, find out whether the entry is new, and decode the image if it is."""
        if item.error:
            return item
        if item.stored_digest is not None and self.keep_existing:
            item.unchanged = True
            return item
        start = time.perf_counter()
        try:
            self._load(item)
        except RavlmError as error:
            item.error = str(error)
        item.seconds = time.perf_counter() - start
        return item

    def _load(self, item: IngestItem) -> None:
        entry = item.entry
        source = entry.image
        data = b""
        if source is not None:
            located = locate_image(source, self.store.can_embed_images)
            data = located.data
            item.image = located.reference
            item.image_hash = located.hash
            item.image_bytes = located.data if located.embedded else None
        elif not item.vectors and not any(text.strip() for text in all_texts(entry)):
            raise InvalidInput("It has neither an image nor a text.")
        item.is_scan = self.recognition.is_scan(item, data)
        recognition = self.recognition.marker(item)
        if recognition and is_address(source):
            item.fetched_image = data
        item.digest = _digest(item, recognition)
        if item.digest == item.stored_digest:
            item.unchanged = True
            item.image_bytes = None
        elif source is not None and "image" not in item.vectors:
            pixels = data if is_address(source) else source
            item.pixels, item.tiles = open_images(pixels, entry.regions, self.encoder())
            item.perceptual_hash = perceptual_hash(item.pixels)


def _digest(item: IngestItem, recognition: str) -> str:
    """Return a hash of image, texts, metadata, regions and precomputed vectors, and of the text
    recognizer if it reads the image."""
    image = _NO_IMAGE
    if item.entry.image is not None:
        image = json_texts([item.image or "", item.image_hash or ""])
    content = f"{image}\n{item.texts}\n{item.metadata}"  # JSON has no bare line ends
    if item.regions is not None:
        content += f"\n{item.regions}"
    if recognition:
        content += f"\nocr {recognition}"
    for name, vectors in item.vectors.items():
        content += f"\n{name} {zlib.crc32(vectors[item.row].data)}"
    return hashlib.sha256(content.encode()).hexdigest()


def as_entries(entries: Iterable[Entry] | Entry) -> Iterable[Entry]:
    """Return the entries to add; a single one becomes a list.

    Raises InvalidInput for a path or a mapping, which would be taken apart.
    """
    if isinstance(entries, Entry):
        return [entries]
    if isinstance(entries, str | os.PathLike):
        raise InvalidInput(f'"{entries}" is a path; add what read_entries("{entries}") returns.')
    if isinstance(entries, Mapping):
        raise InvalidInput("A mapping is no entry; add Entry(id, image, texts, metadata).")
    return entries


def validate_vectors(
    vectors: Mapping[str, Any] | None, entries: Iterable[Entry], identity: Identity
) -> dict[Modality, PrecomputedVectors]:
    """Return precomputed vectors per modality: float32 (n, dim), or token vectors of n entries if
    the encoder of the base gives several.

    Raises InvalidInput or Mismatch.
    """
    if vectors is None:
        return {}
    if not isinstance(entries, Sequence):
        raise InvalidInput(
            "With vectors=, entries must be a list: row i of the vectors belongs to entry i."
        )
    arrays: dict[Modality, PrecomputedVectors] = {}
    for name, rows in vectors.items():
        if name not in MODALITIES:
            hint = did_you_mean(str(name), MODALITIES)
            raise InvalidInput(f'vectors= has the key "{name}"; allowed: image, text.{hint}')
        if identity.is_multi_vector:
            arrays[name] = _token_vectors(name, rows, len(entries), identity.dim)
        else:
            arrays[name] = _vector_rows(name, np.asarray(rows, np.float32), len(entries), identity)
    return arrays


def _vector_rows(name: str, array: np.ndarray, num_entries: int, identity: Identity) -> np.ndarray:
    dim = identity.dim
    if array.ndim == 3:
        raise InvalidInput(
            f'vectors["{name}"] has shape {array.shape}, several vectors for each entry, but the '
            f'encoder of this base, "{identity.encoder}", gives one; give shape ({num_entries}, '
            f"{dim}), or build a base with a multi-vector encoder."
        )
    if array.ndim != 2 or len(array) != num_entries:
        raise InvalidInput(
            f'vectors["{name}"] has shape {array.shape}; '
            f"{num_entries} entries need shape ({num_entries}, {dim})."
        )
    _check_dim(name, array, dim)
    return np.ascontiguousarray(array)


def _token_vectors(name: str, rows: Any, num_entries: int, dim: int) -> TokenVectors:
    """Return the token vectors of n entries. `rows`: (n, tokens, dim), or (tokens, dim) of each."""
    items = [np.atleast_2d(np.asarray(rows[row], np.float32)) for row in range(len(rows))]
    if len(items) != num_entries:
        raise InvalidInput(
            f'vectors["{name}"] has token vectors of {len(items)} entries, but there are '
            f"{num_entries} entries; give an array (tokens, {dim}) for each."
        )
    for array in items:
        if array.ndim != 2 or not len(array):
            raise InvalidInput(
                f'vectors["{name}"] has token vectors of shape {array.shape} for an entry; '
                f"give at least one: (tokens, {dim})."
            )
        _check_dim(name, array, dim)
    return TokenVectors.from_items(items, dim)


def _check_dim(name: str, array: np.ndarray, dim: int) -> None:
    if array.shape[1] != dim:
        raise Mismatch(
            f'vectors["{name}"] have {array.shape[1]} dimensions, but this base\'s encoder '
            f"produces {dim}; give vectors of that encoder."
        )


def content_id(entry: Entry, texts: tuple[str, ...]) -> str:
    """Return an id derived from the content of an entry, 16 hexadecimal digits."""
    image_hash = None
    if entry.image is not None:
        image_hash = content_hash(entry.image)
    content = json.dumps([image_hash, texts, dict(entry.metadata)], sort_keys=True)
    content += encode_regions(entry.regions) or ""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def json_texts(texts: Sequence[str]) -> str:
    """Return texts as a JSON list."""
    return f"[{', '.join(map(encode_basestring, texts))}]"
