"""A base in a folder: the store (the truth), the indexes derived from it, and a state of both to be
searched.

Knows how store and indexes go together; queries and hits are `searching`'s.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.parallel import batched
from ravlm.errors import InvalidInput, NotFound
from ravlm.knowledge.backend import Backend, Candidates, Drawn, Limit, View
from ravlm.knowledge.candidates import best_part_per_entry
from ravlm.knowledge.index import snapshots
from ravlm.knowledge.index.analyzer import query_words
from ravlm.knowledge.index.index_cache import IndexCache
from ravlm.knowledge.index.stored_fields import NO_POSITION, IMAGE_POSITION
from ravlm.knowledge.index.tuning import Requirements
from ravlm.knowledge.local import maintenance
from ravlm.knowledge.local.schema import FORMAT
from ravlm.knowledge.records import Identity
from ravlm.knowledge.local.store import Store
from ravlm.knowledge.local.verify import Verification
from ravlm.knowledge.reports import Info, Trial, TuneReport, VerifyReport
from ravlm.records import Entry, Modality, Part
from ravlm.search.filters import Filter

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


class LocalView(View):
    """The store's state within `reading()`, whose connection is `db`, with the indexes that cover
    it."""

    def __init__(self, store: Store, live: IndexCache, db: sqlite3.Connection) -> None:
        self.store, self.live, self.db, self.index = store, live, db, live.vectors()

    @property
    def modalities(self) -> Sequence[Modality]:
        """Those that have parts."""
        return [modality for modality, found in self.index.by_modality.items() if len(found)]

    def one_each(self, modality: Modality) -> bool:
        """Whether no entry has two parts of that modality."""
        return self.index.by_modality[modality].one_part_per_entry

    def limit(self, where: Filter | None, without: Sequence[str] = ()) -> Limit:
        """Whether each entry, by its number, may be found: bool (last + 1,)."""
        passes = None if where is None else self.live.facets().entry_mask(where)
        return self.narrowed(passes, np.array(list(self.store.numbers(without).values()), np.int64))

    def narrowed(self, limit: Limit, entries: np.ndarray) -> Limit:
        """The same without these entries."""
        if not len(entries):
            return limit
        passes = np.ones(self.store.last_entry() + 1, bool) if limit is None else limit.copy()
        passes[entries] = False
        return passes

    def nearest(
        self, modality: Modality, vectors: np.ndarray, n: int, limit: Limit
    ) -> list[Candidates]:
        """The n best parts for each vector: cosines, best first."""
        found = self.index.by_modality[modality].search(vectors, n, limit)
        return [Candidates(ranking, len(ranking.parts) < n) for ranking in found]

    def worded(self, text: str, n: int, limit: Limit) -> Candidates:
        """The n best text parts that have a word of `text`: BM25, best first."""
        found = self.live.keywords().search(query_words(text), n, limit)
        return Candidates(best_part_per_entry(found), len(found.parts) < n)

    def sample(self, modality: Modality) -> np.ndarray:
        """Canaries, and vectors evenly spaced over the parts."""
        return self.index.by_modality[modality].sample()

    def vectors(self, parts: np.ndarray) -> tuple[list[Modality], np.ndarray]:
        """Modality of each part, and the stored vectors (n, dim) float32."""
        stored = [self.store.vectors(parts.tolist())[part] for part in parts.tolist()]
        rows = [vector for _, vector in stored]
        return [modality for modality, _ in stored], np.array(rows, np.float32).reshape(
            len(rows), self.index.dim
        )

    def values(self, entries: np.ndarray, key: str) -> list[tuple[int, str | int | float] | None]:
        """What each entry has under a metadata key, as (kind, value); of several the first in
        order."""
        found: dict[int, tuple[int, str | int | float]] = {}
        for some in batched(entries.tolist(), 500):
            marks = ", ".join("?" * len(some))
            sql = (
                f"SELECT entry, kind, value FROM facet WHERE key = ? AND entry IN ({marks}) "  # noqa: S608
                "ORDER BY kind, value"
            )
            for entry, kind, value in self.db.execute(sql, (key, *some)):
                found.setdefault(entry, (kind, value))
        return [found.get(entry) for entry in entries.tolist()]

    def read(self, parts: np.ndarray, entries: np.ndarray) -> tuple[list[Entry], list[Part]]:
        """What hits show of each of these parts: by the cards of the snapshot, and what is newer by
        the store."""
        cards = self.live.stored_fields()
        positions = cards.position(parts)
        if (positions == NO_POSITION).any():
            return self._read_from_store(parts)
        try:
            columns = cards.read(entries)
        except ValueError:  # of a large file the checksum is not taken when it is opened
            return self._read_from_store(parts)
        ids, images, texts, metadata = columns
        if any(images):
            images = [image if image is None else self.store.image_path(image) for image in images]
        shown = list(map(Entry, ids, images, map(tuple, texts), metadata))
        picture = Part("image")
        return shown, [
            picture if at == IMAGE_POSITION else Part("text", at, some[at] if at < len(some) else "")
            for at, some in zip(positions.tolist(), texts, strict=True)
        ]

    def _read_from_store(self, parts: np.ndarray) -> tuple[list[Entry], list[Part]]:
        found = self.store.parts(dict.fromkeys(parts.tolist()))
        pairs = [found[part] for part in parts.tolist()]
        return [entry for entry, _ in pairs], [part for _, part in pairs]


class LocalBackend(Backend):
    """A folder with a store, and its indexes in `derived/`."""

    def __init__(self, store: Store, made: bool | None = None) -> None:
        """`made`: of a base that is new, whether its folder was made for it. Used by `open` and
        `create`."""
        self.store = self.rows = store
        self.name, self.identity = str(store.folder), store.state().identity
        self._made = made
        self.live = IndexCache(store, self.identity, self.derived)

    @staticmethod
    def is_there(path: str | os.PathLike[str]) -> bool:
        """Whether the folder holds a store that was made whole."""
        return Store.is_there(_folder(path))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LocalBackend:
        """The base in a folder."""
        return cls._of(Store(_folder(path)))

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        identity: Callable[[], tuple[Identity, dict[Modality, np.ndarray]]],
    ) -> LocalBackend:
        """An empty base in a folder that is new or empty."""
        folder = _folder(path)
        made = not folder.exists()
        if not made and (
            not folder.is_dir() or any(p.name[:6] != "store." for p in folder.iterdir())
        ):
            raise InvalidInput(
                f'"{folder}" is there and is no knowledge base; name a new or an empty folder.'
            )
        try:
            return cls._of(Store.create(folder, *identity()), made)
        except BaseException:
            if not Store.is_there(folder):
                _clear(folder, made)
            raise

    @classmethod
    def _of(cls, store: Store, made: bool | None = None) -> LocalBackend:
        try:
            return cls(store, made)
        except BaseException:
            store.close()
            raise

    @property
    def place(self) -> Path:
        """The folder."""
        return self.store.folder

    @property
    def derived(self) -> Path:
        """A folder in it for files that can be made from the store again."""
        return self.store.folder / "derived"

    def change(self) -> int:
        """The number of the last committed change, another process's included."""
        return self.store.state().change

    def check_same(self) -> None:
        """Raise Mismatch where the base was re-encoded since it was opened."""
        with self.store.reading():
            self.live.check_same(self.store.state())

    @contextmanager
    def viewing(self) -> Iterator[LocalView]:
        """The newest state, the indexes brought up to it."""
        with self.store.reading() as db:
            yield LocalView(self.store, self.live, db)

    def info(self) -> Info:
        """Sizes and state."""
        with self.store.reading():
            index = self.live.vectors()
            return Info(
                path=self.name,
                entries=self.store.count(),
                parts={modality: len(found) for modality, found in index.by_modality.items()},
                encoder=self.identity.encoder,
                fingerprint=self.identity.fingerprint,
                dim=self.identity.dim,
                format=FORMAT,
                change=index.change,
                indexed_change=snapshots.covered_change(self.derived),
                bytes=sum(file.stat().st_size for file in self.place.rglob("*") if file.is_file()),
            )

    def draw(self, n: int, modality: Modality, seed: int) -> Drawn:
        """Up to n parts of a modality, drawn at random."""
        with self.store.reading():
            parts = self.live.vectors().by_modality[modality].parts()
            chosen = np.random.default_rng(seed).permutation(parts)[:n].tolist()
            stored, vectors = self.store.parts(chosen), self.store.vectors(chosen)
        return [(*stored[part], vectors[part][1]) for part in chosen]

    def optimize(self) -> None:
        """Write the indexes to disk; vectors up to 30,000 of a modality are compared one by one,
        more get cells."""
        self.store.check_writable()
        self.live.save()

    def tune(self, wishes: Requirements, told: Callable[[Trial], None]) -> TuneReport:
        """Measure the kinds of index, and write a snapshot with the best."""
        self.store.check_writable()
        return self.live.tune(wishes, told)

    def compact(self) -> None:
        """Rewrite the file and the indexes without what was removed."""
        maintenance.compact(self.store)
        self.live.forget()
        if snapshots.clear(self.derived):
            self.live.save()

    def verify(self, encoder: Callable[[], Encoder], sample: int) -> VerifyReport:
        """File, counts, checksums, index, pictures, meaning. Writes nothing."""
        return Verification(self.store, self.live, encoder, sample).run()

    def reencode(
        self,
        encoder: Encoder,
        canaries: dict[Modality, np.ndarray],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """New vectors, swapped in by one transaction; a snapshot is written anew where there was
        one."""
        identity = self.identity.with_encoder(encoder)
        maintenance.reencode(self.store, encoder, identity, canaries, progress)
        had_snapshot = snapshots.clear(self.derived)
        self.identity, self.live = identity, IndexCache(self.store, identity, self.derived)
        if had_snapshot:
            self.live.save()

    def close(self) -> None:
        """Close the file. A closed base may be moved or copied."""
        self.store.close()

    def take_back(self) -> bool:
        """Close the base, and remove a folder that was made here unless something was stored in
        it."""
        made = self._made if self.store.count() == 0 else None
        self.close()
        if made is not None:
            _clear(self.store.folder, made)
        return made is not None


def _folder(path: str | os.PathLike[str]) -> Path:
    """The folder as an absolute path. Raises NotFound for an empty path."""
    if not str(path):
        raise NotFound("The path of the knowledge base is empty; name a folder.")
    return Path(path).absolute()


def _clear(folder: Path, made: bool) -> None:
    """Remove what was made of a base."""
    if made:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        for file in folder.glob("store.*"):
            file.unlink()
