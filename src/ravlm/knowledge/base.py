"""KnowledgeBase: entries that are searched, over a store (the truth) and indexes derived from it.

It composes: rows are the store's, vectors the index's, the way from entry to row is ingest's, from query to hits
searching's. Knows no generator.
"""

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
from ravlm.knowledge import canaries, snapshots, transfer, upkeep
from ravlm.knowledge.duplicates import Deduplicate
from ravlm.knowledge.folders import local_folder, take_back
from ravlm.knowledge.ingest import Ingestion, checked_vectors
from ravlm.knowledge.live import LiveIndex
from ravlm.knowledge.queries import check_search, read_queries
from ravlm.knowledge.reports import AddReport, ExportReport, Info, Trial, TuneReport, VerifyReport
from ravlm.knowledge.schema import FORMAT, Identity
from ravlm.knowledge.searching import Searching
from ravlm.knowledge.store import Store
from ravlm.knowledge.tuning import RECALL, Wishes
from ravlm.knowledge.verifying import Verification
from ravlm.records import Entry, Hit, ImageSource, Modality, Part
from ravlm.retrieval.filter_syntax import Where, read_filter
from ravlm.retrieval.options import SearchOptions

if TYPE_CHECKING:
    import os

    from ravlm.data.rows import Quarantined
    from ravlm.encoders.base import DualEncoder

AnyModality = Literal["any", "image", "text"]
DEFAULT_OPTIONS = SearchOptions()


