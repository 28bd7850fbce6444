"""KnowledgeBase: entries that are searched, in a folder or on a Milvus server.

It composes: rows and indexes are the back end's, the way from entry to row is ingest's, from query
to hits searching's. Knows no generator, and not where a base lies."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ravlm.errors import InvalidInput, Mismatch
from ravlm.knowledge import canaries, export, import_
from ravlm.knowledge.backend import Backend
from ravlm.knowledge.dedup import Deduplicate
from ravlm.knowledge.export import Form
from ravlm.knowledge.index.tuning import RECALL, Requirements
from ravlm.knowledge.ingest import Ingestion, checked_vectors
from ravlm.knowledge.records import Identity
from ravlm.knowledge.queries import batches_by_options, check_search, read_queries
from ravlm.knowledge.registry import backend_of
from ravlm.knowledge.reports import (
    AddReport,
    ExportReport,
    Info,
    Page,
    Trial,
    TuneReport,
    VerifyReport,
)
from ravlm.knowledge.search import Searching
from ravlm.records import Entry, Hit, ImageSource, Modality, Part
from ravlm.search.filter_parser import Where, read_filter
from ravlm.search.options import SearchOptions

if TYPE_CHECKING:
    import os

    from ravlm.data.rows import Quarantined
    from ravlm.encoders.base import Encoder

AnyModality = Literal["any", "image", "text"]
DEFAULT_OPTIONS = SearchOptions()


class KnowledgeBase:
    """Entries in a folder or on a server. Make one with `build`, or `open` one; any number of
    handles may.

    Methods raise NotFound, InvalidInput, Mismatch, BrokenData or Busy, each with a sentence that
    says what to do. A handle may be used by several threads."""

    def __init__(self, backend: Backend, encoder: Encoder | None) -> None:
        """Used by `build` and `open`."""
        self._backend, self._lock = backend, threading.RLock()
        self._encoder, self._proved = encoder, False
        self.report = AddReport()
        """What the last `build` or `add` of this handle did."""
        if encoder is not None:
            self._check_fingerprint(encoder)

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        entries: Iterable[Entry],
        encoder: Encoder | str | Path | None = None,
        progress: Callable[[AddReport], None] | None = None,
        deduplicate: Deduplicate | None = None,
    ) -> KnowledgeBase:
        """Make the base in the folder or at the address `path` and add `entries`, or go on with one
        that is there.

        What is stored by its id stays as it is. `encoder`: one, or a name for `DualEncoder.load`;
        where None, that of the base that is there, else "starter". `progress` is called after each
        batch; `deduplicate` as in `add`. `.report` and `.quarantine` tell what was done and
        refused. A new base whose building fails before anything was stored is not left behind."""
        from ravlm.encoders.auto import DualEncoder

        kind = backend_of(path)
        loaded = DualEncoder.load(encoder) if isinstance(encoder, str | Path) else encoder
        with ExitStack() as on_error:
            if kind.is_there(path):
                base = on_error.enter_context(cls.open(path, loaded))
            else:
                found: list[Encoder] = []

                def identity() -> tuple[Identity, dict[Modality, np.ndarray]]:
                    found.append(loaded or DualEncoder.load("starter"))
                    new = Identity(
                        uuid.uuid4().hex, found[0].name, found[0].fingerprint, found[0].dim
                    )
                    return new, canaries.encode(found[0])

                base = cls(kind.create(path, identity), None)
                on_error.callback(base.discard)
                base._encoder, base._proved = found[0], True
            base._add(entries, {}, progress, deduplicate, keep=True)
            on_error.pop_all()
        return base

    @classmethod
    def open(cls, path: str | os.PathLike[str], encoder: Encoder | None = None) -> KnowledgeBase:
        """Open the base in the folder or at the address `path`. Its encoder is loaded only when
        something must be encoded.

        Raises NotFound where there is none, Mismatch where `encoder` is not the one it was built
        with."""
        backend = backend_of(path).open(path)
        try:
            return cls(backend, encoder)
        except BaseException:
            backend.close()
            raise

    @staticmethod
    def is_there(path: str | os.PathLike[str]) -> bool:
        """Whether there is a base."""
        return backend_of(path).is_there(path)

    # what it is

    @property
    def path(self) -> Path | str:
        """The base's folder or address."""
        return self._backend.place

    @property
    def derived_folder(self) -> Path:
        """A folder for files that may be lost: they can be made from the base again."""
        return self._backend.derived

    @property
    def change(self) -> int:
        """The number of the last committed change, another process's included."""
        return self._backend.change()

    @property
    def quarantine(self) -> list[Quarantined]:
        """What the last `build` or `add` of this handle refused."""
        return list(self.report.quarantined)

    @property
    def encoder(self) -> Encoder:
        """The encoder the base was built with, loaded and proved on first use. Raises Mismatch
        where it is another."""
        from ravlm.encoders.auto import DualEncoder

        with self._lock:
            if self._encoder is None:
                encoder = DualEncoder.load(self._backend.identity.encoder)
                self._check_fingerprint(encoder)
                self._encoder = encoder
            if not self._proved:
                self._backend.check_same()
                worst = canaries.worst_cosine(self._encoder, self._backend.rows.canaries())
                if worst < canaries.LEAST:
                    name, mine = self._encoder.name, self._backend.name
                    raise Mismatch(
                        f'The encoder "{name}" gives other vectors here than when "{mine}" was built (a canary\'s '
                        f"cosine is {worst:.4f}; at least {canaries.LEAST} is needed). Re-encode the base: "
                        f"ravlm reencode {mine} --encoder {name}"
                    )
                self._proved = True
            return self._encoder

    def check_same(self) -> None:
        """Raise Mismatch where the base was re-encoded since it was opened."""
        self._backend.check_same()

    def _check_fingerprint(self, encoder: Encoder) -> None:
        mine = self._backend.identity
        if encoder.fingerprint != mine.fingerprint:
            raise Mismatch(
                f'The knowledge base "{self._backend.name}" was built with the encoder "{mine.encoder}" (fingerprint '
                f'{mine.fingerprint[:12]}), and this one is "{encoder.name}" (fingerprint '
                f"{encoder.fingerprint[:12]}): their vectors can't be compared. Use the first, or re-encode the base: "
                f"ravlm reencode {self._backend.name} --encoder {encoder.name}"
            )

    def info(self) -> Info:
        """Sizes, encoder and state."""
        return self._backend.info()

    def count(self, where: Where = None) -> int:
        """How many entries there are, or pass the filter `where`."""
        return self._backend.rows.count(read_filter(where))

    # what is in it

    def add(
        self,
        entries: Iterable[Entry],
        vectors: Mapping[str, Any] | None = None,
        progress: Callable[[AddReport], None] | None = None,
        deduplicate: Deduplicate | None = None,
    ) -> AddReport:
        """Add entries, batch by batch; one whose id is stored is replaced, or passed over where
        nothing differs.

        `vectors={"image": (n, dim), "text": (n, dim)}` gives them ready-made for a list of n
        entries, one a modality and entry (a text vector then stands for all of the entry's texts);
        what isn't given is encoded. A batch that was stored stays stored, whatever happens to the
        next one. `deduplicate="exact"` leaves out, before anything is encoded, an entry with the
        same picture (or without one, the same texts) as another; `"near"` also one whose picture
        looks the same. The report names them."""
        given = checked_vectors(vectors, entries, self._backend.identity.dim)
        return self._add(entries, given, progress, deduplicate, keep=False)

    def _add(
        self,
        entries: Iterable[Entry],
        given: Mapping[Modality, np.ndarray],
        progress: Callable[[AddReport], None] | None,
        deduplicate: Deduplicate | None,
        keep: bool,
    ) -> AddReport:
        ingestion = Ingestion(
            self._backend.rows, self._backend.identity, lambda: self.encoder, keep, deduplicate
        )
        try:
            ingestion.run(entries, given, progress)
        finally:
            self.report = ingestion.report(entries)
        return self.report

    def remove(self, ids: str | Iterable[str]) -> int:
        """Remove entries; returns how many there were. No search finds them any more; `compact`
        clears the disk."""
        from ravlm.data.parallel import batched

        wanted = dict.fromkeys(str(id_) for id_ in ([ids] if isinstance(ids, str) else ids))
        return sum(self._backend.rows.remove(some) for some in batched(wanted, 1000))

    def get(self, ids: str | Iterable[str]) -> list[Entry]:
        """The entries of these ids that are stored, in the order asked."""
        wanted = [str(id_) for id_ in ([ids] if isinstance(ids, str) else ids)]
        found = self._backend.rows.entries(dict.fromkeys(wanted))
        return [found[id_] for id_ in wanted if id_ in found]

    def page(self, n: int = 100, after: str = "", where: Where = None) -> Page:
        """Entries of the base without a search, n at a time: `after` is the `next` of the page
        before."""
        if n < 1:
            raise InvalidInput(f"n is {n}; a number of entries from 1 on is needed.")
        return self._backend.rows.page(n, after, read_filter(where))

    def sample(
        self, n: int, modality: Modality, seed: int = 0
    ) -> list[tuple[Entry, Part, np.ndarray]]:
        """Up to n parts of a modality, drawn at random, with their entries and stored vectors
        (dim,) float32."""
        return self._backend.draw(n, modality, seed)

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """The stored vector (dim,) of the picture of each of these entries that has one, by id."""
        return self._backend.rows.image_vectors(dict.fromkeys(ids))

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
        """The k best entries for a text, a picture, both, or a vector (dim,); all where there are
        fewer, best first.

        `modality` says which parts are looked at. In a search over both the cosines with the other
        modality than the query's are mapped to the scale of its own
        (`ravlm.search.score_calibration`), so that texts don't always win; a bare vector is
        compared as it is. `where`: the filter language."""
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
        """Return the hits of each query, a mapping with `text`, `image` (or both) or `vector`.

        `options` holds for all queries, or is a sequence with one for each. All queries see the
        same state of the base. Otherwise as `search`.
        """
        modalities, tree = check_search(k, modality), read_filter(where)
        dim = self._backend.identity.dim
        batches = [
            (rows, shared, read_queries(batch, shared, modalities, dim, lambda: self.encoder))
            for rows, shared, batch in batches_by_options(queries, options)
        ]
        results: list[list[Hit]] = [[] for _ in queries]
        with self._backend.viewing() as view:
            for rows, shared, batch in batches:
                rankings = Searching(view, modalities, shared).hits(batch, k, tree)
                for row, hits in zip(rows, rankings, strict=True):
                    results[row] = hits
        return results

    # upkeep

    def optimize(self) -> None:
        """Bring the indexes up to date, on disk; returns when searches use them.

        In a folder, vectors up to 30,000 of a modality are compared one by one. More get an index
        of cells, with what a query spends set to a recall of 0.95 on the base's own vectors; `tune`
        chooses otherwise."""
        self._backend.optimize()

    def tune(
        self,
        recall: float = RECALL,
        memory: float | None = None,
        latency: float | None = None,
        progress: Callable[[Trial], None] | None = None,
    ) -> TuneReport:
        """Measure the kinds of vector index on the base's own vectors, and keep the fastest that
        does what is wished.

        `recall`: share of the ten best that are found; `memory`: bytes for all vectors of the
        modality with the most; `latency`: seconds a search (median). `progress` is called with each
        kind that was measured. The choice stays for later `optimize`."""
        return self._backend.tune(
            Requirements(recall, memory, latency), progress or (lambda trial: None)
        )

    def compact(self) -> None:
        """Clear from the disk what was removed: rows, keywords, vectors, pictures that the base
        kept."""
        self._backend.compact()

    def verify(self, sample: int = 16) -> VerifyReport:
        """Prove the base: file, counts, checksums, index, pictures, and id -> row -> vector by
        encoding `sample` entries again. Writes nothing."""
        return self._backend.verify(lambda: self.encoder, sample)

    def reencode(
        self, encoder: Encoder | str | Path, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Let another encoder's vectors take the place of the present ones, all at once; goes on
        where it stopped.

        `progress` is called with the entries done and their number. Other handles must open the
        base again."""
        from ravlm.encoders.auto import DualEncoder

        new = DualEncoder.load(encoder) if isinstance(encoder, str | Path) else encoder
        self._backend.reencode(new, canaries.encode(new), progress)
        with self._lock:
            self._encoder, self._proved = new, True

    def export_to(
        self, path: str | os.PathLike[str], form: Form = "files", shard: int = export.SHARD
    ) -> ExportReport:
        """Write all entries, pictures and vectors into the new folder `path`: as JSON lines and
        picture files, or, with `form="webdataset"`, as tar files of `shard` entries each."""
        return export.export(
            self._backend.rows, self._backend.identity, Path(path).absolute(), form, shard
        )

    def import_from(self, path: str | os.PathLike[str]) -> AddReport:
        """Add what `export_to` wrote; ids that are there are replaced. From a base of another
        encoder it is encoded.

        Pictures are copied into the base. Raises InvalidInput for any other source, which `add`
        takes."""
        source = import_.Exported(Path(path).absolute())
        if source.fingerprint == self._backend.identity.fingerprint:
            added, updated = import_.imported(self._backend.rows, self._backend.identity, source)
            self.report = AddReport(added, updated)
            return self.report
        if source.has_given:
            raise Mismatch(
                f'The export "{path}" has ready-made vectors of the encoder "{source.encoder}", and this base is of '
                f'"{self._backend.identity.encoder}"; import it into a base of the former.'
            )
        return self.add(source.entries())

    # the end

    def close(self) -> None:
        """Give the files back. A closed base in a folder may be moved or copied."""
        self._backend.close()

    def discard(self) -> bool:
        """Close the base, and take it back if `build` made it through this handle and it has no
        entries; tells whether it was."""
        return self._backend.take_back()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
