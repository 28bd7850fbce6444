"""The interface of a knowledge-base backend, with defaults for most of it.

A backend implements six methods here and five of `EntryStore`; then everything works, with exact
search in memory. An efficient backend also implements `Searcher` and overrides defaults. A folder
(`local`) and a Milvus server (`milvus`) do.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ravlm.errors import InvalidInput, Mismatch
from ravlm.knowledge.entry_store import EntryStore, decode_vector, to_entry
from ravlm.knowledge.exact_search import ExactSearcher
from ravlm.knowledge.records import Identity, StoreState, hit_part
from ravlm.knowledge.reencode import ReencodeProgress
from ravlm.knowledge.reports import Info, Trial, TuneReport, VerifyReport
from ravlm.knowledge.searcher import Searcher
from ravlm.knowledge.verify import RowVerifier
from ravlm.records import MODALITIES, Entry, Modality, Part
from ravlm.runtime import cache_folder

if TYPE_CHECKING:
    import os

    from ravlm.encoders.base import Encoder
    from ravlm.knowledge.index.tuning import Requirements

NewIdentity: TypeAlias = "Callable[[], tuple[Identity, Mapping[Modality, np.ndarray]]]"
"""Returns identity and canary vectors of a new base; called once its location proved usable."""
SampledParts: TypeAlias = "list[tuple[Entry, Part, np.ndarray]]"


class Backend(ABC):
    """An open base."""

    format: int = 1
    """Version of the storage format."""

    def __init__(
        self, name: str, store: EntryStore, identity: Identity, created: bool = False
    ) -> None:
        """`created`: whether this handle made the base, so that `discard` may delete it."""
        self.name = name
        """The base in messages and on the command line."""
        self.store = store
        self.identity = identity
        """Identity of the base when it was opened."""
        self.created = created
        self._exact: tuple[int, ExactSearcher] | None = None

    # what a backend must implement

    @staticmethod
    @abstractmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Return whether there is a complete base. Raises InvalidInput for an invalid path."""

    @classmethod
    @abstractmethod
    def open(cls, path: str | os.PathLike[str]) -> Backend:
        """Open a base. Raises NotFound if there is none."""

    @classmethod
    @abstractmethod
    def create(cls, path: str | os.PathLike[str], new_identity: NewIdentity) -> Backend:
        """Create an empty base and open it; leave nothing behind on failure.

        Raises InvalidInput if something else is stored at `path`.
        """

    @abstractmethod
    def drop(self) -> None:
        """Delete the base."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources; may be called twice."""

    @abstractmethod
    def reencode(
        self,
        encoder: Encoder,
        canaries: Mapping[Modality, np.ndarray],
        progress: ReencodeProgress | None,
    ) -> None:
        """Replace all vectors by those of another encoder, atomically.

        Backends in memory use `reencode.reencode_rows`; others resume an interrupted run.
        """

    # what follows from the store

    @property
    def path(self) -> Path | str:
        """Folder or address of the base."""
        return self.name

    @property
    def derived_folder(self) -> Path:
        """A folder on this machine for files that may be lost."""
        key = hashlib.sha256(self.identity.base.encode()).hexdigest()[:16]
        return cache_folder() / "bases" / key

    def change(self) -> int:
        """Return the number of the last committed change; every change gets a new number."""
        return self.store.state().change

    def check_current(self) -> None:
        """Raise Mismatch if the base was re-encoded since it was opened."""
        self._check_identity(self.store.state())

    def _check_identity(self, state: StoreState) -> None:
        if state.identity != self.identity:
            raise reencoded_error(self.name)

    @contextmanager
    def searcher(self) -> Iterator[Searcher]:
        """Open the latest state for a search. Raises Mismatch after a re-encoding."""
        state = self.store.state()
        self._check_identity(state)
        cached = self._exact
        if cached is None or cached[0] != state.change:
            cached = (state.change, ExactSearcher(self.store.rows(), self.store.canaries()))
            self._exact = cached
        yield cached[1]

    def info(self) -> Info:
        """Return size, encoder and state."""
        state = self.store.state()
        modalities = [part.modality for row in self.store.rows() for part in row.parts]
        return Info(
            path=self.name,
            entries=self.store.count(),
            parts={modality: modalities.count(modality) for modality in MODALITIES},
            encoder=state.identity.encoder,
            fingerprint=state.identity.fingerprint,
            dim=state.identity.dim,
            format=self.format,
            change=state.change,
            indexed_change=state.change,
        )

    def sample_parts(self, n: int, modality: Modality, seed: int) -> SampledParts:
        """Return up to n random parts of a modality: entry, part and vector (dim,)."""
        rows = [
            (row, part)
            for row in self.store.rows()
            for part in row.parts
            if part.modality == modality
        ]
        order = np.random.default_rng(seed).permutation(len(rows))[:n].tolist()
        sample = []
        for number in order:
            row, part = rows[number]
            entry = to_entry(row)
            matched = hit_part(entry, modality, part.position, part.passage)
            sample.append((entry, matched, decode_vector(part.vector)))
        return sample

    def optimize(self) -> None:
        """Bring the indexes up to date, and return when searches use them."""
        return  # exact search has no index

    def compact(self) -> None:
        """Reclaim the space of removed entries."""
        return  # removed rows leave nothing behind

    def tune(self, requirements: Requirements, progress: Callable[[Trial], None]) -> TuneReport:
        """Measure index kinds on the base's own vectors and keep the best.

        Raises InvalidInput if the backend has no choice of indexes.
        """
        raise InvalidInput(
            f'"{self.name}" has no choice of indexes; `tune` measures those of a base in a folder.'
        )

    def verify(self, encoder: Callable[[], Encoder], sample_size: int) -> VerifyReport:
        """Check the base, and encode `sample_size` entries again."""
        return RowVerifier(self.store, encoder, sample_size).run()

    def discard(self) -> bool:
        """Close the base and delete it if this handle created it and it is still empty.

        Returns whether it was deleted.
        """
        is_unused = self.created and self.store.count() == 0
        if is_unused:
            self.drop()
        self.close()
        return is_unused


def reencoded_error(name: str) -> Mismatch:
    """Return the error for a handle that is older than a re-encoding."""
    return Mismatch(f'The knowledge base "{name}" was re-encoded while it was open. Open it again.')