class KnowledgeBase:
    """A folder of entries. Make one with `build`, or `open` one; any number of handles and processes may.

    Methods raise NotFound, InvalidInput, Mismatch, BrokenData or Busy, each with a sentence that says what to do.
    A handle may be used by several threads.
    """

    def __init__(self, store: Store, encoder: DualEncoder | None) -> None:
        """Used by `build` and `open`."""
        self._store, self._lock = store, threading.RLock()
        self._identity = store.state().identity
        self._encoder, self._proved = encoder, False
        self._live = LiveIndex(store, self._identity, self.derived_folder)
        self.report = AddReport()
        """What the last `build` or `add` of this handle did."""
        if encoder is not None:
            self._check_fingerprint(encoder)

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        entries: Iterable[Entry],
        encoder: DualEncoder | str | Path | None = None,
        progress: Callable[[AddReport], None] | None = None,
        deduplicate: Deduplicate | None = None,
    ) -> KnowledgeBase:
        """Make the base in the folder `path` and add `entries`, or go on with one that is there.

        What is stored by its id stays as it is. `encoder`: one, or a name for `DualEncoder.load`; where None, that of
        the base that is there, else "starter". `progress` is called after each batch; `deduplicate` as in
        `add`. `.report` and `.quarantine` tell what was done and refused. A new base whose building fails before
        anything was stored is not left behind.
        """
        from ravlm.encoders.base import DualEncoder

        folder = local_folder(path)
        if isinstance(encoder, str | Path):
            encoder = DualEncoder.load(encoder)
        if Store.is_there(folder):
            with ExitStack() as on_error:
                base = on_error.enter_context(cls.open(folder, encoder))
                base._add(entries, {}, progress, deduplicate, keep=True)
                on_error.pop_all()
                return base
        if folder.exists() and (not folder.is_dir() or any(p.name[:6] != "store." for p in folder.iterdir())):
            raise InvalidInput(f'"{folder}" is there and is no knowledge base; name a new or an empty folder.')
        with ExitStack() as on_error:
            on_error.callback(take_back, folder, made=not folder.exists())
            encoder = encoder or DualEncoder.load("starter")
            identity = Identity(uuid.uuid4().hex, encoder.name, encoder.fingerprint, encoder.dim)
            base = cls(Store.create(folder, identity, canaries.encode(encoder)), encoder)
            base._proved = True
            on_error.callback(base.close)
            base._add(entries, {}, progress, deduplicate, keep=True)
            on_error.pop_all()
            return base

    @classmethod
    def open(cls, path: str | os.PathLike[str], encoder: DualEncoder | None = None) -> KnowledgeBase:
        """Open the base in the folder `path`. Its encoder is loaded only when something must be encoded.

        Raises NotFound where there is none, Mismatch where `encoder` is not the one it was built with.
        """
        store = Store(local_folder(path))
        try:
            return cls(store, encoder)
        except BaseException:
            store.close()
            raise

    # what it is

    @property
    def path(self) -> Path:
        """The base's folder."""
        return self._store.folder

    @property
    def derived_folder(self) -> Path:
        """A folder in the base for files that may be lost: they can be made from the store again."""
        return self.path / "derived"

    @property
    def change(self) -> int:
        """The number of the last committed change, another process's included."""
        return self._store.state().change

    @property
    def quarantine(self) -> list[Quarantined]:
        """What the last `build` or `add` of this handle refused."""
        return list(self.report.quarantined)

    @property
    def encoder(self) -> DualEncoder:
        """The encoder the base was built with, loaded and proved on first use. Raises Mismatch where it is another."""
        from ravlm.encoders.base import DualEncoder

        with self._lock:
            if self._encoder is None:
                encoder = DualEncoder.load(self._identity.encoder)
                self._check_fingerprint(encoder)
                self._encoder = encoder
            if not self._proved:
                worst = canaries.worst_cosine(self._encoder, self._store.canaries())
                if worst < canaries.LEAST:
                    name = self._encoder.name
                    raise Mismatch(
                        f'The encoder "{name}" gives other vectors here than when "{self.path}" was built (a canary\'s '
                        f"cosine is {worst:.4f}; at least {canaries.LEAST} is needed). Re-encode the base: "
                        f"ravlm reencode {self.path} --encoder {name}"
                    )
                self._proved = True
            return self._encoder

    def _check_fingerprint(self, encoder: DualEncoder) -> None:
        mine = self._identity
        if encoder.fingerprint != mine.fingerprint:
            raise Mismatch(
                f'The knowledge base "{self.path}" was built with the encoder "{mine.encoder}" (fingerprint '
                f'{mine.fingerprint[:12]}), and this one is "{encoder.name}" (fingerprint '
                f"{encoder.fingerprint[:12]}): their vectors can't be compared. Use the first, or re-encode the base: "
                f"ravlm reencode {self.path} --encoder {encoder.name}"
            )

    def info(self) -> Info:
        """Sizes, encoder and state."""
        with self._store.reading():
            index = self._live.fresh()
            return Info(
                path=str(self.path),
                entries=self.count(),
                parts={modality: len(found) for modality, found in index.of.items()},
                encoder=self._identity.encoder,
                fingerprint=self._identity.fingerprint,
                dim=self._identity.dim,
                format=FORMAT,
                change=index.change,
                indexed_change=snapshots.covered_change(self.derived_folder),
                bytes=sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()),
            )

    def count(self, where: Where = None) -> int:
        """How many entries there are, or pass the filter `where`."""
        return self._store.count(read_filter(where))

    # what is in it

    def add(
        self,
        entries: Iterable[Entry],
        vectors: Mapping[str, Any] | None = None,
        progress: Callable[[AddReport], None] | None = None,
        deduplicate: Deduplicate | None = None,
    ) -> AddReport:
        """Add entries, batch by batch; one whose id is stored is replaced, or passed over where nothing differs.

        `vectors={"image": (n, dim), "text": (n, dim)}` gives them ready-made for a list of n entries, one a modality
        and entry (a text vector then stands for all of the entry's texts); what isn't given is encoded. A batch that
        was stored stays stored, whatever happens to the next one. `deduplicate="exact"` leaves out, before anything is
        encoded, an entry with the same picture (or without one, the same texts) as another; `"near"` also one whose
        picture looks the same. The report names them.
        """
        given = checked_vectors(vectors, entries, self._identity.dim)
        return self._add(entries, given, progress, deduplicate, keep=False)

    def _add(
        self,
        entries: Iterable[Entry],
        given: Mapping[Modality, np.ndarray],
        progress: Callable[[AddReport], None] | None,
        deduplicate: Deduplicate | None,
        keep: bool,
    ) -> AddReport:
        ingestion = Ingestion(self._store, self._identity, lambda: self.encoder, keep, deduplicate)
        try:
            ingestion.run(entries, given, progress)
        finally:
            self.report = ingestion.report(entries)
        return self.report

    def remove(self, ids: str | Iterable[str]) -> int:
        """Remove entries; returns how many there were. No search finds them any more; `compact` clears the disk."""
        from ravlm.data.batches import batched

        wanted = dict.fromkeys(str(id_) for id_ in ([ids] if isinstance(ids, str) else ids))
        return sum(self._store.remove(some) for some in batched(wanted, 1000))

    def get(self, ids: str | Iterable[str]) -> list[Entry]:
        """The entries of these ids that are stored, in the order asked."""
        wanted = [str(id_) for id_ in ([ids] if isinstance(ids, str) else ids)]
        found = self._store.entries(dict.fromkeys(wanted))
        return [found[id_] for id_ in wanted if id_ in found]

    def sample(self, n: int, modality: Modality, seed: int = 0) -> list[tuple[Entry, Part, np.ndarray]]:
        """Up to n parts of a modality, drawn at random, with their entries and stored vectors (dim,) float32."""
        with self._store.reading():
            index = self._live.fresh().of[modality]
            parts = index.parts()
            chosen = np.random.default_rng(seed).permutation(parts)[:n]
            stored, vectors = self._store.parts(chosen.tolist()), self._store.vectors(chosen.tolist())
        return [(stored[part].entry, stored[part].part, vectors[part][1]) for part in chosen.tolist()]

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """The stored vector (dim,) of the picture of each of these entries that has one, by id."""
        return self._store.image_vectors(dict.fromkeys(ids), self._identity.dim)

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
        """The k best entries for a text, a picture, both, or a vector (dim,); all where there are fewer, best first.

        `modality` says which parts are looked at. In a search over both the cosines with the other modality than the
        query's are mapped to the scale of its own (`ravlm.retrieval.scale`), so that texts don't always win; a bare
        vector is compared as it is. `where`: the filter language.
        """
        query = {"text": text, "image": image, "vector": vector}
        return self.search_many([query], k, modality, where, options)[0]

    def search_many(
        self,
        queries: Sequence[Mapping[str, Any]],
        k: int = 10,
        modality: AnyModality = "any",
        where: Where = None,
        options: SearchOptions = DEFAULT_OPTIONS,
    ) -> list[list[Hit]]:
        """The hits of each query, a mapping with `text`, `image` (or both) or `vector`; as `search`, but together."""
        modalities, tree = check_search(k, modality), read_filter(where)
        read = read_queries(queries, options, modalities, self._identity.dim, lambda: self.encoder)
        with self._store.reading() as db:
            return Searching(self._store, db, self._live, modalities, options).hits(read, k, tree)

    # upkeep

    def optimize(self) -> None:
        """Write the indexes to disk; returns when searches use them.

        Vectors up to 30,000 of a modality are compared one by one. More get an index of cells, with what a query
        spends set to a recall of 0.95 on the base's own vectors; `tune` chooses otherwise.
        """
        self._store.check_writable()
        self._live.save()

    def tune(
        self,
        recall: float = RECALL,
        memory: float | None = None,
        latency: float | None = None,
        progress: Callable[[Trial], None] | None = None,
    ) -> TuneReport:
        """Measure the kinds of vector index on the base's own vectors, and keep the fastest that does what is wished.

        `recall`: share of the ten best that are found; `memory`: bytes for all vectors of the modality with the most;
        `latency`: seconds a search (median). `progress` is called with each kind that was measured. The choice stays
        for later `optimize`.
        """
        self._store.check_writable()
        return self._live.tune(Wishes(recall, memory, latency), progress or (lambda trial: None))

    def compact(self) -> None:
        """Clear from the disk what was removed: rows, keywords, vectors, pictures that the base kept."""
        upkeep.compact(self._store)
        self._live.forget()
        if snapshots.clear(self.derived_folder):
            self._live.save()

    def verify(self, sample: int = 16) -> VerifyReport:
        """Prove the base: file, counts, checksums, index, pictures, and id -> row -> vector by encoding `sample`
        entries again. Writes nothing."""
        return Verification(self._store, self._live, lambda: self.encoder, sample).run()

    def reencode(
        self, encoder: DualEncoder | str | Path, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Let another encoder's vectors take the place of the present ones, all at once; goes on where it stopped.

        `progress` is called with the entries done and their number. Other handles must open the base again.
        """
        from ravlm.encoders.base import DualEncoder

        new = DualEncoder.load(encoder) if isinstance(encoder, str | Path) else encoder
        identity = Identity(self._identity.base, new.name, new.fingerprint, new.dim)
        upkeep.reencode(self._store, new, identity, canaries.encode(new), progress)
        had_snapshot = snapshots.clear(self.derived_folder)
        with self._lock:
            self._identity, self._encoder, self._proved = identity, new, True
            self._live = LiveIndex(self._store, identity, self.derived_folder)
        if had_snapshot:
            self._live.save()

    def export_to(self, path: str | os.PathLike[str]) -> ExportReport:
        """Write all entries, pictures and vectors as plain files into the new folder `path`."""
        return transfer.export(self._store, self._identity, Path(path).absolute())

    def import_from(self, path: str | os.PathLike[str]) -> AddReport:
        """Add what `export_to` wrote; ids that are there are replaced. From a base of another encoder it is encoded.

        Pictures are copied into the base. Raises InvalidInput for any other source, which `add` takes.
        """
        source = transfer.Exported(Path(path).absolute())
        if source.fingerprint == self._identity.fingerprint:
            added, updated = transfer.imported(self._store, self._identity, source)
            self.report = AddReport(added, updated)
            return self.report
        if source.has_given:
            raise Mismatch(
                f'The export "{path}" has ready-made vectors of the encoder "{source.encoder}", and this base is of '
                f'"{self._identity.encoder}"; import it into a base of the former.'
            )
        return self.add(source.entries())

    # the end

    def close(self) -> None:
        """Give the files back. A closed base is a folder that may be moved or copied."""
        self._store.close()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
