"""A base in a folder: a store (the single source of truth) and indexes derived from it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ravlm.errors import Busy, DamagedBase, InvalidInput, NotFound, RavlmError
from ravlm.knowledge.backend import Backend, NewIdentity, SampledParts
from ravlm.knowledge.index import snapshots
from ravlm.knowledge.index.index_cache import IndexCache
from ravlm.knowledge.index.tuning import Requirements
from ravlm.knowledge.local import maintenance
from ravlm.knowledge.local.row_checks import UNEXPECTED_ERRORS
from ravlm.knowledge.local.schema import FORMAT
from ravlm.knowledge.local.search import LocalSearcher
from ravlm.knowledge.local.sqlite_errors import WAIT_SECONDS
from ravlm.knowledge.local.store import SqliteStore
from ravlm.knowledge.local.verify import LocalVerifier
from ravlm.knowledge.reencode import ReencodeProgress
from ravlm.knowledge.reports import Info, Trial, TuneReport, VerifyReport
from ravlm.records import Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

STORE_FILES = "store.*"
"""Files of the store; an interrupted creation leaves only such files."""


class LocalBackend(Backend):
    """A folder with a store, and its indexes in `derived/`."""

    format = FORMAT
    store: SqliteStore

    def __init__(self, store: SqliteStore, created: bool = False, owns_folder: bool = True) -> None:
        """For `open` and `create`. `owns_folder`: `drop` may delete the folder, too."""
        super().__init__(str(store.folder), store, store.state().identity, created)
        self._owns_folder = owns_folder
        self.indexes = IndexCache(store, self.identity, self.derived_folder)

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Return whether the folder holds a complete store."""
        return SqliteStore.exists(_folder(path))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LocalBackend:
        """Open the base in a folder."""
        store = SqliteStore(_folder(path))
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    @classmethod
    def create(cls, path: str | os.PathLike[str], new_identity: NewIdentity) -> LocalBackend:
        """Create an empty base in a new or empty folder."""
        folder = _folder(path)
        is_new = not folder.exists()
        if not is_new and not _is_empty(folder):
            raise InvalidInput(
                f'"{folder}" exists and is not a knowledge base; name a new or an empty folder.'
            )
        try:
            identity, canaries = new_identity()
            store = SqliteStore.create(folder, identity, canaries)
        except BaseException:
            if not SqliteStore.exists(folder):
                _delete(folder, is_new)
            raise
        try:
            return cls(store, created=True, owns_folder=is_new)
        except BaseException:
            store.close()
            raise

    def drop(self) -> None:
        """Close the base and delete its files; the folder too, unless it existed before."""
        self.close()
        _delete(self.store.folder, self._owns_folder)

    def close(self) -> None:
        """Close the file. The folder of a closed base may be moved or copied."""
        self.store.close()

    @property
    def path(self) -> Path:
        """The folder."""
        return self.store.folder

    @property
    def derived_folder(self) -> Path:
        """A folder in it for files that can be computed from the store again."""
        return self.store.folder / "derived"

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Open the latest state. What the indexes took from an interrupted one is dropped.

        Large index files are not checked when they are opened, but if something unexpected happens.
        """
        try:
            with self.store.reading() as db:
                yield db
        except Busy:
            self.indexes.forget()
            raise
        except RavlmError:
            raise
        except UNEXPECTED_ERRORS as error:
            damage = snapshots.find_damage(self.derived_folder)
            if not damage:
                raise
            self.indexes.forget()
            raise DamagedBase(damage[0]) from error

    def check_current(self) -> None:
        """Raise Mismatch if the base was re-encoded since it was opened."""
        with self.store.reading():
            self.indexes.check_same(self.store.state())

    @contextmanager
    def searcher(self) -> Iterator[LocalSearcher]:
        """Open the latest state, with the indexes updated to it."""
        with self._reading() as db:
            yield LocalSearcher(self.store, self.indexes, db)

    def info(self) -> Info:
        """Return size, encoder and state."""
        with self._reading():
            vectors = self.indexes.vectors()
            return Info(
                path=self.name,
                entries=self.store.count(),
                parts={modality: len(index) for modality, index in vectors.by_modality.items()},
                encoder=self.identity.encoder,
                fingerprint=self.identity.fingerprint,
                dim=self.identity.dim,
                format=FORMAT,
                change=vectors.change,
                indexed_change=snapshots.covered_change(self.derived_folder),
                folder=self.path,
            )

    def sample_parts(self, n: int, modality: Modality, seed: int) -> SampledParts:
        """Return up to n random parts of a modality."""
        with self._reading():
            parts = self.indexes.vectors().by_modality[modality].parts()
            sample = np.random.default_rng(seed).permutation(parts)[:n].tolist()
            stored = self.store.parts(sample)
            vectors = self.store.vectors(sample)
            return [(*stored[part], vectors[part][1]) for part in sample]

    def optimize(self) -> None:
        """Write the indexes to disk."""
        self.store.check_writable()
        self.indexes.save()

    def tune(self, requirements: Requirements, progress: Callable[[Trial], None]) -> TuneReport:
        """Measure the kinds of index, and write a snapshot with the best."""
        self.store.check_writable()
        return self.indexes.tune(requirements, progress)

    def compact(self) -> None:
        """Rewrite the file and the indexes without removed entries."""
        is_cleared = maintenance.compact(self.store, self.derived_folder)
        self.indexes.forget()
        if snapshots.clear(self.derived_folder):
            self.indexes.save()
        if not is_cleared:
            raise Busy(
                f'What was removed from the knowledge base "{self.path}" is still on disk: another '
                f"process has been reading it for {WAIT_SECONDS:.0f} s. "
                f"When it is done, run again: ravlm compact {self.path}"
            )

    def verify(self, encoder: Callable[[], Encoder], sample_size: int) -> VerifyReport:
        """Check file, counts, checksums, indexes and images, and encode a sample again."""
        with self._reading():
            return LocalVerifier(self.store, self.indexes, encoder, sample_size).run()

    def reencode(
        self,
        encoder: Encoder,
        canaries: Mapping[Modality, np.ndarray],
        progress: ReencodeProgress | None,
    ) -> None:
        """Replace all vectors in one transaction, and write a new snapshot if there was one."""
        identity = self.identity.with_encoder(encoder)
        maintenance.reencode(self.store, self.derived_folder, encoder, identity, canaries, progress)
        had_snapshot = snapshots.clear(self.derived_folder)
        self.identity = identity
        self.indexes = IndexCache(self.store, identity, self.derived_folder)
        if had_snapshot:
            self.indexes.save()


def _folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder as an absolute path. Raises NotFound for an empty path."""
    if not str(path):
        raise NotFound("The path of the knowledge base is empty; name a folder.")
    return Path(path).absolute()


def _is_empty(folder: Path) -> bool:
    """Return whether a base can be created in an existing folder."""
    return folder.is_dir() and all(path.match(STORE_FILES) for path in folder.iterdir())


def _delete(folder: Path, with_folder: bool) -> None:
    """Delete the files of a base."""
    if with_folder:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        for file in folder.glob(STORE_FILES):
            file.unlink()
