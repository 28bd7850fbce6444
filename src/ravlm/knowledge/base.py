"""KnowledgeBase: entries that can be searched, in a folder or on a Milvus server.

It composes a backend (rows and indexes), `ingest` (from entries to rows) and `search` (from queries
to hits). Knows no generator and no particular backend.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.data.parallel import batched
from ravlm.data.rows import id_text, id_texts
from ravlm.encoders.auto import DualEncoder
from ravlm.errors import InvalidInput
from ravlm.knowledge import export, import_
from ravlm.knowledge.backend import Backend, SampledParts
from ravlm.knowledge.canaries import encode_canaries
from ravlm.knowledge.dedup import Deduplicate
from ravlm.knowledge.encoder_guard import EncoderGuard
from ravlm.knowledge.filter_keys import checked_filter
from ravlm.knowledge.index.tuning import RECALL, Requirements
from ravlm.knowledge.ingest import Ingestion, PrecomputedVectors, as_entries, validate_vectors
from ravlm.knowledge.queries import AnyModality, QueryBatch, check_search, encode_queries
from ravlm.knowledge.records import Identity
from ravlm.knowledge.registry import backend_for
from ravlm.knowledge.reports import AddReport, ExportReport, Info, Page, TuneReport, VerifyReport
from ravlm.knowledge.search import SearchPipeline
from ravlm.ocr.base import OcrMode, OcrOptions
from ravlm.records import Entry, Hit, ImageSource, Modality
from ravlm.search.filter_parser import Where
from ravlm.search.options import DEFAULT_OPTIONS, SearchOptions

if TYPE_CHECKING:
    import os

    from ravlm.data.rows import Quarantined
    from ravlm.encoders.base import Encoder
    from ravlm.knowledge.reports import Trial

REMOVE_BATCH = 1000


class KnowledgeBase:
    """Entries in a folder or on a server, searchable by text, image or vector.

    Create one with `build` or `open`; any number of handles and processes may read and write. A
    handle may be used by several threads. Methods raise NotFound, InvalidInput, Mismatch,
    BrokenData or Busy, each with a message that names the next step.

    Example:
        kb = ravlm.KnowledgeBase.build("kb/", ravlm.read_entries("photos.jsonl"))
        hits = kb.search(text="a fluffy orange cat", k=5)
    """

    def __init__(
        self, backend: Backend | str | os.PathLike[str], encoder: Encoder | str | Path | None = None
    ) -> None:
        """Open the base at a path, as `open` does; `build` passes a backend."""
        if not isinstance(backend, Backend):
            backend = backend_for(backend).open(backend)
        self._backend = backend
        try:
            self._guard = EncoderGuard(backend, encoder)
        except BaseException:
            backend.close()
            raise
        self.report = AddReport()
        """Result of the last `build` or `add` of this handle."""

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        entries: Iterable[Entry] | Entry,
        encoder: Encoder | str | Path | None = None,
        progress: Callable[[AddReport], None] | None = None,
        deduplicate: Deduplicate | None = None,
        ocr: OcrMode | OcrOptions = "auto",
    ) -> KnowledgeBase:
        """Create a base in a folder or at an address and add `entries`, or resume an existing one.

        Entries whose id is stored stay as they are. `encoder` is an encoder or a name for
        `DualEncoder.load`; by default that of the existing base, or "starter". `progress` is called
        after each batch; `deduplicate` and `ocr` as in `add`. `.report` and `.quarantine` list what
        was stored and rejected. A new base that could not store anything is removed again.
        """
        backend_class, entries = backend_for(path), as_entries(entries)
        if isinstance(encoder, str | Path):
            encoder = DualEncoder.load(encoder)
        with ExitStack() as on_error:
            if backend_class.exists(path):
                kb = on_error.enter_context(cls.open(path, encoder))
            else:
                kb = cls._create(backend_class, path, encoder)
                on_error.callback(kb.discard)
            kb._ingest(entries, {}, progress, keep_existing=True, deduplicate=deduplicate, ocr=ocr)
            on_error.pop_all()
        return kb

    @classmethod
    def _create(
        cls, backend_class: type[Backend], path: str | os.PathLike[str], encoder: Encoder | None
    ) -> KnowledgeBase:
        """Create an empty base; the default encoder is loaded once the location proved usable."""
        loaded: list[Encoder] = [] if encoder is None else [encoder]

        def new_identity() -> tuple[Identity, dict[Modality, np.ndarray]]:
            if not loaded:
                loaded.append(DualEncoder.load("starter"))
            (new,) = loaded
            return Identity.of_encoder(uuid.uuid4().hex, new), encode_canaries(new)

        kb = cls(backend_class.create(path, new_identity), None)
        kb._guard.trust(loaded[0])
        return kb

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], encoder: Encoder | str | Path | None = None
    ) -> KnowledgeBase:
        """Open the base in a folder or at an address.

        Its encoder is loaded when something must be encoded. Raises NotFound if there is no base,
        Mismatch if `encoder` is not the one it was built with.
        """
        return cls(path, encoder)

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Return whether there is a base."""
        return backend_for(path).exists(path)

    # properties

    @property
    def path(self) -> Path | str:
        """Folder or address of the base."""
        return self._backend.path

    @property
    def derived_folder(self) -> Path:
        """Folder for files that can be computed from the base again, and may be lost."""
        return self._backend.derived_folder

    @property
    def change(self) -> int:
        """Number of the last committed change of any process."""
        return self._backend.change()

    @property
    def quarantine(self) -> list[Quarantined]:
        """What the last `build` or `add` of this handle rejected."""
        return list(self.report.quarantined)

    @property
    def encoder(self) -> Encoder:
        """The encoder the base was built with, loaded and verified on first use.

        Raises Mismatch if it no longer produces the same vectors.
        """
        return self._guard.get()

    def check_current(self) -> None:
        """Raise Mismatch if the base was re-encoded since this handle opened it."""
        self._backend.check_current()

    def info(self) -> Info:
        """Return size, encoder and state."""
        return self._backend.info()

    def count(self, where: Where = None) -> int:
        """Return the number of entries, or of those that pass the filter `where`."""
        return self._backend.store.count(checked_filter(where, self._backend.store))

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, id_: object) -> bool:
        return bool(self._backend.store.digests([id_text(id_)]))

    # entries

    def add(
        self,
        entries: Iterable[Entry] | Entry,
        vectors: Mapping[str, Any] | None = None,
        progress: Callable[[AddReport], None] | None = None,
        deduplicate: Deduplicate | None = None,
        ocr: OcrMode | OcrOptions = "auto",
    ) -> AddReport:
        """Add entries in batches; an existing id is replaced, or skipped if nothing differs.

        `vectors={"image": (n, dim), "text": (n, dim)}` are precomputed for a list of n entries, one
        row per entry, or (tokens, dim) of a multi-vector encoder; those of "text" stand for all of
        its texts. Everything else is encoded. A stored batch stays stored if the next one fails.

        `deduplicate="exact"` skips an entry with the same image (without an image, the same texts)
        as another before anything is encoded; `"near"` also one whose image looks the same. `ocr`
        reads the text of pages without a text layer ("auto"), "always" of all images, or "never".
        """
        entries = as_entries(entries)
        precomputed = validate_vectors(vectors, entries, self._backend.identity)
        return self._ingest(entries, precomputed, progress, deduplicate=deduplicate, ocr=ocr)

    def _ingest(
        self,
        entries: Iterable[Entry],
        vectors: Mapping[Modality, PrecomputedVectors],
        progress: Callable[[AddReport], None] | None,
        **options: Any,
    ) -> AddReport:
        backend = self._backend
        ingestion = Ingestion(backend.store, backend.identity, self._guard.get, **options)
        try:
            ingestion.run(entries, vectors, progress)
        finally:
            self.report = ingestion.report()
        return self.report

    def remove(self, ids: str | Iterable[str]) -> int:
        """Remove entries and return how many existed.

        No search finds them anymore; `compact` clears them from disk.
        """
        unique_ids = dict.fromkeys(id_texts(ids))
        return sum(self._backend.store.remove(batch) for batch in batched(unique_ids, REMOVE_BATCH))

    def get(self, ids: str | Iterable[str]) -> list[Entry]:
        """Return the entries of those `ids` that exist, in the order of `ids`."""
        id_list = id_texts(ids)
        entries = self._backend.store.entries(dict.fromkeys(id_list))
        return [entries[id_] for id_ in id_list if id_ in entries]

    def page(self, n: int = 100, after: str = "", where: Where = None) -> Page:
        """Return n entries without a search; `after` is the `next` of the previous page."""
        if n < 1:
            raise InvalidInput(f"n is {n}; give a number of entries, at least 1.")
        return self._backend.store.page(n, after, checked_filter(where, self._backend.store))

    def sample(self, n: int, modality: Modality, seed: int = 0) -> SampledParts:
        """Return up to n random parts of a modality: entry, part and vector, float32 (dim,)."""
        return self._backend.sample_parts(n, modality, seed)

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the stored image vector (dim,) of each of `ids` that has one, by id."""
        return self._backend.store.image_vectors(dict.fromkeys(ids))

    # search

    def search(
        self,
        text: str | None = None,
        image: ImageSource | None = None,
        vector: Any = None,
        k: int = 10,
        modality: AnyModality = "any",
        where: Where = None,
        options: SearchOptions = DEFAULT_OPTIONS,
    ) -> list[Hit]:
        """Return the k best entries for a text, an image, both, or a vector (dim,), best first.

        `modality` selects the parts to search. With "any", cosines with the other modality are
        mapped to the scale of the query's own (`ravlm.search.score_calibration`), so that texts do
        not always win; a bare vector is compared as it is; with a multi-vector encoder it may be
        (tokens, dim). `where` is a filter, for example `{"split": "train"}` or `"year >= 1990"`. If
        k exceeds the base, all entries are returned.
        """
        query = {"text": text, "image": image, "vector": vector}
        return self.search_many([query], k, modality, where, options)[0]

    def search_many(
        self,
        queries: Sequence[Mapping[str, Any]],
        k: int = 10,
        modality: AnyModality = "any",
        where: Where = None,
        options: SearchOptions | Sequence[SearchOptions] = DEFAULT_OPTIONS,
    ) -> list[list[Hit]]:
        """Return the hits of each query, over one state of the base.

        A query is a mapping with `text`, `image` (or both) or `vector`, as in `search`. `options`
        may be a sequence with one for each query.
        """
        modalities = check_search(k, modality)
        tree = checked_filter(where, self._backend.store)
        identity, encoder = self._backend.identity, self._guard.get
        batches = [
            (batch, encode_queries(batch.queries, batch.options, modalities, identity, encoder))
            for batch in QueryBatch.group(queries, options)
        ]
        results: dict[int, list[Hit]] = {}
        with self._backend.searcher() as searcher:
            for batch, encoded in batches:
                hits = SearchPipeline(searcher, modalities, batch.options).run(encoded, k, tree)
                results |= zip(batch.positions, hits, strict=True)
        return [results[position] for position in range(len(queries))]

    # maintenance

    def optimize(self) -> None:
        """Write the indexes to disk, and return when searches use them.

        In a folder, up to 30,000 vectors of a modality are searched exactly. More get an inverted
        file index (IVF) tuned to a recall of 0.95 on the base's own vectors; see `tune`.
        """
        self._backend.optimize()

    def tune(
        self,
        recall: float = RECALL,
        memory: float | None = None,
        latency: float | None = None,
        progress: Callable[[Trial], None] | None = None,
    ) -> TuneReport:
        """Measure all kinds of vector index and keep the fastest that meets the requirements.

        `recall` is recall@10; `memory` is bytes for all vectors of the larger modality; `latency`
        is seconds per search (median). `progress` is called with each measurement. Later calls of
        `optimize` use the selected kind.
        """
        requirements = Requirements(recall, memory, latency)
        return self._backend.tune(requirements, progress or (lambda trial: None))

    def compact(self) -> None:
        """Clear removed entries from disk, and what killed processes and `reencode` left there.

        Raises Busy if they are still on disk because another process kept reading them.
        """
        self._backend.compact()

    def verify(self, sample: int = 16) -> VerifyReport:
        """Check store, indexes and images; encode `sample` entries again. Writes nothing."""
        return self._backend.verify(self._guard.get, sample)

    def reencode(
        self, encoder: Encoder | str | Path, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Replace all vectors by those of another encoder, atomically; resumes if interrupted.

        `progress` is called with the number of entries done and the total. Other handles must
        reopen the base. Raises Busy while another process re-encodes it.
        """
        new = DualEncoder.load(encoder) if isinstance(encoder, str | Path) else encoder
        self._backend.reencode(new, encode_canaries(new), progress)
        self._guard.trust(new)

    def export_to(
        self,
        path: str | os.PathLike[str],
        form: export.ExportForm = "files",
        shard_size: int = export.SHARD_SIZE,
    ) -> ExportReport:
        """Write all entries, images and vectors into the new folder `path`.

        The form is JSON lines with image files, or with `form="webdataset"` tar files, one for each
        `shard_size` entries.
        """
        backend, target = self._backend, Path(path).absolute()
        return export.export(backend.store, backend.identity, target, form, shard_size)

    def import_from(self, path: str | os.PathLike[str]) -> AddReport:
        """Add what `export_to` wrote, replacing existing ids and copying images into the base.

        An export of another encoder is encoded again. Raises InvalidInput for other sources; use
        `add` for them.
        """
        source, identity = import_.ExportFolder(Path(path).absolute()), self._backend.identity
        if source.fingerprint == identity.fingerprint:
            self.report = import_.import_rows(self._backend.store, identity, source)
        else:
            source.check_encodable(identity)
            report = self.add(source.entries(), ocr="never")
            self.report = replace(report, quarantined=(*report.quarantined, *source.notes))
        return self.report

    # closing

    def close(self) -> None:
        """Close the base. The folder of a closed base may be moved or copied."""
        self._backend.close()

    def discard(self) -> bool:
        """Close the base and delete it if this handle created it and it is still empty.

        Returns whether it was deleted.
        """
        return self._backend.discard()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
