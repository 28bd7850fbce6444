"""From a stream of entries to rows of the store: checked, decoded, encoded, stored batch by batch.

Pictures are decoded in threads, one batch ahead of the encoder. What can't be used goes to
quarantine with its reason and place, whole; what is stored already is passed over. Knows no search.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.data.images import image_bytes, is_address
from ravlm.data.parallel import parallel_map, batched
from ravlm.data.rows import Quarantined
from ravlm.errors import InvalidInput, Mismatch, RavlmError, did_you_mean
from ravlm.knowledge.backend import Rows
from ravlm.knowledge.dedup import Deduplicate, Duplicates, check_deduplicate, look_of
from ravlm.knowledge.embed import Item, encode
from ravlm.knowledge.images import locate, opened
from ravlm.knowledge.records import Identity
from ravlm.knowledge.reports import AddReport
from ravlm.records import MODALITIES, Entry, Modality
from ravlm.runtime import cpu_count
from ravlm.search.filters import facets

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

BATCH, GIVEN_BATCH = 64, 4096
"""Entries stored in one transaction: where they are encoded, and where their vectors came
ready-made."""
_NO_PICTURE = '["", ""]'
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class Ingestion:
    """One run over one source. `keep`: entries whose id is stored stay as they are, whatever their
    content."""

    def __init__(
        self, store: Rows, identity: Identity, encoder: Callable[[], Encoder], keep: bool = False,
        deduplicate: Deduplicate | None = None,
    ) -> None:  # fmt: skip
        check_deduplicate(deduplicate)
        self.store, self.identity, self.encoder, self.keep = store, identity, encoder, keep
        self.deduplicate = deduplicate
        self.duplicates: Duplicates | None = None
        self.repeated: list[tuple[str, str]] = []
        self.refused: list[Quarantined] = []
        self.counts = {"added": 0, "updated": 0, "unchanged": 0}
        self.seconds = {"decode": 0.0, "encode": 0.0, "store": 0.0}
        self.started = time.perf_counter()

    def run(
        self,
        entries: Iterable[Entry],
        given: Mapping[Modality, np.ndarray],
        progress: Callable[[AddReport], None] | None = None,
    ) -> AddReport:
        """Add all of `entries`; `given` as `checked_vectors` returns it. A batch that was stored
        stays stored."""
        if self.deduplicate is not None:
            self.duplicates = Duplicates(self.deduplicate, self.store.contents())
        size = GIVEN_BATCH if given else BATCH
        items, workers = self._items(entries, given, size), min(4, cpu_count())
        if given and all(entry.image is None for entry in entries if isinstance(entry, Entry)):
            prepared: Iterable[Item] = map(self._prepare, items)  # nothing to wait for
        else:
            prepared = parallel_map(self._prepare, items, workers, size + workers)
        for batch in batched(prepared, size):
            self._take(batch, entries)
            if progress is not None:
                progress(self.report(entries))
        return self.report(entries)

    def report(self, entries: Iterable[Entry]) -> AddReport:
        """What was done so far."""
        refused = _quarantine_of(entries)
        total = {"total": time.perf_counter() - self.started}
        return AddReport(
            **self.counts,
            quarantined=tuple(self.refused if refused is None else refused),
            duplicates=tuple(self.repeated),
            seconds={**self.seconds, **total},
        )

    # in the thread that called

    def _items(
        self, entries: Iterable[Entry], given: Mapping[Modality, np.ndarray], size: int
    ) -> Iterator[Item]:
        """Entries with what is known of them, each id once."""
        seen: set[str] = set()
        for batch in batched(enumerate(entries), size):
            items = []
            for position, entry in batch:
                if not isinstance(entry, Entry):
                    raise InvalidInput(
                        f"Item {position + 1} to add is a {type(entry).__name__}; an Entry is needed."
                    )
                item = Item(entry, f"entry {position + 1}", given, position)
                self._identify(item, seen)
                items.append(item)
            stored = self.store.digests(item.entry.id for item in items if not item.refused)
            for item in items:
                if not item.refused and item.entry.id in stored:
                    item.stored = stored[item.entry.id]
                yield item

    def _identify(self, item: Item, seen: set[str]) -> None:
        """Bring the entry into its plain form, with an id that is the only one in its source."""
        entry = item.entry
        texts = (entry.texts,) if isinstance(entry.texts, str) else tuple(entry.texts)
        try:
            if not all(isinstance(text, str) for text in texts):
                raise InvalidInput("a text of it is not a string")
            item.texts, item.metadata = json_texts(texts), _JSON.encode(dict(entry.metadata))
            item.facets = facets(entry.metadata)
            id_ = str(entry.id).strip() or content_id(entry, texts)
            f"{id_}{item.texts}{item.metadata}".encode()
        except UnicodeEncodeError:
            item.refused = "A text or the id of it is not valid Unicode (half of a surrogate pair)."
        except (TypeError, ValueError, RavlmError) as error:
            item.refused = (
                str(error)
                if isinstance(error, RavlmError)
                else f"Its metadata is not JSON: {error}."
            )
        else:
            if id_ != entry.id or texts != entry.texts:
                item.entry = Entry(id_, entry.image, texts, entry.metadata)
            item.place = f'{item.place}, "{id_}"'
            if id_ in seen:
                item.refused = (
                    f'The id "{id_}" stands in this source twice; the first one was taken.'
                )
            seen.add(id_)

    def _take(self, batch: list[Item], source: Iterable[Entry]) -> None:
        """Encode and store what is new of a batch."""
        fresh = self._new([item for item in batch if not item.refused and not item.unchanged])
        self.seconds["decode"] += sum(item.seconds for item in batch)
        start = time.perf_counter()
        encode(fresh, self.encoder)
        encoded = time.perf_counter()
        rows = []
        for item in fresh:
            row = item.row()
            item.refused = item.refused or self.store.fault(row)
            if not item.refused:
                rows.append(row)
        if rows:
            updated = self.store.put(rows, self.identity)
            self.counts["added"] += len(rows) - updated
            self.counts["updated"] += updated
        self.counts["unchanged"] += sum(item.unchanged for item in batch)
        self.seconds["encode"] += encoded - start
        self.seconds["store"] += time.perf_counter() - encoded
        refused = _quarantine_of(source)
        for item in batch:
            if item.refused:
                (self.refused if refused is None else refused).append(
                    Quarantined(item.place, item.refused)
                )

    def _new(self, items: list[Item]) -> list[Item]:
        """Those that repeat nothing; an entry whose id is stored is its new form, and never left
        out."""
        if self.duplicates is not None:
            for item in items:
                if item.stored is None:
                    found = self.duplicates.of(
                        item.entry.id, item.image_hash, item.texts, item.look
                    )
                    if found is not None:
                        item.repeats, item.pixels = found, None
                        self.repeated.append((item.entry.id, found))
        return [item for item in items if not item.repeats]

    # in the threads that work ahead

    def _prepare(self, item: Item) -> Item:
        """Read the picture, decide whether the entry is new, and decode it then."""
        if item.refused:
            return item
        if item.stored is not None and self.keep:
            item.unchanged = True
            return item
        start = time.perf_counter()
        try:
            self._look(item)
        except RavlmError as error:
            item.refused = str(error)
        item.seconds = time.perf_counter() - start
        return item

    def _look(self, item: Item) -> None:
        entry = item.entry
        source = entry.image
        if source is not None:
            found = locate(source)
            item.image, item.image_hash, item.picture = (
                found.image,
                found.hash,
                found.data if found.keep else None,
            )
        elif not item.given and not any(text.strip() for text in entry.texts):
            raise InvalidInput("It has neither a picture nor a text.")
        content = f"{_NO_PICTURE if source is None else json_texts([item.image or '', item.image_hash or ''])}\n"
        content += f"{item.texts}\n{item.metadata}"  # JSON has no bare line ends
        for name, vectors in item.given.items():
            content += f"\n{name} {zlib.crc32(vectors[item.at].data)}"
        item.digest = hashlib.sha256(content.encode()).hexdigest()
        if item.digest == item.stored:
            item.unchanged, item.picture = True, None
        elif source is not None and "image" not in item.given:
            item.pixels = opened(found.data if is_address(source) else source, self.encoder())
            item.look = look_of(item.pixels)


def checked_vectors(
    vectors: Mapping[str, Any] | None, entries: Iterable[Entry], dim: int
) -> dict[Modality, np.ndarray]:
    """Ready-made vectors as float32 (n, dim) for each modality. Raises InvalidInput or Mismatch."""
    if vectors is None:
        return {}
    if not isinstance(entries, Sequence):
        raise InvalidInput(
            "With vectors=, entries must be a list: row i of the vectors belongs to entry i."
        )
    checked: dict[Modality, np.ndarray] = {}
    for name, rows in vectors.items():
        if name not in MODALITIES:
            raise InvalidInput(
                f'vectors= has the key "{name}"; allowed: image, text.{did_you_mean(str(name), MODALITIES)}'
            )
        array = np.asarray(rows, np.float32)
        if array.ndim != 2 or len(array) != len(entries):
            raise InvalidInput(
                f'vectors["{name}"] has the shape {array.shape}; for {len(entries)} entries ({len(entries)}, {dim}) is '
                "needed."
            )
        if array.shape[1] != dim:
            raise Mismatch(
                f'vectors["{name}"] have {array.shape[1]} dimensions, and this base\'s encoder gives {dim}; '
                "bring vectors of that encoder."
            )
        checked[name] = np.ascontiguousarray(array)
    return checked


def _quarantine_of(source: object) -> list[Quarantined] | None:
    found = getattr(source, "quarantine", None)
    return found if isinstance(found, list) else None


def content_id(entry: Entry, texts: tuple[str, ...]) -> str:
    picture = None if entry.image is None else hashlib.sha256(image_bytes(entry.image)).hexdigest()
    content = json.dumps([picture, texts, dict(entry.metadata)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def json_texts(texts: Sequence[str]) -> str:
    """Texts as a JSON list."""
    return f"[{', '.join(map(encode_basestring, texts))}]"
